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

-- name: since
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events
where topic = %(topic)s and topic_offset > %(offset)s
order by topic_offset
limit %(limit)s
