"""The jobs that come with Greenroom, in a node: what other plugins, and other people, may do to them."""

import attrs
import pytest
import trio
from PIL import Image

from engine.domain.fields import FieldError
from engine.hookspecs import InvalidEpisodesError, JobContext, JobHandler, hookimpl
from plugins import renders
from plugins.drawing import process
from tests.gateway.node_fixture import NOBODYS
from tests.gateway.test_jobs import ended, submit
from tests.patience import patience


class NoMondays:
    """
    A plugin that refuses some episodes.
    """

    @staticmethod
    @hookimpl
    def validate_episode(identity, before, after):
        assert before is None
        if after["title"] == "Monday":
            return [FieldError("title", f"must not be a Monday, {identity.user}")]
        return None


@attrs.define(eq=False)
class Maker:
    """
    A plugin whose job creates what its payload has.
    """

    refused: list[InvalidEpisodesError] = attrs.field(factory=list)

    async def make(self, context: JobContext) -> list[str]:
        async with context.transaction() as transaction:
            try:
                return list(await transaction.create_episodes(context.job.payload["episodes"]))
            except InvalidEpisodesError as error:
                self.refused.append(error)
                raise

    @hookimpl
    def job_handlers(self):
        return [JobHandler(type="test.make", run=self.make, max_attempts=1)]


@pytest.fixture
async def start(start_greenroom, tmp_path):
    for folder in ("imports", "images"):
        (tmp_path / folder).mkdir()
    return lambda **plugins: start_greenroom({"node.data_dir": str(tmp_path)}, plugins=plugins)


@pytest.fixture
async def poster(start):
    """
    A node, and a composition there.
    """
    node = await start()
    episode = await node.create()
    given = {"name": "Poster", "layers": [{"kind": "box", "color": "#f00"}]}
    made = (await node.request("POST", f"episodes/{episode['id']}/compositions", given)).json
    return node, made


def path_of(composition):
    return f"episodes/{composition['episode_id']}/compositions/{composition['id']}"


async def test_an_import_is_no_way_around_a_plugin_that_refuses(start, tmp_path):
    """
    It is asked about each episode, on behalf of the submitter; what it finds is told by line.
    """
    node = await start(no_mondays=NoMondays())
    (tmp_path / "imports" / "week.csv").write_text("title\nSunday\nMonday\nTuesday\nMonday\n")
    done = await ended(node, await submit(node, "episode.import", {"path": "week.csv"}))
    assert (done["state"], done["attempt"]) == ("failed", 1)
    assert done["error"].splitlines() == [
        "imports/week.csv: 2 mistakes, nothing was imported",
        "line 3: title must not be a Monday, alice@example.com",
        "line 5: title must not be a Monday, alice@example.com",
    ]
    assert node.rows("select count(*) from episodes") == [(0,)]


async def test_a_handler_s_episodes_are_the_submitter_s_as_if_posted(start):
    """
    With the submission's own origin in every event, and what is left out at its default.
    """
    node = await start(maker=Maker())
    listener = await node.connect()
    given = [{"title": " One "}, {"title": "Two", "status": "approved", "categories": ["Drama"]}]
    done = await ended(node, await submit(node, "test.make", {"episodes": given}))
    one, two = [(await node.request("GET", f"episodes/{id}")).json for id in done["result"]]
    assert (one["title"], one["status"], one["version"], one["created_by"]) == (
        "One",
        "draft",
        1,
        "alice@example.com",
    )
    assert (two["status"], two["categories"]) == ("approved", ["Drama"])
    posted = await node.create("Posted")
    requests = dict(node.rows("select topic, request from events where type = 'episode_created'"))
    (ours, theirs) = (requests[f"episode:{episode['id']}"] for episode in (one, posted))
    assert ours["ip"] == theirs["ip"] and ours["mutation_id"] != theirs["mutation_id"]
    seen = []
    with patience():
        while len(seen) < 3:
            message = await listener.receive()
            if message.get("event") == "episode_created":
                seen.append(message["data"]["episode"]["title"])
    assert sorted(seen) == ["One", "Posted", "Two"]


async def test_a_handler_s_episodes_are_listed_in_the_order_given(start):
    """
    By age, although they are created at one moment.
    """
    node = await start(maker=Maker())
    titles = [f"Episode {number}" for number in range(30)]
    await ended(node, await submit(node, "test.make", {"episodes": [{"title": title} for title in titles]}))
    listed = (await node.request("GET", "episodes?sort=created_at&limit=100")).json["data"]
    assert [episode["title"] for episode in listed] == titles


