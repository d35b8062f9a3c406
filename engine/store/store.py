"""The store as a whole, on two pools: slow effects never take a request's connection."""

import attrs
from psycopg.types.json import JsonbDumper

from engine.domain.event import Epoch
from engine.domain.job import Job
from engine.store.bell import Bell
from engine.store.compositions import Compositions
from engine.store.cursors import Cursors
from engine.store.episode_list import EpisodeList
from engine.store.episodes import Episodes
from engine.store.events import EventLog
from engine.store.housekeeping import Leftovers
from engine.store.job_list import JobList
from engine.store.job_transaction import JobTransaction, Validate
from engine.store.jobs import Jobs
from engine.store.mutations import Mutations
from engine.store.pool import Pool
from engine.store.postgres import Database
from engine.store.presence import PresenceRows
from engine.store.records import Records
from engine.store.socket_rooms import SocketRooms
from engine.store.trio_psycopg import TrioConnection

# Seconds for a statement that nobody waits for at a screen.
BACKGROUND_DEADLINE = 10.0
# Connections for claiming jobs, for committing what became of them, for their leases.
JOB_CONNECTIONS = 3
# Seconds without a statement, after which PostgreSQL ends a transaction that foreign code has open.
FROZEN = 60


@attrs.frozen(kw_only=True)
class Store:
    """
    PostgreSQL, by what is kept in it.
    """

    requests: Pool
    background: Pool
    # Statements of the engine about jobs: nothing that a handler does keeps them waiting for a connection.
    job_pool: Pool
    # Transactions of handlers.
    handler_pool: Pool
    epoch: Epoch
    log: EventLog
    # The same, for work that no request waits for.
    patient_log: EventLog
    episodes: Episodes
    episode_list: EpisodeList
    compositions: Compositions
    records: Records
    cursors: Cursors
    leftovers: Leftovers
    mutations: Mutations
    presence: PresenceRows
    socket_rooms: SocketRooms
    bell: Bell
    # Jobs, for requests.
    jobs: Jobs
    job_list: JobList
    # The same, for those who run them.
    patient_jobs: Jobs
    patient_job_list: JobList

    @classmethod
    async def open(
        cls,
        conninfo: str,
        *,
        node: str,
        pool_size: int,
        background_size: int,
        deadline: float,
        handler_size: int = 4,
    ) -> "Store":
        """
        The store of a migrated database. `deadline` is for a statement within a request, in seconds.

        Raises StoreUnavailableError.
        """
        requests = Pool(conninfo, size=pool_size)
        background = Pool(conninfo, size=background_size, configure=_for_the_background)
        job_pool = Pool(conninfo, size=JOB_CONNECTIONS, configure=_for_jobs)
        handlers = Pool(conninfo, size=handler_size, configure=_for_foreign_code)
        urgent = Database(pool=requests, deadline=deadline)
        for_jobs = Database(pool=job_pool, deadline=BACKGROUND_DEADLINE)
        patient = Database(pool=background, deadline=BACKGROUND_DEADLINE)
        log = EventLog(database=urgent)
        epoch = await log.epoch()
        return cls(
            requests=requests,
            background=background,
            job_pool=job_pool,
            handler_pool=handlers,
            epoch=epoch,
            log=log,
            patient_log=EventLog(database=patient),
            episodes=Episodes(database=urgent, epoch=epoch),
            episode_list=EpisodeList(database=urgent),
            compositions=Compositions(database=urgent, epoch=epoch),
            records=Records(database=urgent),
            cursors=Cursors(database=patient, epoch=epoch),
            leftovers=Leftovers(database=patient),
            mutations=Mutations(database=urgent),
            presence=PresenceRows(database=patient, node=node),
            socket_rooms=SocketRooms(database=urgent),
            bell=Bell(database=patient, conninfo=conninfo, node=node),
            jobs=Jobs(database=urgent, epoch=epoch),
            job_list=JobList(database=urgent),
            patient_jobs=Jobs(database=for_jobs, epoch=epoch),
            patient_job_list=JobList(database=for_jobs),
        )

    def begin_job(self, plugin: str, job: Job, validate: Validate) -> JobTransaction:
        """
        The transaction in which a plugin's handler writes for its job; opened with its first statement.
        """
        return JobTransaction(
            plugin=plugin,
            pool=self.handler_pool,
            deadline=self.patient_jobs.database.deadline,
            epoch=self.epoch,
            job=job,
            jobs=self.patient_jobs,
            validate=validate,
        )

    def retune(self, deadline: float) -> None:
        """
        Give up a statement within a request after so many seconds.
        """
        self.log.database.deadline = deadline

    def pools(self) -> dict[str, Pool]:
        """
        All pools by their names.
        """
        return {
            "requests": self.requests,
            "background": self.background,
            "jobs": self.job_pool,
            "handlers": self.handler_pool,
        }

    async def aclose(self) -> None:
        """
        Close all connections.
        """
        for pool in self.pools().values():
            await pool.aclose()


async def _for_jobs(connection: TrioConnection) -> None:
    # They look up the few rows that they are about. To plan one takes longer than to run it, and a plan made
    # while the tables are small would read through all of them as they grow, until the next ANALYZE.
    await connection.execute("set plan_cache_mode = force_generic_plan")
    await connection.execute("set enable_seqscan = off")


async def _for_foreign_code(connection: TrioConnection) -> None:
    # Plugins know no psycopg, and so none of its wrappers.
    connection.adapters.register_dumper(dict, JsonbDumper)
    # A node that is frozen, or whose machine is gone, would hold up the log for all others with it.
    await connection.execute(f"set idle_in_transaction_session_timeout = {FROZEN * 1000:d}".encode())


async def _for_the_background(connection: TrioConnection) -> None:
    await _for_foreign_code(connection)
    # A crash of PostgreSQL may lose the last of these commits. An effect then loses the move of its cursor,
    # too, and is made again; presence is written anew: nothing is bought by waiting for the disk.
    await connection.execute("set synchronous_commit = off")
