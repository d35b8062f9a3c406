-- name: get
select id::text, episode_id::text, name, layers, status, version, created_by, created_at, updated_at
from compositions where id = %(id)s and episode_id = %(episode_id)s

-- name: list
select id::text, episode_id::text, name, layers, status, version, created_by, created_at, updated_at
from compositions where episode_id = %(episode_id)s order by created_at, id limit %(limit)s

-- name: rendered
select composition_id::text, composition_images.version
from composition_images join compositions on compositions.id = composition_id
where episode_id = %(episode_id)s

-- name: image
-- Without the picture, if whoever asks has it.
select version, digest, case when digest = any(%(known)s) then null else png end
from composition_images where composition_id = %(id)s

-- name: create
-- As every write here: the episode's lock first, for the reason given in episodes.sql; and so that nothing
-- is changed without an event while the episode is being deleted.
with locked as (
    select id from episodes where id = %(episode_id)s and deleted_at is null for no key update
), composition as (
    insert into compositions (id, episode_id, name, layers, status, version, created_by, created_at, updated_at)
    select %(id)s, id, %(name)s, %(layers)s, %(status)s, %(version)s, %(user)s, %(at)s, %(at)s
    from locked
    returning episode_id
), episode as (
    update episodes set log_offset = log_offset + 1
    from composition where episodes.id = composition.episode_id
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: update
with locked as (
    select id from episodes where id = %(episode_id)s and deleted_at is null for no key update
), composition as (
    update compositions
    set name = %(name)s, layers = %(layers)s, status = %(status)s, version = version + 1, updated_at = %(at)s
    from locked
    where compositions.id = %(id)s and episode_id = locked.id and version = %(version)s
    returning episode_id
), episode as (
    update episodes set log_offset = log_offset + 1
    from composition where episodes.id = composition.episode_id
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: delete
with locked as (
    select id from episodes where id = %(episode_id)s and deleted_at is null for no key update
), composition as (
    delete from compositions using locked
    where compositions.id = %(id)s and episode_id = locked.id and version = %(version)s
    returning episode_id
), episode as (
    update episodes set log_offset = log_offset + 1
    from composition where episodes.id = composition.episode_id
    returning log_offset
)
insert into events (xid, id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select log_place(), %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset
