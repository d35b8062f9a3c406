-- name: get
select id::text, title, episode_number, description, status, categories, version, created_by,
       created_at, updated_at, log_offset
from episodes where id = %(id)s and deleted_at is null

-- name: create
with idempotency as (
    insert into idempotency_keys ("user", key, fingerprint, response)
    select %(user)s, %(key)s, %(fingerprint)s, %(response)s
    where %(key)s::text is not null
), episode as (
    insert into episodes (id, title, episode_number, description, status, categories, version, log_offset,
                          created_by, created_at, updated_at)
    values (%(id)s, %(title)s, %(episode_number)s, %(description)s, %(status)s, %(categories)s, %(version)s,
            %(log_offset)s, %(user)s, %(at)s, %(at)s)
    returning log_offset
)
insert into events (id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: create_many
-- New episodes have no lock to wait for: the transaction's id is a right place in the log for all of them.
-- Their order in it is the one in which they were given.
with given as materialized (
    select * from rows from (
        jsonb_to_recordset(%(episodes)s) as (
            id uuid, title text, episode_number integer, description text, status text, categories text[],
            version integer, log_offset bigint, at timestamptz, event_id uuid, type text, data jsonb)
    ) with ordinality as given(id, title, episode_number, description, status, categories, version, log_offset,
                               at, event_id, type, data, place)
), made as (
    insert into episodes (id, title, episode_number, description, status, categories, version, log_offset,
                          created_by, created_at, updated_at)
    select id, title, episode_number, description, status, categories, version, log_offset, %(user)s, at, at
    from given
)
insert into events (id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select event_id, 'episode:' || id, log_offset, %(epoch)s, type, data, %(user)s, %(request)s, at
from given order by place
returning xid::text::bigint, seq, topic_offset

-- name: update
-- The lock first: waiting for it in the update, a writer would have its transaction id already, and with it
-- a place in the log before that of the writer it waits for. It may have one nevertheless, if it waits for the
-- row a second time, because a third was faster: hence log_place(), which is behind all of them.
with locked as (
    select id from episodes
    where id = %(id)s and version = %(version)s and deleted_at is null
    for no key update
), episode as (
    update episodes
    set title = %(title)s, episode_number = %(episode_number)s, description = %(description)s,
        status = %(status)s, categories = %(categories)s, version = version + 1, updated_at = %(at)s,
        log_offset = log_offset + 1
    from locked where episodes.id = locked.id
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: delete
with locked as (
    select id from episodes
    where id = %(id)s and version = %(version)s and deleted_at is null
    for no key update
), episode as (
    update episodes
    set deleted_at = %(at)s, log_offset = log_offset + 1
    from locked where episodes.id = locked.id
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: replay
select fingerprint, response from idempotency_keys where "user" = %(user)s and key = %(key)s

-- name: log_offset
select log_offset from episodes where id = %(id)s
