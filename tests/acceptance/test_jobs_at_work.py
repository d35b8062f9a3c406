"""The jobs that come with Greenroom, from outside: a file becomes episodes, a composition a picture."""

import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import trio
from PIL import Image

from tests.acceptance.outside import Listener, Program, eventually

Serve = Callable[..., Awaitable[Program]]
Listen = Callable[..., Awaitable[Listener]]
ENDED = ("completed", "failed", "cancelled")
# A node that was killed is missed after this.
SHORT_LEASE = {"GREENROOM_JOBS_LEASE": "1s"}


def write_season(data_dir: Path, name: str, count: int) -> list[str]:
    """
    A CSV file of episodes in the node's data directory; answers their titles.
    """
    folder = data_dir / "imports"
    folder.mkdir(exist_ok=True)
    titles = [f"{name} {number}" for number in range(count)]
    rows = (f'"{title}",{number},Drama; Crime\n' for number, title in enumerate(titles))
    (folder / name).write_text("title,episode_number,categories\n" + "".join(rows), "utf-8")
    return titles


async def submit(program: Program, kind: str, payload: dict[str, Any], **more: Any) -> str:
    answer = await program.ask("POST", "/api/v1/jobs", {"type": kind, "payload": payload, **more})
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


async def ended(program: Program, job: str) -> dict[str, Any]:
    """
    The job, once it has ended.
    """
    found: dict[str, Any] = {}

    async def is_ended() -> bool:
        found.update((await program.ask("GET", f"/api/v1/jobs/{job}")).json)
        return found["state"] in ENDED

    await eventually(is_ended)
    return found


def of_job(listener: Listener, job: str) -> list[dict[str, Any]]:
    return [
        frame for frame in listener.frames() if "job" in frame["data"] and frame["data"]["job"]["id"] == job
    ]


async def test_a_file_of_a_thousand_episodes_is_imported_before_everybodys_eyes(
    serve: Serve, listen: Listen
) -> None:
    """
    With nothing configured: progress to who listens to jobs, then the completion, and the episodes are there.
    """
    program = await serve()
    titles = write_season(program.data_dir, "season1.csv", 1000)
    bob = await listen(program, "bob@example.com")
    assert (await bob.answer("subscribed", type="subscribe", topic="jobs"))["type"] == "ok"
    job = await submit(program, "episode.import", {"path": "season1.csv"})
    done = await ended(program, job)
    assert (done["state"], done["attempt"]) == ("completed", 1), done
    assert done["result"] == {"path": "season1.csv", "episodes": 1000}
    await bob.wait(lambda: of_job(bob, job) and of_job(bob, job)[-1]["event"] == "job_completed")
    frames = of_job(bob, job)
    progress = [frame["data"]["job"]["progress"] for frame in frames if frame["event"] == "job_progress"]
    assert len(progress) >= 2 and progress == sorted(progress)
    assert frames[-1]["data"]["result"]["episodes"] == 1000

    await assert_imported_once(program, [job], titles)
    (episode,) = (await program.ask("GET", "/api/v1/episodes?limit=1")).json["data"]
    assert episode["created_by"] == "alice@example.com"
    (event,) = (await program.ask("GET", f"/api/v1/episodes/{episode['id']}/events")).json["data"]
    assert (event["event"], event["offset"]) == ("episode_created", 1)


async def test_a_file_with_mistakes_creates_nothing_and_names_them_all(serve: Serve) -> None:
    """
    The job fails at once, without being tried again, and tells each mistake by its line and field.
    """
    program = await serve()
    folder = program.data_dir / "imports"
    folder.mkdir()
    rows = [{"title": f"Episode {number}"} for number in range(600)]
    rows[3] = {"title": "", "status": "done"}
    (folder / "bad.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]", "utf-8")
    done = await ended(program, await submit(program, "episode.import", {"path": "bad.json"}))
    assert (done["state"], done["attempt"]) == ("failed", 1)
    assert done["error"].splitlines() == [
        "imports/bad.json: 2 mistakes, nothing was imported",
        "line 5: title must be a string of 1 to 200 characters, not 0",
        "line 5: status must be one of draft, in_review, approved, published, archived",
    ]
    assert (await program.ask("GET", "/api/v1/episodes")).json["total"] == 0
    for path in ("../secret", "/etc/passwd", "a.xlsx", 7):
        answer = await program.ask(
            "POST", "/api/v1/jobs", {"type": "episode.import", "payload": {"path": path}}
        )
        assert answer.status == 422, answer.body
    (folder / "link.csv").symlink_to(program.data_dir / "secret")
    done = await ended(program, await submit(program, "episode.import", {"path": "link.csv"}))
    assert "symbolic link" in done["error"]


