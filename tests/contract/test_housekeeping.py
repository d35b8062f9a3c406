"""Housekeeping: records stay bounded by age and count; nobody is waited for who never comes."""

import attrs
import pytest

from conf.settings import load
from engine.actors import housekeeping as module
from engine.actors.housekeeping import Housekeeping
from engine.domain.event import LogPlace

DAY = 86400


@pytest.fixture
def tidy(studio, monkeypatch):
    """
    Tidies up, one round, in small steps: `await tidy(activity_count=2)`.
    """
    monkeypatch.setattr(module, "STEP", 2)
    monkeypatch.setattr(module, "MANY", 2)
    monkeypatch.setattr(module, "PAUSE", 0)
    housekeeping = Housekeeping(
        leftovers=studio.store.leftovers,
        settings=load(None, environ={}).settings.retention,
        plugins=["audit"],
    )

    async def run(**settings):
        housekeeping.settings = attrs.evolve(housekeeping.settings, **settings)
        await housekeeping.round()

    return run


async def activity(studio, *ages):
    """
    One activity record of each age, in days, oldest first.
    """
    for age in ages:
        await studio.rows(
            "insert into activity_logs"
            " (id, user_id, action, resource_type, resource_id, metadata, created_at)"
            " values (gen_random_uuid(), 'a', 'CREATE', 'episode', gen_random_uuid(), '{}',"
            " now() - make_interval(days => %s))",
            age,
        )


async def notify(studio, user, *ages):
    """
    One notification of each age for a person.
    """
    for age in ages:
        await studio.rows(
            "insert into notifications (id, user_id, type, title, message, resource_type, resource_id,"
            " created_at) values (gen_random_uuid(), %s, 't', 't', 'm', 'episode', gen_random_uuid(),"
            " now() - make_interval(days => %s))",
            user,
            age,
        )


async def ages(studio, table, condition="true"):
    """
    The ages in days of what a table still has, oldest first.
    """
    rows = await studio.rows(
        f"select extract(day from now() - created_at)::int from {table} where {condition} order by seq"
    )
    return [row[0] for row in rows]


async def test_activity_is_kept_by_age_and_by_count(studio, tidy):
    """
    The oldest go, in steps, and those that are younger stay.
    """
    await activity(studio, 400, 399, 398, 397, 396, 2, 1, 0)
    await tidy()
    assert await ages(studio, "activity_logs") == [2, 1, 0]
    await tidy(activity_count=2)
    assert await ages(studio, "activity_logs") == [1, 0]


async def test_an_age_of_zero_keeps_for_ever(studio, tidy):
    """
    Audit records are kept by default, however old.
    """
    await studio.rows(
        "insert into audit_logs (id, user_id, action, resource_type, resource_id, event_id, mutation_id,"
        " created_at) select gen_random_uuid(), 'a', 'CREATE', 'episode', gen_random_uuid(),"
        " gen_random_uuid(), 'm', now() - make_interval(days => n) from generate_series(5, 1, -1) as n"
    )
    await activity(studio, 5000)
    await tidy(activity_age=0)
    assert await ages(studio, "audit_logs") == [5, 4, 3, 2, 1]
    assert len(await ages(studio, "activity_logs")) == 1
    await tidy(audit_age=3.5 * DAY, activity_age=0)
    assert await ages(studio, "audit_logs") == [3, 2, 1]
    await tidy(audit_count=1, audit_age=0)
    assert await ages(studio, "audit_logs") == [1]


async def test_each_persons_notifications_are_bounded(studio, tidy):
    """
    However many people there are: a round looks at some, and the next goes on behind them.
    """
    await notify(studio, "z", 1000)
    for user in ("a", "b", "c", "d", "e"):
        await notify(studio, user, 6, 5, 4, 3, 2, 1)
    for _ in range(4):
        await tidy(notifications_per_user=2)
    found = await studio.rows("select user_id, count(*) from notifications group by 1 order by 1")
    assert [tuple(row) for row in found] == [(user, 2) for user in "abcde"]
    assert await ages(studio, "notifications", "user_id = 'c'") == [2, 1]


