-- name: get
select id::text, episode_id::text, name, layers, status, version, created_by, created_at, updated_at
from compositions where id = %(id)s and episode_id = %(episode_id)s

-- name: list
select id::text, episode_id::text, name, layers, status, version, created_by, created_at, updated_at
from compositions where episode_id = %(episode_id)s order by created_at, id limit %(limit)s

-- name: create
with episode as (
    update episodes set log_offset = log_offset + 1
    where id = %(episode_id)s and deleted_at is null
    returning log_offset
), composition as (
    insert into compositions (id, episode_id, name, layers, status, version, created_by, created_at, updated_at)
    select %(id)s, %(episode_id)s, %(name)s, %(layers)s, %(status)s, %(version)s, %(user)s, %(at)s, %(at)s
    from episode
)
insert into events (id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: update
with composition as (
    update compositions
    set name = %(name)s, layers = %(layers)s, status = %(status)s, version = version + 1, updated_at = %(at)s
    where id = %(id)s and episode_id = %(episode_id)s and version = %(version)s
    returning id
), episode as (
    update episodes set log_offset = log_offset + 1
    where id = %(episode_id)s and deleted_at is null and exists (select from composition)
    returning log_offset
)
insert into events (id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset

-- name: delete
with composition as (
    delete from compositions
    where id = %(id)s and episode_id = %(episode_id)s and version = %(version)s
    returning id
), episode as (
    update episodes set log_offset = log_offset + 1
    where id = %(episode_id)s and deleted_at is null and exists (select from composition)
    returning log_offset
)
insert into events (id, topic, topic_offset, epoch, type, data, "user", request, created_at)
select %(event_id)s, %(topic)s, log_offset, %(epoch)s, %(type)s, %(data)s, %(user)s, %(request)s, %(at)s
from episode
returning xid::text::bigint, seq, topic_offset
