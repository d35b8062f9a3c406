-- name: keep
insert into socket_rooms (id, user_id, rooms, touched_at) values (%(id)s, %(user)s, %(rooms)s, now())
on conflict (id) do update set rooms = excluded.rooms, touched_at = excluded.touched_at
where socket_rooms.user_id = excluded.user_id

-- name: find
select rooms from socket_rooms where id = %(id)s and user_id = %(user)s

-- name: expire
delete from socket_rooms where touched_at < now() - make_interval(secs => %(age)s)
