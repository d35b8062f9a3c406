"""The actor of one person's topic: what is said to this person only, such as new notifications."""

import attrs
import trio

from engine.actors.topic_log import Committed, Subscribe, TopicLog
from engine.domain.event import UserId
from engine.runtime.mailbox import Mailbox

TURN = 64

UserMessage = Committed | Subscribe


@attrs.define(eq=False, kw_only=True)
class UserActor:
    """
    Own the order in which one person's sessions hear what they are told.

    A crash loses nothing: subscriptions and the last position are in the hub, events in the store.
    """

    id: UserId
    mailbox: Mailbox[UserMessage]
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

    async def _handle(self, messages: list[UserMessage]) -> None:
        for message in messages:
            if isinstance(message, Committed):
                self.log.note(message.event)
            else:
                await self.log.subscribe(message)
        await self.log.publish_ready()
