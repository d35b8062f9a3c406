-- name: activity
select seq, id::text, user_id, action, resource_type, resource_id::text, episode_id::text, metadata,
       created_at, ip_address, user_agent
from activity_logs
where (%(episode_id)s::uuid is null or episode_id = %(episode_id)s::uuid)
  and (%(before)s::bigint is null or seq < %(before)s::bigint)
order by seq desc limit %(limit)s

-- name: audit
select seq, id::text, user_id, action, resource_type, resource_id::text, old_values, new_values,
       event_id::text, mutation_id, ip_address, user_agent, created_at
from audit_logs
where (%(before)s::bigint is null or seq < %(before)s::bigint)
order by seq desc limit %(limit)s

-- name: notifications
select seq, id::text, user_id, type, title, message, resource_type, resource_id::text, read_at, created_at
from notifications
where user_id = %(user)s and (not %(unread)s or read_at is null)
  and (%(before)s::bigint is null or seq < %(before)s::bigint)
order by seq desc limit %(limit)s

-- name: unread
select count(*) from notifications where user_id = %(user)s and read_at is null

-- name: read_one
update notifications set read_at = coalesce(read_at, %(at)s)
where id = %(id)s and user_id = %(user)s
returning seq, id::text, user_id, type, title, message, resource_type, resource_id::text, read_at, created_at

-- name: read_all
update notifications set read_at = %(at)s where user_id = %(user)s and read_at is null
