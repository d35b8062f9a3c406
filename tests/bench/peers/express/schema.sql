-- What the Express peer stores: the same facts as Greenroom's, in tables as one writes them first.
create table episodes (
    id uuid primary key default gen_random_uuid(),
    title text not null check (length(title) between 1 and 200),
    episode_number integer check (episode_number >= 0),
    description text,
    status text not null default 'draft',
    categories text[] not null default '{}',
    version integer not null default 1,
    created_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index episodes_created_at on episodes (created_at desc, id);
create index episodes_status on episodes (status, created_at desc, id);

create table activity_logs (
    id bigint generated always as identity primary key,
    user_id text not null,
    action text not null,
    resource_type text not null,
    resource_id uuid not null,
    metadata jsonb not null,
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now()
);
create index activity_logs_resource on activity_logs (resource_type, resource_id, created_at desc);

create table notifications (
    id bigint generated always as identity primary key,
    user_id text not null,
    type text not null,
    title text not null,
    message text not null,
    resource_type text not null,
    resource_id uuid not null,
    read_at timestamptz,
    created_at timestamptz not null default now()
);
create index notifications_user on notifications (user_id, created_at desc);

create table audit_logs (
    id bigint generated always as identity primary key,
    user_id text not null,
    action text not null,
    resource_type text not null,
    resource_id uuid not null,
    new_values jsonb not null,
    created_at timestamptz not null default now()
);
create index audit_logs_resource on audit_logs (resource_type, resource_id, created_at desc);