async def test_a_handler_s_wrong_episodes_are_refused_all_at_once(start):
    """
    By their place and field; none is created.
    """
    maker = Maker()
    node = await start(maker=maker, no_mondays=NoMondays())
    given = [{"title": "One"}, {"title": ""}, {"title": "Monday"}, {"titel": "Four"}, 5]
    done = await ended(node, await submit(node, "test.make", {"episodes": given}))
    assert done["state"] == "failed"
    (error,) = maker.refused
    assert [(place, wrong.field) for place, wrong in error.errors] == [
        (1, "title"),
        (2, "title"),
        (3, "title"),
        (3, "titel"),
        (4, ""),
    ]
    assert "5 fields of episodes are wrong" in done["error"]
    assert node.rows("select count(*) from episodes") == [(0,)]


@pytest.mark.parametrize(
    "kind, payload, field",
    [
        ("episode.import", {}, "path"),
        ("episode.import", {"path": "a.txt"}, "path"),
        ("episode.import", {"path": "../a.csv"}, "path"),
        ("episode.import", {"path": "a.csv", "into": "b"}, "into"),
        ("composition.render", {"composition_id": "x"}, "composition_id"),
        ("composition.render", {"composition_id": NOBODYS, "width": 0}, "width"),
        ("composition.render", {"composition_id": NOBODYS, "width": 8000, "height": 8000}, "width"),
    ],
)
async def test_a_wrong_payload_is_refused_when_it_is_submitted(start, kind, payload, field):
    """
    422, naming the field; no job comes of it.
    """
    node = await start()
    answer = await node.request("POST", "jobs", {"type": kind, "payload": payload})
    assert [name.removeprefix("payload.") for name in answer.fields()] == [field]
    assert node.rows("select count(*) from processing_queue") == [(0,)]


async def test_a_render_of_what_is_not_there_fails_at_once(poster):
    """
    No composition, or one of another episode.
    """
    node, made = poster
    other = await node.create("Other")
    for payload, more, says in (
        ({"composition_id": NOBODYS}, {}, "there is no composition"),
        ({"composition_id": made["id"], "episode_id": other["id"]}, {}, "not of"),
        ({"composition_id": made["id"]}, {"episode_id": other["id"]}, "not of"),
    ):
        done = await ended(node, await submit(node, "composition.render", payload, **more))
        assert (done["state"], done["attempt"]) == ("failed", 1)
        assert says in done["error"]


async def test_an_older_picture_never_replaces_a_newer_one(poster, monkeypatch):
    """
    Two are drawn at once, and the one that began first ends last.
    """
    node, made = poster
    held, reached, draw = trio.Event(), trio.Event(), process.draw

    async def drawing(order, told):
        if not reached.is_set():
            reached.set()
            await held.wait()
        return await draw(order, told)

    monkeypatch.setattr(renders.process, "draw", drawing)
    old = await submit(node, "composition.render", {"composition_id": made["id"]})
    await reached.wait()
    layers = [{"kind": "box", "color": "#00f"}]
    await node.request("PATCH", path_of(made), {"layers": layers})
    new = await ended(node, await submit(node, "composition.render", {"composition_id": made["id"]}))
    held.set()
    done = await ended(node, old)
    assert (new["state"], new["result"]["version"]) == ("completed", 2)
    assert (done["state"], done["result"]["version"]) == ("completed", 1)
    answer = await node.request("GET", f"{path_of(made)}/image")
    assert answer.headers["x-rendered-version"] == "2"


async def test_a_composition_deleted_while_it_is_drawn_leaves_no_picture(poster, monkeypatch):
    """
    The job fails, and says why.
    """
    node, made = poster
    draw = process.draw

    async def drawing(order, told):
        done = await draw(order, told)
        assert (await node.request("DELETE", path_of(made))).status == 204
        return done

    monkeypatch.setattr(renders.process, "draw", drawing)
    done = await ended(node, await submit(node, "composition.render", {"composition_id": made["id"]}))
    assert (done["state"], "was deleted while it was drawn" in done["error"]) == ("failed", True)
    assert node.rows("select count(*) from composition_images") == [(0,)]


async def test_a_render_that_is_cancelled_ends_with_its_process(poster, tmp_path):
    """
    Although there is much to draw still.
    """
    node, made = poster
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "a.png")
    layers = [{"kind": "box", "color": "#ffffff10"}] * 100
    await node.request("PATCH", path_of(made), {"layers": layers})
    listener = await node.subscriber("jobs")
    payload = {"composition_id": made["id"], "width": 4096, "height": 4096}
    job = await submit(node, "composition.render", payload)
    with patience():
        while (await listener.receive()).get("event") != "job_progress":
            pass
    assert (await node.request("POST", f"jobs/{job}/cancel")).status in (200, 202)
    assert (await ended(node, job))["state"] == "cancelled"
    (await node.request("GET", f"{path_of(made)}/image")).problem(404)
