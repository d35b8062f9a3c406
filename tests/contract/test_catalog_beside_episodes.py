"""Who listens to the catalog and to an episode on one connection: what each tells, and what the other."""

import pytest

from engine.domain.event import CATALOG
from engine.runtime.mailbox import ask
from tests.patience import patience


@pytest.mark.parametrize("one_stream", [False, True])
async def test_what_an_episode_s_topic_told_before_the_catalog_did_is_no_hole(
    lobby, client, studio, one_stream
):
    """
    Nobody listened to the catalog on that connection then, unless it is one stream; what comes later, the
    episode's topic tells alone.
    """
    await lobby.start()
    start = lobby.actor.position
    both = client("both")
    async with studio.transaction() as open_:
        held = await open_.create()  # so that the feed brings nothing
        created = await studio.create()
        # As its actor does it.
        lobby.hub.subscribe(created.topic, both.session, both, both.format, after=0)
        lobby.hub.note_position(created.topic, created.offset)
        assert (await lobby.subscribe(both, start, one_stream=one_stream))["recovered"]
        changed = await studio.update(created.topic.removeprefix("episode:"))
        lobby.hub.note_position(created.topic, changed.offset)
        lobby.feed.committed(created, changed)
        (last,) = await lobby.write()
        await both.wait(lambda it: it.ids[-1:] == [last.id])
        assert both.ids == [event.id for event in ([last] if one_stream else [created, last])]
    await both.wait(lambda it: held.id in it.ids)


@pytest.mark.parametrize(("owns_past", "told"), [(False, [2]), (True, [])])
async def test_the_catalog_still_tells_what_a_returning_client_is_not_told_here(
    stage, client, owns_past, told
):
    """
    It may be behind, and whoever listens to it on that connection alone has not heard it yet; unless all
    that the client ever listened to is one stream.
    """
    await stage.start()
    watched = client("watched")
    await stage.subscribe(watched)
    events = await stage.studio.write(stage.id, 3)
    stage.tell(*events)
    await watched.wait(lambda it: len(it.offsets) == 3)
    back, listener = client("back"), client("back")
    stage.hub.subscribe(CATALOG, back.session, listener, listener.format)
    with patience():
        await ask(stage.mailbox, lambda reply: stage.subscribing(back, 2, owns_past=owns_past, reply=reply))
    assert back.offsets == [3, 4]
    for event in events:
        stage.hub.publish(CATALOG, [event], but_not=event.topic, at=event.offset)
    assert listener.offsets == told
