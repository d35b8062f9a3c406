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

-- name: expire
delete from user_presence where node = %(node)s
