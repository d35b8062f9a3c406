-- name: events
select xid::text::bigint, seq, id::text, topic, topic_offset, epoch::text, type, data, "user", request, created_at
from events where request ->> 'mutation_id' = %(id)s order by seq limit %(limit)s

-- name: effects
-- What each plugin has made of one event.
select cursor.plugin, (cursor.xid, cursor.seq) >= ((%(xid)s)::text::xid8, %(seq)s) as handled,
       cursor.quarantined_at is not null as quarantined,
       (select count(*) from effect_failures as failure
        where failure.plugin = cursor.plugin and failure.event_id = %(event)s::uuid) as failures,
       (select error from effect_failures as failure
        where failure.plugin = cursor.plugin and failure.event_id = %(event)s::uuid
        order by failure.id desc limit 1) as last_error
from plugin_cursors as cursor order by cursor.plugin
