"""Who has left is seen to have left, even if that could not be told."""

from collections import deque
from collections.abc import Iterable
from typing import cast

import attrs
import trio

from engine.actors.episode import EpisodeActor, EpisodeMessage, Join, PresenceTimes, presence_topic
from engine.actors.messages import Channels
from engine.actors.topic_log import TopicLog
from engine.domain.event import EpisodeId, Epoch, Offset, UserId, episode_topic, utc_now
from engine.domain.presence import Meta, Presence, SessionId, Viewer
from engine.runtime.mailbox import Mailbox, Reply, ask
from engine.store.events import EventLog
from tests.contract.stage import Client, Plain
from tests.unit.test_restarted_actors import WrittenLog

PILOT = EpisodeId("pilot")


@attrs.define(eq=False)
class Silent:
    """
    Nobody wants to know of presence.
    """

    def changed(self, episode: EpisodeId, present: Iterable[Viewer], gone: Iterable[Viewer]) -> None: ...

    def began(self, episode: EpisodeId, viewers: Iterable[Viewer]) -> None: ...


def actor_of(hub: Channels, mailbox: Mailbox[EpisodeMessage]) -> EpisodeActor:
    """
    The actor of an episode of which nothing is in the log.
    """

    async def head() -> Offset:
        await trio.lowlevel.checkpoint()
        return Offset(0)

    async def snapshot() -> tuple[Offset, dict[str, object]]:
        return await head(), {}

    return EpisodeActor(
        id=PILOT,
        mailbox=mailbox,
        hub=hub,
        log=TopicLog(
            topic=episode_topic(PILOT),
            epoch=Epoch("epoch"),
            hub=hub,
            log=cast(EventLog, WrittenLog([])),
            head=head,
            snapshot=snapshot,
            replay_limit=10,
            replay_size=1000,
            ring=deque(maxlen=10),
        ),
        presence=Presence(),
        times=PresenceTimes(tick=0.01, reload_grace=0, silence=0.05, position_check=3600),
        on_presence=Silent(),
    )


async def test_whoever_left_while_the_mailbox_was_full_is_missed_by_and_by(nursery: trio.Nursery) -> None:
    """
    The hub has forgotten the session; the actor compares, and tells those who are still there.
    """
    hub, plain = Channels(), Plain()
    mailbox: Mailbox[EpisodeMessage] = Mailbox(10, name="pilot")
    await nursery.start(actor_of(hub, mailbox).run)
    clients = {name: Client(SessionId(name), plain) for name in ("alice", "bob")}
    for name, client in clients.items():
        now = utc_now()
        meta = Meta(user=UserId(name), name=name, joined_at=now, active_at=now)
        hub.track(presence_topic(episode_topic(PILOT)), client.session, meta)

        def joining(reply: Reply[None], client: Client = client, meta: Meta = meta) -> Join:
            return Join(session=client.session, meta=meta, outlet=client, format=plain, reply=reply)

        await ask(mailbox, joining)
    hub.drop_session(clients["bob"].session)
    await clients["alice"].wait(lambda it: it.presence[-1]["left"] == ["bob"])
    assert clients["alice"].presence[-1]["total"] == 1
    nursery.cancel_scope.cancel()
