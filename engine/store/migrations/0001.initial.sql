-- Episodes, their log, and the records that follow from it.

create table engine_meta (
    name  text primary key,
    value text not null
);
-- The lifetime of the order of all logs: changes only when that order cannot be continued.
insert into engine_meta (name, value) values ('epoch', gen_random_uuid()::text);
-- The latest place, as xid-seq, of what retention has cut from the log: nobody can be replayed from before it.
insert into engine_meta (name, value) values ('log_cut', '0-0');

create table episodes (
    id             uuid primary key,
    title          text not null check (length(title) between 1 and 200),
    episode_number integer check (episode_number >= 0),
    description    text,
    status         text not null check (status in ('draft', 'in_review', 'approved', 'published', 'archived')),
    categories     text[] not null default '{}',
    version        integer not null,
    -- The latest offset of the episode's log; counting it up takes the row lock that keeps the log gapless.
    log_offset     bigint not null,
    created_by     text not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    deleted_at     timestamptz
);
create index episodes_created_at on episodes (created_at, id) where deleted_at is null;
create index episodes_updated_at on episodes (updated_at, id) where deleted_at is null;
create index episodes_title on episodes (title, id) where deleted_at is null;
create index episodes_number on episodes (coalesce(episode_number, 2147483647), id) where deleted_at is null;
create index episodes_categories on episodes using gin (categories) where deleted_at is null;

create table compositions (
    id         uuid primary key,
    episode_id uuid not null references episodes (id),
    name       text not null check (length(name) between 1 and 200),
    layers     jsonb not null,
    status     text not null check (status in ('draft', 'final', 'archived')),
    version    integer not null,
    created_by text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index compositions_episode on compositions (episode_id, created_at, id);

create table events (
    seq          bigint generated always as identity primary key,
    xid          xid8 not null default pg_current_xact_id(),
    id           uuid not null,
    topic        text not null,
    topic_offset bigint not null,
    epoch        uuid not null,
    type         text not null,
    data         jsonb not null,
    "user"       text not null,
    request      jsonb not null,
    created_at   timestamptz not null,
    unique (topic, topic_offset)
);
create index events_commit_order on events (xid, seq);

create table idempotency_keys (
    "user"      text not null,
    key         text not null,
    fingerprint text not null,
    response    jsonb not null,
    created_at  timestamptz not null default now(),
    primary key ("user", key)
);

create table activity_logs (
    seq           bigint generated always as identity primary key,
    id            uuid not null unique,
    user_id       text not null,
    action        text not null
                  check (action in ('CREATE', 'UPDATE', 'DELETE', 'COMPLETE', 'RETRY', 'FAILED')),
    resource_type text not null,
    resource_id   uuid not null,
    episode_id    uuid,
    metadata      jsonb not null,
    ip_address    text,
    user_agent    text,
    created_at    timestamptz not null
);
create index activity_logs_episode on activity_logs (episode_id, seq);

create table notifications (
    seq           bigint generated always as identity primary key,
    id            uuid not null unique,
    user_id       text not null,
    type          text not null,
    title         text not null,
    message       text not null,
    resource_type text not null,
    resource_id   uuid not null,
    read_at       timestamptz,
    created_at    timestamptz not null
);
create index notifications_user on notifications (user_id, seq);
create index notifications_unread on notifications (user_id, seq) where read_at is null;

create table audit_logs (
    seq           bigint generated always as identity primary key,
    id            uuid not null unique,
    user_id       text not null,
    action        text not null,
    resource_type text not null,
    resource_id   uuid not null,
    old_values    jsonb,
    new_values    jsonb,
    event_id      uuid not null,
    mutation_id   text not null,
    ip_address    text,
    user_agent    text,
    created_at    timestamptz not null
);
create index audit_logs_resource on audit_logs (resource_id, seq);

-- The latest offset of the log of what one person is told.
create table user_logs (
    user_id    text primary key,
    log_offset bigint not null
);

-- The nodes on this database: what one that is not seen any more left behind is removed.
create table nodes (
    name    text primary key,
    seen_at timestamptz not null
);

create table user_presence (
    node          text not null,
    user_id       text not null,
    user_name     text not null,
    resource_type text not null,
    resource_id   uuid not null,
    state         text not null,
    viewed_at     timestamptz not null,
    last_active   timestamptz not null,
    is_active     boolean not null,
    primary key (resource_type, resource_id, user_id, node)
);

create table plugin_cursors (
    plugin         text primary key,
    xid            xid8 not null,
    seq            bigint not null,
    quarantined_at timestamptz,
    reason         text,
    updated_at     timestamptz not null default now()
);

create table effect_failures (
    id         bigint generated always as identity primary key,
    plugin     text not null,
    event_id   uuid not null,
    event_type text not null,
    attempt    integer not null,
    error      text not null,
    traceback  text not null,
    created_at timestamptz not null default now()
);
create index effect_failures_plugin on effect_failures (plugin, id);
