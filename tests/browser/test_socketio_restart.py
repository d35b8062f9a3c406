"""The unmodified Socket.IO client while the node is killed and started again; and a thousand of it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.acceptance.outside import Program
from tests.browser.chromium import Chromium
from tests.browser.node_page import SOON, node_page
from tests.browser.socket_page import SocketPage
from tests.gateway.node_fixture import RunningNode

Serve = Callable[..., Awaitable[Program]]

CROWD = 1000


async def through_a_crash(serve: Serve, page: SocketPage, options: dict[str, Any]) -> None:
    """
    Events before, during and after; a room that is entered once.
    """
    program = await serve()
    auth = {"token": program.token("bob@example.com", "viewer")}
    quick = {"reconnectionDelay": 100, "reconnectionDelayMax": 200}
    await page.connect(f"http://127.0.0.1:{program.port}", auth, **quick, **options)
    episode = (await program.create("One"))["id"]
    room = {"resourceType": "episode", "resourceId": episode, "userName": "Bob"}
    assert await page.ask("presence:join", room) == {"ok": True}
    titles = ["One"]
    for crash in range(2):
        titles.append(f"Before crash {crash}")
        await program.create(titles[-1])
        await page.heard(len(titles), of="episode_created")
        await program.kill()
        program = await serve("--port", program.port, data_dir=program.data_dir)
        titles.append(f"After crash {crash}")
        await program.create(titles[-1])
        await page.heard(len(titles), of="episode_created")
    heard = await page.heard(len(titles), of="episode_created")
    assert [data["episode"]["title"] for _, data, _ in heard] == titles
    states = await page.states()
    connects = [state[1:] for state in states if state[0] == "connect"]
    assert [recovered for _, recovered in connects] == [False, True, True]
    assert len({id for id, _ in connects}) == 1
    answer = await program.ask("GET", f"/api/v1/episodes/{episode}/presence")
    assert json.loads(answer.body)["total"] == 1
    await page.run("kept.socket.close()")


@pytest.mark.parametrize("options", [{}, {"transports": ["polling"]}], ids=["default", "polling"])
async def test_a_page_recovers_from_crashes_of_the_node(
    serve: Serve, packages: Any, options: dict[str, Any]
) -> None:
    """
    Nothing missed, nothing twice, still in its rooms, by the same id.
    """
    async with node_page() as running:
        await through_a_crash(serve, SocketPage(running.run), options)


async def test_a_browser_recovers_from_crashes_of_the_node(serve: Serve, browser: Chromium) -> None:
    """
    The same in Chromium.
    """
    await through_a_crash(serve, await SocketPage.in_tab(await browser.open()), {})


async def test_a_thousand_clients_hear_everything(start_greenroom: Any) -> None:
    """
    Over WebSocket, each of them once, in order.
    """
    greenroom: RunningNode = await start_greenroom({"limits.sessions_per_user": CROWD})
    async with node_page() as running:
        argument = {
            "url": f"http://127.0.0.1:{greenroom.port}/real-time",
            "token": greenroom.token("bob@example.com"),
            "count": CROWD,
        }
        with trio.fail_after(SOON):
            await running.run(
                """
                kept.heard = [];
                kept.sockets = [];
                for (let number = 0; number < argument.count; number++) {
                    const socket = io(argument.url, {
                        auth: { token: argument.token }, transports: ["websocket"], forceNew: true });
                    const titles = [];
                    kept.heard.push(titles);
                    socket.on("episode_created", (data) => titles.push(data.episode.title));
                    kept.sockets.push(socket);
                    if (number % 50 === 49)
                        await Promise.all(kept.sockets.slice(-50).map((socket) => socket.connected ||
                            new Promise((done) => socket.once("connect", done))));
                }
                """,
                argument,
            )
            titles = [f"Episode {number}" for number in range(10)]
            for title in titles:
                await greenroom.create(title)
            counts = await running.run(
                """
                while (!kept.heard.every((titles) => titles.length >= argument.length))
                    await new Promise((again) => setTimeout(again, 20));
                const wanted = JSON.stringify(argument);
                return kept.heard.filter((titles) => JSON.stringify(titles) === wanted).length;
                """,
                titles,
            )
    assert counts == CROWD
