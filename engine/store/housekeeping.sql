-- name: seen
-- These plugins run on a node: what they have still to handle is kept.
update plugin_cursors set seen_at = now() where plugin = any(%(plugins)s)

-- name: gone
-- Plugins that no node has run for so long: what they have not handled is kept no longer.
select plugin from plugin_cursors where seen_at < now() - make_interval(secs => %(patience)s) order by plugin

-- name: activity
with cut as (
    delete from activity_logs
    where seq in (select seq from activity_logs order by seq limit %(limit)s)
      and ((%(age)s > 0 and created_at < now() - make_interval(secs => %(age)s))
           or seq <= (select max(seq) from activity_logs) - %(keep)s)
    returning 1)
select count(*) from cut

-- name: audit
with cut as (
    delete from audit_logs
    where seq in (select seq from audit_logs order by seq limit %(limit)s)
      and ((%(age)s > 0 and created_at < now() - make_interval(secs => %(age)s))
           or seq <= (select max(seq) from audit_logs) - %(keep)s)
    returning 1)
select count(*) from cut

-- name: notifications
with cut as (
    delete from notifications
    where seq in (select seq from notifications order by seq limit %(limit)s)
      and %(age)s > 0 and created_at < now() - make_interval(secs => %(age)s)
    returning 1)
select count(*) from cut

-- name: people
-- The next people with notifications, each found by one step in the index.
with recursive person as (
    (select user_id from notifications where user_id > %(after)s order by user_id limit 1)
    union all
    select (select user_id from notifications where user_id > person.user_id order by user_id limit 1)
    from person where person.user_id is not null
)
select user_id from person where user_id is not null limit %(limit)s

-- name: notifications_of
-- What these people have beyond the newest `keep`.
with cut as (
    delete from notifications
    where seq in (
        select old.seq
        from unnest(%(people)s::text[]) as person (user_id)
        cross join lateral (
            select seq from notifications where user_id = person.user_id
            order by seq desc offset %(keep)s limit %(limit)s) as old
        limit %(limit)s)
    returning 1)
select count(*) from cut

-- name: jobs
with cut as (
    delete from processing_queue
    where id = any (array (
        select id from processing_queue
        where %(age)s > 0 and finished_at < now() - make_interval(secs => %(age)s)
        order by finished_at limit %(limit)s for update skip locked))
    returning 1)
select count(*) from cut

-- name: jobs_alone
-- What there is beyond the newest `keep` of ended jobs that belong to no episode, the oldest first.
with edge as (
    select seq from processing_queue where finished_at is not null and episode_id is null
    order by seq desc offset %(keep)s limit 1
), cut as (
    delete from processing_queue
    where id = any (array (
        select id from processing_queue
        where finished_at is not null and episode_id is null and seq <= (select seq from edge)
        order by seq limit %(limit)s for update skip locked))
    returning 1)
select count(*) from cut

-- name: episodes
-- The next episodes with jobs, each found by one step in the index.
with recursive episode as (
    (select episode_id from processing_queue where episode_id > %(after)s order by episode_id limit 1)
    union all
    select (select episode_id from processing_queue where episode_id > episode.episode_id
            order by episode_id limit 1)
    from episode where episode.episode_id is not null
)
select episode_id::text from episode where episode_id is not null limit %(limit)s

-- name: jobs_of
-- What these episodes have of ended jobs beyond the newest `keep` of each.
with old as materialized (
    select old.id
    from unnest(%(episodes)s::uuid[]) as episode (id)
    cross join lateral (
        select id from processing_queue
        where episode_id = episode.id and finished_at is not null
        order by seq desc offset %(keep)s limit %(limit)s) as old
    limit %(limit)s
), cut as (
    delete from processing_queue
    -- One that was queued again meanwhile is not an ended one.
    where id = any (array (select id from old)) and finished_at is not null
    returning 1)
select count(*) from cut

-- name: idempotency_keys
with cut as (
    delete from idempotency_keys
    where ("user", key) in (
        select "user", key from idempotency_keys
        where created_at < now() - make_interval(secs => %(age)s) order by created_at limit %(limit)s)
    returning 1)
select count(*) from cut
