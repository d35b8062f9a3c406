-- name: open
-- A plugin that is new here begins at the given place.
insert into plugin_cursors (plugin, xid, seq)
values (%(plugin)s, (%(xid)s)::text::xid8, %(seq)s)
on conflict (plugin) do update set seen_at = now()
returning xid::text::bigint, seq, quarantined_at, reason

-- name: move
-- Whoever moves a cursor says from where: of two nodes that run the same plugin, one loses and rolls back.
update plugin_cursors set xid = (%(xid)s)::text::xid8, seq = %(seq)s, updated_at = now()
where plugin = %(plugin)s and xid = (%(from_xid)s)::text::xid8 and seq = %(from_seq)s

-- name: quarantine
update plugin_cursors set quarantined_at = now(), reason = %(reason)s
where plugin = %(plugin)s returning quarantined_at

-- name: resume
-- An operator is told that it is done: the one write of the background that waits for the disk.
with durably as (select set_config('synchronous_commit', 'on', true))
update plugin_cursors set quarantined_at = null, reason = null from durably where plugin = %(plugin)s

-- name: replay
-- Before an event, or before everything that there is when none is given. Whoever is at work finds the cursor moved.
with durably as (select set_config('synchronous_commit', 'on', true)), start as (
    select xid, seq from events
    where %(event)s::uuid is null or id = %(event)s::uuid
    order by xid, seq limit 1)
update plugin_cursors set xid = start.xid, seq = start.seq - 1, updated_at = now()
from start, durably where plugin = %(plugin)s

-- name: failed
insert into effect_failures (plugin, event_id, event_type, attempt, error, traceback)
values (%(plugin)s, %(event_id)s, %(event_type)s, %(attempt)s, %(error)s, %(traceback)s)

-- name: forget_failures
-- Bounded: the newest hundred of a plugin are enough to see what is wrong.
delete from effect_failures where plugin = %(plugin)s and id <= (
    select id from effect_failures where plugin = %(plugin)s order by id desc offset 100 limit 1)

-- name: failures
select event_id::text, event_type, attempt, error, traceback, created_at
from effect_failures where plugin = %(plugin)s order by id desc limit %(limit)s

-- name: lag
select count(*) from (
    select from events
    where (xid, seq) > ((%(xid)s)::text::xid8, %(seq)s) and not starts_with(topic, 'user:')
    limit %(limit)s) as waiting
