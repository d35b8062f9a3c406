"""LISTEN and NOTIFY: nodes on one database wake each other's feed. Only a hint; the log is the truth."""

from collections.abc import Callable
from contextlib import aclosing
from typing import LiteralString

import attrs
import psycopg
import structlog
import trio

from engine.store.postgres import Database
from engine.store.trio_psycopg import TrioConnection

log = structlog.get_logger(__name__)

CHANNEL: LiteralString = "greenroom_events"
# Seconds before a broken connection is made again.
RECONNECT = 0.5


@attrs.define(eq=False, kw_only=True)
class Bell:
    """
    Own the connection on which this node hears of others' commits.

    Ringing is not part of the writing statement: NOTIFY there lets commits through one at a time.
    """

    database: Database
    conninfo: str
    node: str

    async def ring(self) -> None:
        """
        Let the other nodes read the log soon.
        """
        await self.database.execute(
            "select pg_notify(%(channel)s, %(node)s)", {"channel": CHANNEL, "node": self.node}
        )

    async def listen(self, on_ring: Callable[[], None]) -> None:
        """
        Call `on_ring` for each ring of another node, until cancelled; a broken connection is made again.
        """
        while True:
            try:
                connection = await TrioConnection.connect(self.conninfo, autocommit=True)
                try:
                    await connection.execute(f"listen {CHANNEL}")
                    # Whatever was committed while nobody listened.
                    on_ring()
                    async with aclosing(connection.notifies()) as notifications:
                        async for notification in notifications:
                            if notification.payload != self.node:
                                on_ring()
                finally:
                    await connection.close()
            except psycopg.OperationalError as error:
                log.debug("the listening connection broke", reason=str(error).strip())
            await trio.sleep(RECONNECT)
