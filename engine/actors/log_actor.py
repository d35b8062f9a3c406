"""The actor of a topic that is its log and nothing else: what one person is told; jobs of no episode."""

from typing import assert_never

import attrs
import trio

from engine.actors.topic_log import Committed, Subscribe, TopicLog, Unsubscribe
from engine.runtime.mailbox import Mailbox

TURN = 64

LogMessage = Committed | Subscribe | Unsubscribe


@attrs.define(eq=False, kw_only=True)
class LogActor:
    """
    Own the order in which a topic's sessions hear its log.

    A crash loses nothing: subscriptions and the last position are in the hub, events in the store.
    """

    mailbox: Mailbox[LogMessage]
    log: TopicLog
    # Seconds between two comparisons of the log with what subscribers have heard.
    position_check: float

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Live until nobody listens any more.
        """
        with self.mailbox.serving():
            await self.log.begin()
            task_status.started()
            check_at = trio.current_time() + self.position_check
            while True:
                message, waited = None, False
                with trio.move_on_at(check_at):
                    message = await self.mailbox.receive_or_idle()
                    waited = message is None
                if message is not None:
                    await self._handle([message, *self.mailbox.drain_nowait(TURN - 1)])
                elif waited and not self.log.hub.subscribers(self.log.topic):
                    return
                elif not waited:
                    check_at = trio.current_time() + self.position_check
                    await self.log.check_position()

    async def _handle(self, messages: list[LogMessage]) -> None:
        for message in messages:
            match message:
                case Committed(event):
                    self.log.note(event)
                case Subscribe():
                    await self.log.subscribe(message)
                case Unsubscribe():
                    await self.log.unsubscribe(message)
                case _:
                    assert_never(message)
        await self.log.publish_ready()