@pytest.mark.slow
async def test_imports_that_are_killed_again_and_again_create_every_episode_once(serve: Serve) -> None:
    """
    kill -9 at points spread over all of it; the next node finishes it, and nothing is there twice.
    """
    program = await serve(**SHORT_LEASE)
    titles: list[str] = []
    jobs: list[str] = []
    for number in range(4):
        name = f"season{number}.csv"
        titles += write_season(program.data_dir, name, 1500)
        jobs.append(await submit(program, "episode.import", {"path": name}))
        # An import takes some tenths of a second; wherever in it this hits, the sum must be right.
        await trio.sleep(0.1 * number)
        await program.kill()
        program = await serve(**SHORT_LEASE)
    await assert_imported_once(program, jobs, titles)


@pytest.mark.slow
async def test_an_import_killed_before_its_last_row_is_written_begins_anew(
    serve: Serve, empty_database: str
) -> None:
    """
    The database stops at the last episode until we let it; at that very moment the node is killed.
    """
    program = await serve(DATABASE_URL=url_of(empty_database), **SHORT_LEASE)
    titles = write_season(program.data_dir, "season1.csv", 1500)
    with psycopg.connect(empty_database, autocommit=True) as outsider:
        outsider.execute(STOP_AT_THE_LAST)
        outsider.execute("select pg_advisory_lock(42)")
        job = await submit(program, "episode.import", {"path": "season1.csv"})
        waiting = "select from pg_locks where locktype = 'advisory' and objid = 42 and not granted"
        await eventually(lambda: outsider.execute(waiting).fetchone() is not None)
        await program.kill()
        outsider.execute("select pg_advisory_unlock(42)")
        await eventually(lambda: outsider.execute(waiting).fetchone() is None)
        assert outsider.execute("select count(*) from episodes").fetchone() == (0,)
    again = await serve(DATABASE_URL=url_of(empty_database), **SHORT_LEASE)
    await assert_imported_once(again, [job], titles)
    assert (await ended(again, job))["attempt"] == 2


STOP_AT_THE_LAST = """
create function stop() returns trigger language plpgsql as
'begin perform pg_advisory_xact_lock(42); return new; end';
create trigger stop after insert on episodes
for each row when (new.title = 'season1.csv 1499') execute function stop();
"""


async def assert_imported_once(program: Program, jobs: list[str], titles: list[str]) -> None:
    """
    Every job ends well, and every episode is there once, with one record.
    """
    for job in jobs:
        done = await ended(program, job)
        assert done["state"] == "completed", done
    episodes = await program.everything("/episodes")
    assert sorted(episode["title"] for episode in episodes) == sorted(titles)
    await program.wait_recorded()
    created = [one for one in await program.everything("/activity") if one["action"] == "CREATE"]
    assert sorted(one["resourceId"] for one in created) == sorted(episode["id"] for episode in episodes)


def url_of(conninfo: str) -> str:
    """
    Where a database is, as operators write it.
    """
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    where = f"{parts['dbname']}?host={quote(str(parts['host']))}&port={parts['port']}"
    return f"postgresql://{parts['user']}@/{where}"


