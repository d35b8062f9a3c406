"""The node's part in jobs: builds who claims, runs, keeps and rescues them, and stops them in order."""

import random
from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from conf.settings import Settings
from engine.actors.job_desk import JobDesk
from engine.actors.job_keeper import JobKeeper
from engine.actors.job_rescuer import JobRescuer
from engine.actors.job_run import JobParts, JobRun, Stop
from engine.actors.job_settler import Settler
from engine.actors.job_statistics import JobStatistics
from engine.actors.jobs import Dispatcher, Runnable
from engine.actors.messages import Tell
from engine.actors.plugin_life import PluginLife
from engine.actors.poller import Poller
from engine.actors.reducer import SOURCE as SQS
from engine.assembly.queue_reader import backoff_of, poller_of
from engine.assembly.topics import policy_of
from engine.domain.event import JobId
from engine.domain.job import CancelWish, Job
from engine.domain.world import new_id
from engine.plugin_host.host import PluginHost
from engine.plugin_host.jobs import is_async
from engine.runtime.foreign import Function
from engine.runtime.supervisor import Strategy, Supervisor
from engine.sources.postgres_queue import NAME as POSTGRES
from engine.sources.postgres_queue import PostgresQueue
from engine.store.events import Author
from engine.store.job_transaction import JobTransaction
from engine.store.store import Store

# The node's children that have to do with jobs, in the order of their start. Those that are no actors of
# their own are of another kind: nobody restarts or parks them.
CHILDREN = ("jobs", "settler", "progress", "keeper", "rescuer", "drain", "dispatcher")
KINDS = {"jobs": "supervisor", "drain": "drain"}
# And, if there is a queue to read, its poller: stopped first.
POLLER = SQS
Run = Callable[[trio.TaskStatus[None]], Awaitable[None]]


