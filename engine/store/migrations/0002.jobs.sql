-- Jobs, the log of those that belong to no episode, and where in the log they are written.

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
