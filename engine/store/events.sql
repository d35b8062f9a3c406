-- name: epoch
select value from engine_meta where name = 'epoch'

-- name: end
select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1) as xid

-- name: after
-- In commit order, and only as far as nothing older can still commit.
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where (xid, seq) > (%(xid)s::text::xid8, %(seq)s)
  and xid < pg_snapshot_xmin(pg_current_snapshot())
order by xid, seq
limit %(limit)s

-- name: places
-- The same, of those whose events are known, mostly: only where they stand.
select xid::text::bigint, seq
from events
where (xid, seq) > (%(xid)s::text::xid8, %(seq)s)
  and xid < pg_snapshot_xmin(pg_current_snapshot())
order by xid, seq
limit %(limit)s

-- name: at
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events where seq = any(%(seqs)s)

-- name: after_public
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where (xid, seq) > (%(xid)s::text::xid8, %(seq)s)
  and (xid, seq) <= (%(until_xid)s::text::xid8, %(until_seq)s)
  and not starts_with(topic, 'user:')
order by xid, seq
limit %(limit)s

-- name: newest_public
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where (xid, seq) <= (%(xid)s::text::xid8, %(seq)s) and not starts_with(topic, 'user:')
order by xid desc, seq desc
limit %(limit)s

-- name: since
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where topic = %(topic)s and topic_offset > %(offset)s
order by topic_offset
limit %(limit)s

-- name: user_offset
select log_offset from user_logs where user_id = %(user)s

-- name: topic_offset
select log_offset from topic_logs where topic = %(topic)s

-- name: tell_user
-- Effects do not wait for the disk, this one does: a crash of PostgreSQL must not take back what somebody has
-- heard, nor give its transaction id, and so its place in the log, to something else.
with durably as (
    select set_config('synchronous_commit', 'on', true)
), head as (
    insert into user_logs (user_id, log_offset) values (%(to)s, 1)
    on conflict (user_id) do update set log_offset = user_logs.log_offset + 1
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from head, durably

-- name: cut
select value from engine_meta where name = 'log_cut'

-- name: cut_by_age
-- The oldest of the log, as far as every plugin has handled it that a node runs, or ran not long ago.
with cut as (
    delete from events
    where seq in (select seq from events order by seq limit %(limit)s)
      and created_at < now() - make_interval(secs => %(age)s)
      and not exists (
          select from plugin_cursors as cursor
          where (cursor.xid, cursor.seq) < (events.xid, events.seq)
            and cursor.seen_at > now() - make_interval(secs => %(patience)s))
    returning xid, seq
), latest as (
    select xid, seq from cut order by xid desc, seq desc limit 1
), noted as (
    update engine_meta set value = latest.xid::text || '-' || latest.seq
    from latest
    where name = 'log_cut'
      and (split_part(value, '-', 1)::xid8, split_part(value, '-', 2)::bigint) < (latest.xid, latest.seq)
)
select count(*) from cut

-- name: cut_by_count
with cut as (
    delete from events
    where seq in (
        select seq from events
        where topic = %(topic)s
          and topic_offset <= (select max(topic_offset) from events where topic = %(topic)s) - %(keep)s
        order by topic_offset limit %(limit)s)
      and not exists (
          select from plugin_cursors as cursor
          where (cursor.xid, cursor.seq) < (events.xid, events.seq)
            and cursor.seen_at > now() - make_interval(secs => %(patience)s))
    returning xid, seq
), latest as (
    select xid, seq from cut order by xid desc, seq desc limit 1
), noted as (
    update engine_meta set value = latest.xid::text || '-' || latest.seq
    from latest
    where name = 'log_cut'
      and (split_part(value, '-', 1)::xid8, split_part(value, '-', 2)::bigint) < (latest.xid, latest.seq)
)
select count(*) from cut