async def test_a_composition_is_drawn_and_served_as_a_picture(serve: Serve, listen: Listen) -> None:
    """
    404 before, an image after it, marked as old when the composition has changed; all in the episode's log.
    """
    program = await serve()
    (program.data_dir / "images").mkdir()
    photo = Image.new("RGB", (40, 30), (0, 0, 255))
    photo.save(program.data_dir / "images" / "photo.jpg")
    episode = await program.create("Pilot")
    bob = await listen(program, "bob@example.com")
    assert (await bob.answer("subscribed", type="subscribe", topic=f"episode:{episode['id']}"))[
        "type"
    ] == "ok"
    layers = [
        {"kind": "box", "color": "#ff0000"},
        {"kind": "image", "image": "photo.jpg", "x": 100, "y": 0, "width": 200, "height": 100},
        {"kind": "text", "text": "Pilot", "x": 0, "y": 100, "size": 40, "color": "white"},
    ]
    part = f"/api/v1/episodes/{episode['id']}/compositions"
    poster = (await program.ask("POST", part, {"name": "Poster", "layers": layers})).json
    path = f"{part}/{poster['id']}/image"
    missing = await program.ask("GET", path)
    assert missing.status == 404 and "composition.render" in missing.json["detail"]

    payload = {"composition_id": poster["id"], "width": 400, "height": 200}
    job = await submit(program, "composition.render", payload, episode_id=episode["id"])
    done = await ended(program, job)
    assert done["state"] == "completed", done
    assert done["result"]["image"] == path
    served = await program.ask("GET", path, token=program.token("carol@example.com", "viewer"))
    assert (served.status, served.headers["content-type"]) == (200, "image/png")
    assert served.headers["x-content-type-options"] == "nosniff"
    assert served.headers["x-rendered-version"] == served.headers["x-composition-version"] == "1"
    picture = Image.open(io.BytesIO(served.body))
    assert (picture.format, picture.size, len(served.body)) == ("PNG", (400, 200), done["result"]["bytes"])
    assert picture.getpixel((10, 10)) == (255, 0, 0, 255)
    red, _, blue, _ = picture.getpixel((200, 50))
    assert red < 10 and blue > 240
    assert 255 in picture.crop((0, 100, 200, 150)).getchannel("G").get_flattened_data()

    known = {"If-None-Match": served.headers["etag"]}
    assert (await program.ask("GET", path, headers=known)).status == 304
    assert (await program.ask("GET", path, token="")).status == 401
    await program.ask("PATCH", path.removesuffix("/image"), {"layers": layers[:1]})
    old = await program.ask("GET", path)
    assert (old.headers["x-rendered-version"], old.headers["x-composition-version"]) == ("1", "2")
    await ended(program, await submit(program, "composition.render", payload))
    new = await program.ask("GET", path, headers=known)
    assert (new.status, new.headers["x-rendered-version"]) == (200, "2")
    assert new.headers["etag"] != served.headers["etag"]
    await bob.wait(lambda: any(frame["event"] == "job_completed" for frame in of_job(bob, job)))


async def test_a_composition_that_cannot_be_drawn_says_why(serve: Serve) -> None:
    """
    Every wrong layer, at once; the node lives on.
    """
    program = await serve()
    episode = await program.create("Pilot")
    layers = [
        {"kind": "box", "color": "blurple"},
        {"kind": "image", "image": "https://example.com/poster.png"},
    ]
    part = f"/api/v1/episodes/{episode['id']}/compositions"
    poster = (await program.ask("POST", part, {"name": "Poster", "layers": layers})).json
    done = await ended(program, await submit(program, "composition.render", {"composition_id": poster["id"]}))
    assert (done["state"], done["attempt"]) == ("failed", 1)
    told = done["error"].splitlines()
    assert told[0] == f"composition {poster['id']}, version 1, cannot be drawn"
    assert [line.split(" ")[0] for line in told[1:]] == ["layers[0].color", "layers[1].image"]
    wrong = {"composition_id": poster["id"], "width": 8192, "height": 8192}
    answer = await program.ask("POST", "/api/v1/jobs", {"type": "composition.render", "payload": wrong})
    assert answer.status == 422
    assert (await program.ask("GET", f"{part}/{poster['id']}/image")).status == 404
