"""An operator hands a plugin what it has had already, from an event on."""

from engine.hookspecs import hookimpl
from tests.gateway.node_fixture import NOBODYS, until


class Diary:
    """
    Remembers the titles that it was handed.
    """

    def __init__(self):
        self.titles = []
        self.fails = False

    @hookimpl
    async def on_event(self, event):
        if self.fails:
            raise RuntimeError("not now")
        self.titles.append(event.data["episode"]["title"])


async def test_a_plugin_is_handed_an_event_and_all_after_it_once_more(start_greenroom):
    """
    Idle as it is, it begins at once; the others are not touched.
    """
    diary = Diary()
    node = await start_greenroom(plugins={"diary": diary})
    for title in ("one", "two", "three"):
        await node.create(title)
    await until(lambda: diary.titles == ["one", "two", "three"])
    [event] = node.rows("select id::text from events where data->'episode'->>'title' = 'two'")[0]
    answer = await node.request("POST", "engine/plugins/diary/replay", {"from": event}, role="operator")
    assert answer.status == 200
    await until(lambda: diary.titles == ["one", "two", "three", "two", "three"])
    await node.request("POST", "engine/plugins/diary/replay", {"from": "beginning"}, role="operator")
    await until(lambda: diary.titles[5:] == ["one", "two", "three"])
    await until(lambda: node.node.effects["activity"].handled_total == 3)


async def test_a_quarantined_plugin_can_be_put_before_what_it_broke_at(start_greenroom):
    """
    The replay moves its cursor only; it is resumed when the operator says so.
    """
    diary = Diary()
    options = {"plugins.diary.failures_to_quarantine": 1, "supervision.plugin.backoff_first": "1ms"}
    node = await start_greenroom(options, plugins={"diary": diary})
    await node.create("one")
    await until(lambda: diary.titles == ["one"])
    diary.fails = True
    await node.create("two")
    await until(lambda: node.node.effects["diary"].quarantined_at)
    diary.fails = False
    shown = await node.request("POST", "engine/plugins/diary/replay", {"from": "beginning"}, role="operator")
    assert shown.json["lag"] == 2
    await until(lambda: node.node.effects["diary"].quarantined_at)
    await node.request("POST", "engine/plugins/diary/resume", role="operator")
    await until(lambda: diary.titles == ["one", "one", "two"])


async def test_a_replay_of_nothing_is_refused(start_greenroom):
    """
    With what would be right.
    """
    node = await start_greenroom(plugins={"diary": Diary()})
    path = "engine/plugins/diary/replay"
    (await node.request("POST", path, {"from": NOBODYS}, role="operator")).problem(404)
    (await node.request("POST", path, {"from": "yesterday"}, role="operator")).problem(400)
    (await node.request("POST", path, {}, role="operator")).problem(422)
    (await node.request("POST", path, {"from": "beginning"})).problem(403)
    nobody = await node.request(
        "POST", "engine/plugins/nobody/replay", {"from": "beginning"}, role="operator"
    )
    nobody.problem(404)
