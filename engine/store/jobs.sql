-- Every transition is one statement: the rows, their events, and the check that nobody was faster.
--
-- Statements lock in one order, so that two of them never wait for each other: jobs by id, then the episodes
-- in whose logs they write by id, then the log of the topic `jobs`. Who has locked a job has a transaction id
-- already, and with it a place in the log, when it comes to wait for the log's lock: hence log_place().
--
-- Rows are looked up by `= any (array (…))`, also where a join says the same: a plan that was made while the
-- tables were small would join by reading all of them, however they have grown since.

-- name: heads
-- A part of the statements below: counts up the logs in which `jobs` are written, and says how far each was.
), counts as (
    select episode_id, count(*) as many from jobs group by episode_id
), heads as (
    update episodes set log_offset = log_offset + many
    from counts
    where episodes.id = counts.episode_id and episodes.id = any (array (select episode_id from counts))
    returning episodes.id, log_offset - many as before
), common_head as (
    update topic_logs set log_offset = log_offset + many
    from counts where topic = 'jobs' and counts.episode_id is null
    returning log_offset - many as before
), head as (
    select id, before from heads union all select null, before from common_head

-- name: queued
-- A part of the next two: inserts the jobs. One that is there already, by its id or by its unique key, is left as
-- it is, and nothing is answered.
with given as materialized (
    select * from jsonb_to_recordset(%(jobs)s) as given(
        id uuid, type text, payload jsonb, max_attempts integer, timeout double precision, priority smallint,
        delay double precision, unique_key text, episode_id uuid, source text, submitted_by text, request jsonb)
), locked as materialized (
    select id from episodes
    where id = any (array (select episode_id from given)) and deleted_at is null
    order by id for no key update
), jobs as (
    insert into processing_queue (id, type, state, payload, max_attempts, timeout, priority, next_run_at, delayed,
                                  unique_key, episode_id, source, submitted_by, request, created_at, updated_at)
    select id, type, 'queued', payload, max_attempts, timeout, priority,
           statement_timestamp() + make_interval(secs => delay), delay > 0,
           unique_key, episode_id, source, submitted_by, request, statement_timestamp(), statement_timestamp()
    from given where episode_id is null or episode_id in (select id from locked)
    on conflict do nothing
    returning id, seq, type, state, attempt, max_attempts, progress, episode_id, submitted_by, request

-- name: told_queued
-- The other part of them: their events.
), placed as (
    select jobs.*, row_number() over (partition by episode_id order by jobs.seq) as nth from jobs
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), gen_random_uuid(), case when head.id is null then 'jobs' else 'episode:' || head.id end,
       before + nth, %(epoch)s, 'job_queued',
       jsonb_build_object('job', job_facts(placed.id, type, state, attempt, max_attempts, progress, episode_id,
                                           submitted_by)),
       submitted_by, request, date_trunc('milliseconds', statement_timestamp())
from placed join head on head.id is not distinct from placed.episode_id
order by head.id, nth
returning xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at

-- name: submit
-- here: queued
-- here: heads
-- here: told_queued

-- name: submit_once
-- With an idempotency key. It is for itself, because a statement pays for every table in it, used or not.
-- here: queued
), idempotency as (
    insert into idempotency_keys ("user", key, fingerprint, response)
    select submitted_by, %(key)s, %(fingerprint)s, jsonb_build_object('id', id) from jobs
-- here: heads
-- here: told_queued

-- name: answer_with
-- A key that queued nothing stands for the job that was in the way.
insert into idempotency_keys ("user", key, fingerprint, response)
values (%(user)s, %(key)s, %(fingerprint)s, jsonb_build_object('id', %(id)s::text, 'was_there', true))
on conflict do nothing

-- name: due
-- What was delayed and has become due can be claimed.
update processing_queue set delayed = false
where id in (
    select id from processing_queue
    where delayed and next_run_at <= statement_timestamp()
    order by next_run_at limit 1000
    for no key update skip locked)

-- name: next_due
-- Seconds until the next delayed job is due.
select extract(epoch from min(next_run_at) - clock_timestamp())::float8 from processing_queue where delayed

-- name: claim
-- The most urgent of each type that has room, and of these the most urgent.
with open as materialized (
    select * from jsonb_to_recordset(%(rooms)s) as room(type text, room integer)
    where not exists (
        select from job_pauses
        where (kind, name) = ('type', room.type) or (kind, name) = ('source', %(source)s))
), found as materialized (
    select found.* from open cross join lateral (
        select id, episode_id, priority, next_run_at, seq from processing_queue
        where processing_queue.type = open.type and state in ('queued', 'retry') and not delayed
        order by priority desc, next_run_at, seq
        limit least(open.room, %(limit)s)
        for no key update skip locked) as found
), chosen as materialized (
    select * from found order by priority desc, next_run_at, seq limit %(limit)s
), locked as materialized (
    select id from episodes
    where id = any (array (select episode_id from chosen)) order by id for no key update
), jobs as (
    update processing_queue
    set state = 'running', attempt = attempt + 1, fence = fence + 1, lease_owner = %(owner)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
        cancel_requested_at = null, cancel_requested_by = null, progress = null, message = null,
        started_at = statement_timestamp(), finished_at = null, updated_at = statement_timestamp()
    where id = any (array (select id from chosen)) and (select count(*) from locked) >= 0
    returning id, seq, type, priority, payload, error, attempt, max_attempts, timeout, next_run_at, lease_until,
              fence, external_seq, unique_key, source, submitted_by, request, episode_id, created_at, started_at
-- here: heads
), ordered as (
    select jobs.*, head.id as head, before + row_number() over (
        partition by episode_id order by priority desc, next_run_at, seq) as topic_offset
    from jobs join head on head.id is not distinct from jobs.episode_id
    order by head, topic_offset
), placed as materialized (
    select log_place() as xid, nextval('events_seq_seq') as event_seq, gen_random_uuid() as event_id,
           date_trunc('milliseconds', started_at) as event_at, *
    from ordered
), written as (
    insert into events (xid, seq, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
    overriding system value
    select xid, event_seq, event_id, case when head is null then 'jobs' else 'episode:' || head end,
           topic_offset, %(epoch)s, 'job_processor_started',
           jsonb_build_object('job', job_facts(id, type, 'running', attempt, max_attempts, null, episode_id,
                                               submitted_by)),
           submitted_by, request, event_at
    from placed
)
select xid::text::bigint, event_seq, event_id::text, topic_offset, event_at,
       id::text, seq, type, priority, payload, error, attempt, max_attempts, timeout, next_run_at, lease_until,
       fence, external_seq, unique_key, source, submitted_by, request, episode_id::text, created_at, started_at
from placed
order by priority desc, next_run_at, seq

-- name: apply
-- Transitions that were decided elsewhere; of those whose job is not as expected any more, nothing happens.
-- `hurried` leaves out jobs whose episode somebody has locked: it is for progress, which is told again, and
-- which must not make a handler wait that holds that episode's lock itself.
with given as materialized (
    select * from jsonb_to_recordset(%(changes)s) as given(
        job uuid, expects text[], fence bigint, lapsed boolean, unwished boolean, seq_before bigint, type text,
        data jsonb, "user" text, request jsonb, state text, attempt integer, new_fence bigint, new_seq bigint,
        delay double precision, lease_owner text, lease double precision, result jsonb, error text,
        progress double precision, message text)
), chosen as materialized (
    select job.id, job.episode_id, job.cancel_requested_by as wisher
    from processing_queue as job join given on given.job = job.id
    where job.id = any (array (select job from given))
      and job.state = any(given.expects)
      and (given.fence is null or job.fence = given.fence)
      and (given.seq_before is null or job.external_seq < given.seq_before)
      and (not given.lapsed or job.lease_until < clock_timestamp())
      and (not given.unwished or job.cancel_requested_at is null)
    order by job.id for no key update of job
), waited as materialized (
    select id from episodes
    where not %(hurried)s and id = any (array (select episode_id from chosen)) order by id for no key update
), unlocked as materialized (
    select id from episodes
    where %(hurried)s and id = any (array (select episode_id from chosen))
    order by id for no key update skip locked
), jobs as (
    update processing_queue as job
    set state = given.state, attempt = given.attempt, fence = coalesce(given.new_fence, job.fence),
        external_seq = coalesce(given.new_seq, job.external_seq),
        next_run_at = case when given.delay is null then job.next_run_at
                           else statement_timestamp() + make_interval(secs => given.delay) end,
        delayed = coalesce(given.delay, 0) > 0, lease_owner = given.lease_owner,
        -- Progress may be told late, after the lease was renewed; it shortens none.
        lease_until = greatest(case when given.type = 'job_progress' then job.lease_until end,
                               clock_timestamp() + make_interval(secs => given.lease)),
        cancel_requested_at = case when given.state = 'running' then job.cancel_requested_at end,
        cancel_requested_by = case when given.state = 'running' then job.cancel_requested_by end,
        result = given.result, error = given.error, progress = given.progress, message = given.message,
        started_at = case when given.type = 'job_processor_started' then statement_timestamp()
                          else job.started_at end,
        finished_at = case when given.state in ('completed', 'failed', 'cancelled') then statement_timestamp() end,
        updated_at = statement_timestamp()
    from given, chosen
    where job.id = chosen.id and given.job = chosen.id and job.id = any (array (select id from chosen))
      and (chosen.episode_id is null
           or chosen.episode_id in (select id from waited union all select id from unlocked))
    returning job.*, given.type as event, given.data as more,
              coalesce(given."user", case when given.state = 'cancelled' then chosen.wisher end,
                       job.submitted_by) as who,
              coalesce(given.request, job.request) as whence, given.delay
-- here: heads
), placed as (
    select jobs.*, row_number() over (partition by episode_id order by seq) as nth from jobs
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), gen_random_uuid(), case when head.id is null then 'jobs' else 'episode:' || head.id end,
       before + nth, %(epoch)s, event,
       jsonb_build_object('job', job_facts(placed.id, type, state, attempt, max_attempts, progress, episode_id,
                                           submitted_by))
       || more
       || case when delay is not null and state = 'retry' then jsonb_build_object('nextRunAt', to_char(
              next_run_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) else '{}' end,
       who, whence, date_trunc('milliseconds', statement_timestamp())
from placed join head on head.id is not distinct from placed.episode_id
order by head.id, nth
returning xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at

-- name: renew
-- In the order of everybody's locks. Answers which are still this owner's, and who is to be cancelled.
with given as materialized (
    select * from jsonb_to_recordset(%(jobs)s) as given(id uuid, fence bigint)
), locked as materialized (
    select job.id from processing_queue as job join given using (id, fence)
    where job.id = any (array (select id from given)) and job.state = 'running' order by job.id for no key update of job
)
update processing_queue as job set lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
from locked where job.id = locked.id and job.id = any (array (select id from locked))
returning job.id::text, job.cancel_requested_at is not null, job.cancel_requested_by

-- name: wishes
select id::text, fence, cancel_requested_by from processing_queue
where state = 'running' and cancel_requested_at is not null and lease_owner = %(owner)s

-- name: wish
update processing_queue
set cancel_requested_at = coalesce(cancel_requested_at, statement_timestamp()),
    cancel_requested_by = coalesce(cancel_requested_by, %(user)s), updated_at = statement_timestamp()
where id = %(id)s and state = 'running' and fence = %(fence)s

-- name: purge
delete from processing_queue where id in (
    select id from processing_queue
    where finished_at is not null and finished_at < statement_timestamp() - make_interval(secs => %(age)s)
      and (%(states)s::text[] is null or state = any(%(states)s))
    order by finished_at limit %(limit)s
    for update skip locked)
