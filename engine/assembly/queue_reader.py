"""Builds the poller of the queue that the settings name, and the reducer behind it."""

import random
from collections.abc import Callable

from conf.settings import Settings
from engine.actors.job_desk import JobDesk
from engine.actors.poller import Poller
from engine.actors.reducer import SOURCE, JobReducer
from engine.actors.reports import Reports
from engine.domain.event import Event
from engine.runtime.backoff import Backoff
from engine.store.store import Store


def poller_of(
    settings: Settings, store: Store, desk: JobDesk, *, committed: Callable[[Event], None]
) -> Poller | None:
    """
    The poller of a node on this store; None when no queue is named.
    """
    if not settings.sqs.queue_url:
        return None
    chance = random.Random()  # noqa: S311 -- jitter needs no secrecy
    jobs, job_list = store.patient_jobs, store.patient_job_list
    reports = Reports(
        jobs=jobs,
        job_list=job_list,
        handlers=desk.plugins.jobs.by_name(),
        lease=settings.sqs.lease,
        committed=committed,
        due=desk.due,
        chance=chance,
    )
    reducer = JobReducer(
        jobs=jobs, job_list=job_list, check=desk.check, reports=reports, committed=committed, due=desk.due
    )

    async def is_paused() -> bool:
        pauses = await job_list.pauses()
        return any((pause.kind, pause.name) == ("source", SOURCE) for pause in pauses)

    return Poller(
        settings=settings.sqs,
        reduce=reducer,
        backoff=backoff_of(settings),
        chance=chance,
        is_paused=is_paused,
    )


def backoff_of(settings: Settings) -> Backoff:
    """
    How long the poller waits before it asks again what failed.
    """
    kind = settings.supervision.poller
    return Backoff(first=kind.backoff_first, cap=kind.backoff_cap, jitter=kind.backoff_jitter)