@attrs.define(eq=False, kw_only=True)
class Workshop:
    """
    Own everything of this node that has to do with jobs, besides what is in the store.
    """

    supervisor: Supervisor
    dispatcher: Dispatcher
    settler: Settler
    keeper: JobKeeper
    rescuer: JobRescuer
    desk: JobDesk
    # None when no queue is to be read.
    poller: Poller | None
    statistics: JobStatistics
    # Wakes the other nodes.
    ring: Callable[[], None]

    @classmethod
    def build(
        cls,
        settings: Settings,
        store: Store,
        plugins: PluginHost,
        *,
        committed: Tell,
        ring: Callable[[], None],
        alone: bool,
        lives: Mapping[str, PluginLife],
        chance: random.Random,
    ) -> "Workshop":
        """
        The jobs of a node on this store. With `alone`, no other node can be on it. `lives` are those of the
        plugins, none of which runs a job before it has prepared itself. `chance` spreads retries.
        """
        node = settings.node.resolved_name
        # A node of the same name may have run jobs before; that was another life.
        owner = f"{node}/{new_id()}"
        jobs = settings.jobs
        settler = Settler(jobs=store.patient_jobs, committed=committed)
        supervisor = Supervisor("jobs", strategy=Strategy.ONE_FOR_ONE, random=chance)
        statistics = JobStatistics()

        def begin(job: Job, plugin: str) -> JobTransaction:
            return store.begin_job(
                plugin, job, lambda identity, after: plugins.validate_episode(identity, None, after, {})
            )

        runs: dict[JobId, JobRun] = {}
        keeper = JobKeeper(
            jobs=store.patient_jobs, owner=owner, lease=jobs.lease, runs=runs, committed=committed
        )
        dispatcher = Dispatcher(
            source=PostgresQueue(jobs=store.patient_jobs, owner=owner, lease=jobs.lease),
            runnable=_runnable(plugins, lives),
            parts=JobParts(
                settler=settler,
                runner=plugins.runner,
                statistics=statistics,
                begin=begin,
                data_dir=settings.node.resolved_data_dir,
                committed=committed,
                progressed=keeper.progressed,
                tell_progress=keeper.tell_progress,
                due=lambda delay: dispatcher.due(delay),
                transaction_budget=jobs.transaction_budget,
                chance=chance,
            ),
            supervisor=supervisor,
            policy=policy_of(settings.supervision.job),
            concurrency=jobs.concurrency,
            poll=jobs.poll,
            runs=runs,
        )
        rescuer = JobRescuer(
            jobs=store.patient_jobs,
            job_list=store.patient_job_list,
            handlers=plugins.jobs.by_name(),
            owner=owner,
            node=node,
            alone=alone,
            lease=jobs.lease,
            committed=committed,
            due=dispatcher.due,
            chance=chance,
        )
        desk = JobDesk(
            jobs=store.jobs,
            job_list=store.job_list,
            plugins=plugins,
            external_types=jobs.external_types,
            committed=committed,
            due=dispatcher.due,
            wished=lambda wish, author: workshop.wished(wish, author),
        )
        workshop = cls(
            supervisor=supervisor,
            dispatcher=dispatcher,
            settler=settler,
            keeper=keeper,
            rescuer=rescuer,
            desk=desk,
            poller=poller_of(settings, store, desk, committed=committed),
            statistics=statistics,
            ring=ring,
        )
        for life in lives.values():
            life.on_prepared = dispatcher.wake
        return workshop

    def children(self) -> Mapping[str, Run]:
        """
        What the node has to run, in this order; stopped in the reverse one.
        """
        runs: tuple[Run, ...] = (
            self.supervisor.run,
            self.settler.run,
            self.keeper.tell,
            self.keeper.run,
            self.rescuer.run,
            self.dispatcher.run_drain,
            self.dispatcher.run,
        )
        children: dict[str, Run] = dict(zip(CHILDREN, runs, strict=True))
        return children if self.poller is None else {**children, POLLER: self.poller.run}

    def sources(self) -> dict[str, dict[str, object]]:
        """
        The statistics of every source of jobs, by its name.
        """
        found = {POSTGRES: attrs.asdict(self.dispatcher.source.statistics())}
        if self.poller is not None:
            found[SQS] = attrs.asdict(self.poller.statistics())
        return found

    def heard(self) -> None:
        """
        Another node has committed something: it may be a job, or somebody's wish to cancel one.
        """
        self.dispatcher.look_again()
        self.keeper.look_for_wishes()

    def wished(self, wish: CancelWish, author: Author) -> None:
        """
        A running job is to be cancelled: here at once, elsewhere when that node hears the ring.
        """
        run = self.dispatcher.runs.get(wish.job)
        if run is not None and run.job.fence == wish.fence:
            run.stop(Stop.CANCELLED, author.user)
        else:
            self.ring()

    def drain(self, grace: float) -> None:
        """
        Claim nothing more; jobs have `grace` seconds to finish, then they are given back.
        """
        if self.poller is not None:
            self.poller.drain()
        self.dispatcher.drain(trio.current_time() + grace)

    def retune(self, settings: Settings) -> None:
        """
        Go by these settings from now on.
        """
        jobs = settings.jobs
        self.dispatcher.concurrency, self.dispatcher.poll = jobs.concurrency, jobs.poll
        self.dispatcher.policy = policy_of(settings.supervision.job)
        self.dispatcher.parts.transaction_budget = jobs.transaction_budget
        self.dispatcher.source.lease = self.keeper.lease = self.rescuer.lease = jobs.lease
        self.desk.external_types = jobs.external_types
        if self.poller is not None:
            self.poller.backoff = backoff_of(settings)
        self.dispatcher.wake()


def _runnable(plugins: PluginHost, lives: Mapping[str, PluginLife]) -> dict[str, Runnable]:
    found = {}
    for kind, handler in plugins.jobs.by_name().items():
        plugin = plugins.jobs.plugin_of(kind)
        found[kind] = Runnable(
            handler=handler,
            function=Function(owner=plugin, name=kind, call=handler.run, is_async=is_async(handler.run)),
            engine=plugins.engines[plugin],
            # A thread that was given up is occupied until it ends; the next job need not wait for it.
            limiter=trio.CapacityLimiter(2 * handler.concurrency),
            is_prepared=lives[plugin].prepared.is_set,
        )
    return found
