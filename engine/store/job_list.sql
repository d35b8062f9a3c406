-- Jobs as they are read; a statement on whole rows is `columns` and what follows here.

-- name: columns
select id::text, seq, type, state, priority, payload, result, error, attempt, max_attempts, timeout, next_run_at,
       lease_owner, lease_until, fence, external_seq, unique_key, cancel_requested_at, cancel_requested_by,
       progress, message, source, submitted_by, request, episode_id::text, created_at, updated_at, started_at,
       finished_at
from processing_queue

-- name: get
where id = %(id)s

-- name: several
where id = any(%(ids)s::uuid[])

-- name: unfinished
where type = %(type)s and unique_key = %(unique_key)s and state in ('queued', 'running', 'retry')

-- name: page
where (%(state)s::text is null or state = %(state)s)
  and (%(type)s::text is null or type = %(type)s)
  and (%(episode)s::uuid is null or episode_id = %(episode)s::uuid)
  and (%(before)s::bigint is null or seq < %(before)s::bigint)
order by seq desc limit %(limit)s

-- name: history
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where data #>> '{job,id}' = %(id)s and type like 'job\_%%'
order by seq desc limit %(limit)s

-- name: lapsed
-- Those who run them are gone: their lease has ended, or they are a former life of this node.
where state = 'running' and lease_until < clock_timestamp()
order by lease_until limit %(limit)s

-- name: orphans
where state = 'running' and lease_owner <> %(owner)s and not starts_with(lease_owner, 'external:')
  and (%(all)s or starts_with(lease_owner, %(node)s))
order by seq limit %(limit)s

-- name: counts
select type, state, count(*) from processing_queue where state in ('queued', 'running', 'retry')
group by type, state

-- name: pauses
select kind, name, paused_by, paused_at from job_pauses order by kind, name

-- name: pause
insert into job_pauses (kind, name, paused_by) values (%(kind)s, %(name)s, %(user)s)
on conflict (kind, name) do nothing

-- name: resume
delete from job_pauses where kind = %(kind)s and name = %(name)s

-- name: episode
select from episodes where id = %(id)s and deleted_at is null
