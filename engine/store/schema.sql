-- The present schema in one piece, for reading. Databases are made by the migrations; a test holds both together.

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

-- What a composition looked like when it was last drawn. A picture is compressed already.
create table composition_images (
    composition_id uuid primary key references compositions (id) on delete cascade,
    -- The composition's, at the time.
    version        integer not null,
    png            bytea not null,
    -- The beginning of the picture's SHA-256 in hexadecimal.
    digest         text not null,
    drawn_at       timestamptz not null
);
alter table composition_images alter column png set storage external;

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
create index events_mutation on events using hash ((request ->> 'mutation_id'));

create table idempotency_keys (
    "user"      text not null,
    key         text not null,
    fingerprint text not null,
    response    jsonb not null,
    created_at  timestamptz not null default now(),
    primary key ("user", key)
);
create index idempotency_keys_created_at on idempotency_keys (created_at);

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
    updated_at     timestamptz not null default now(),
    -- When a node last ran it: what it has not handled is kept for some time after that.
    seen_at        timestamptz not null default now()
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

-- The latest offset of the log of a topic that is no episode and no person.
create table topic_logs (
    topic      text primary key,
    log_offset bigint not null
);
insert into topic_logs (topic, log_offset) values ('jobs', 0);

-- Every job, and the whole truth about it. Times are this database's.
create table processing_queue (
    id           uuid primary key,
    -- The order of submission.
    seq          bigint generated always as identity,
    type         text not null,
    state        text not null check (state in ('queued', 'running', 'retry', 'completed', 'failed', 'cancelled')),
    priority     smallint not null check (priority between 0 and 9),
    payload      jsonb not null,
    result       jsonb,
    error        text,
    attempt      integer not null default 0,
    max_attempts integer not null check (max_attempts > 0),
    timeout      double precision not null check (timeout > 0),
    next_run_at  timestamptz not null,
    -- It was not due when this was last looked at; what is due is found without passing over what is not.
    delayed      boolean not null,
    lease_owner  text,
    lease_until  timestamptz,
    -- Grows with whoever runs it: a late writer has a smaller one, and changes nothing.
    fence        bigint not null default 0,
    -- Of the messages by which an external worker reports: the last that counted.
    external_seq bigint not null default 0,
    unique_key   text,
    cancel_requested_at timestamptz,
    cancel_requested_by text,
    progress     double precision,
    message      text,
    source       text not null,
    submitted_by text not null,
    -- Where the submission came from, as in events.
    request      jsonb not null,
    episode_id   uuid references episodes (id),
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz
);
create unique index processing_queue_seq on processing_queue (seq);
create index processing_queue_claim on processing_queue (type, priority desc, next_run_at, seq)
    where state in ('queued', 'retry') and not delayed;
create index processing_queue_delayed on processing_queue (next_run_at) where delayed;
create index processing_queue_lease on processing_queue (lease_until) where state = 'running';
create index processing_queue_wishes on processing_queue (lease_owner)
    where state = 'running' and cancel_requested_at is not null;
create unique index processing_queue_unique on processing_queue (type, unique_key)
    where unique_key is not null and state in ('queued', 'running', 'retry');
create index processing_queue_failed on processing_queue (seq) where state = 'failed';
create index processing_queue_episode on processing_queue (episode_id, seq) where episode_id is not null;
create index processing_queue_finished on processing_queue (finished_at) where finished_at is not null;
create index processing_queue_ended_alone on processing_queue (seq)
    where finished_at is not null and episode_id is null;

-- Job sources and job types from which nothing is claimed until somebody resumes them.
create table job_pauses (
    kind      text not null check (kind in ('source', 'type')),
    name      text not null,
    paused_by text not null,
    paused_at timestamptz not null default now(),
    primary key (kind, name)
);

create index events_job on events ((data #>> '{job,id}'), seq) where type like 'job\_%';

-- A place in the log for an event whose topic is locked, by a transaction that may have begun to write long
-- before it got that lock: behind every event that had the lock earlier, before every one that gets it later.
-- Never smaller than the transaction's own id, so that nobody reads past it before it is committed. As it is
-- volatile and no SQL function, it sees what was committed while its statement waited.
create function log_place() returns xid8 language plpgsql volatile as
'begin return greatest(pg_current_xact_id(), (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)::text::xid8); end';

-- What the events of a job tell of it.
create function job_facts(id uuid, type text, state text, attempt integer, max_attempts integer,
                          progress double precision, episode_id uuid, submitted_by text)
returns jsonb language sql stable as
'select jsonb_build_object(''id'', id, ''type'', type, ''state'', state, ''attempt'', attempt,
    ''max_attempts'', max_attempts, ''progress'', progress, ''episode_id'', episode_id,
    ''submitted_by'', submitted_by)';

-- Where Socket.IO clients are present, by the secret that they return with after an interruption.
create table socket_rooms (
    id         text primary key,
    user_id    text not null,
    -- What each episode was joined with, by its id; null: the client has left for good.
    rooms      jsonb,
    touched_at timestamptz not null
);
create index socket_rooms_touched on socket_rooms (touched_at);
