-- name: put
insert into user_presence (node, user_id, user_name, resource_type, resource_id, state, viewed_at, last_active,
                           is_active)
values (%(node)s, %(user)s, %(name)s, 'episode', %(id)s, %(state)s, %(viewed_at)s, %(active_at)s, %(is_active)s)
on conflict (resource_type, resource_id, user_id, node) do update
set user_name = excluded.user_name, state = excluded.state, viewed_at = excluded.viewed_at,
    last_active = excluded.last_active, is_active = excluded.is_active

-- name: drop
delete from user_presence
where node = %(node)s and resource_type = 'episode' and resource_id = %(id)s and user_id = %(user)s

-- name: forget
-- What an earlier life of this node left behind.
delete from user_presence where node = %(node)s

-- name: seen
insert into nodes (name, seen_at) values (%(node)s, now())
on conflict (name) do update set seen_at = excluded.seen_at

-- name: expire
-- What nodes that were not seen for a while left behind.
with dead as (
    delete from nodes where seen_at < now() - make_interval(secs => %(silence)s) returning name
)
delete from user_presence
where node in (select name from dead) or node not in (select name from nodes)