async def end_jobs(studio, episode, *ages):
    """
    One completed job of each age for an episode, or for none.
    """
    for age in ages:
        await studio.rows(
            "insert into processing_queue (id, type, state, priority, payload, max_attempts, timeout,"
            " next_run_at, delayed, source, submitted_by, request, episode_id, created_at, updated_at,"
            " finished_at)"
            " select gen_random_uuid(), 't', 'completed', 5, '{}', 3, 60, at, false, 'rest', 'a', '{}',"
            " %s::uuid, at, at, at from (select now() - make_interval(days => %s) as at) as ended",
            episode,
            age,
        )


async def test_jobs_that_have_ended_are_kept_by_age_and_by_count(studio, tidy):
    """
    Those of one episode crowd out neither another episode's nor those of none; and the reverse.
    """
    episodes = sorted([(await studio.create()).data["episode"]["id"] for _ in range(5)])
    await end_jobs(studio, None, 40, 9, 8, 7, 6, 5, 4, 3, 2, 1)
    for episode in episodes:
        await end_jobs(studio, episode, 50, 8, 7, 6, 5, 4)
    await end_jobs(studio, episodes[1], 3, 2)
    await tidy(jobs_age=0)
    assert len(await ages(studio, "processing_queue")) == 42
    for _ in range(4):
        await tidy(jobs_per_topic=3)
    assert await ages(studio, "processing_queue", "episode_id is null") == [3, 2, 1]
    for episode in episodes:
        newest = [4, 3, 2] if episode == episodes[1] else [6, 5, 4]
        assert await ages(studio, "processing_queue", f"episode_id = '{episode}'") == newest
    await tidy(jobs_age=3.5 * DAY)
    assert await ages(studio, "processing_queue") == [3, 2, 1, 3, 2]


async def test_a_job_that_has_not_ended_is_kept_however_many_are_newer(studio, tidy):
    """
    Only what has ended counts, and goes.
    """
    episode = (await studio.create()).data["episode"]["id"]
    for owner in (None, episode):
        await end_jobs(studio, owner, 100, 90)
        await studio.rows("update processing_queue set state = 'queued', finished_at = null")
    for owner in (None, episode):
        await end_jobs(studio, owner, 2, 1)
    for _ in range(2):
        await tidy(jobs_per_topic=1)
    assert await ages(studio, "processing_queue") == [100, 90, 100, 90, 1, 1]


async def test_idempotency_keys_are_forgotten_by_age(studio, tidy):
    """
    A key that is used after that makes another episode.
    """
    await studio.rows(
        "insert into idempotency_keys select 'a', n::text, 'f', '{}', now() - make_interval(hours => n)"
        " from generate_series(20, 28) as n"
    )
    await tidy()
    left = await studio.rows("select key from idempotency_keys order by created_at")
    assert [row[0] for row in left] == ["23", "22", "21", "20"]


async def test_a_plugin_that_no_node_runs_holds_the_log_up_for_a_while_only(studio, tidy):
    """
    One that runs holds it up as long as it takes; one that was removed, until `removed_plugin_age`.
    """
    cursors, log = studio.store.cursors, studio.store.patient_log
    for plugin in ("audit", "removed"):
        await cursors.open(plugin, LogPlace(0, 0))
    await studio.create()
    await studio.rows("update events set created_at = now() - interval '10 days'")
    await studio.rows("update plugin_cursors set seen_at = now() - interval '9 days'")
    await tidy(removed_plugin_age=8 * DAY)
    assert await studio.store.leftovers.gone(8 * DAY) == ["removed"]
    log.patience = 8 * DAY
    assert await log.cut_by_age(DAY, 10) == 0
    await studio.rows("update plugin_cursors set xid = '9000000000'::xid8 where plugin = 'audit'")
    log.patience = 20 * DAY
    assert await log.cut_by_age(DAY, 10) == 0
    log.patience = 8 * DAY
    assert await log.cut_by_age(DAY, 10) == 1
