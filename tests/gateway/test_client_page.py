"""The example in the Python client's page, against a node."""

import re
from pathlib import Path
from typing import Any

import trio

from tests.gateway.node_fixture import RunningNode
from tests.patience import patience

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text("utf-8")


async def test_the_example_tells_what_it_says(greenroom: RunningNode) -> None:
    """
    As it stands there, but for the node's address, the token and the episode.
    """
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    episode = (await greenroom.create("Pilot"))["id"]
    for there, here in (
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{greenroom.port}"),
        ('token="…"', f"token={greenroom.token()!r}"),
        ("episode:0b54…", f"episode:{episode}"),
        ("\ntrio.run(main)\n", ""),
    ):
        assert there in example
        example = example.replace(there, here)
    told: list[tuple[Any, ...]] = []
    heard = trio.Event()

    def show(*words: Any) -> None:
        told.append(words)
        heard.set()

    names: dict[str, Any] = {"print": show}
    exec(example, names)
    with patience():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names["main"])
            await heard.wait()
            assert told == [("Pilot",)]
            heard = trio.Event()
            await greenroom.request("PATCH", f"episodes/{episode}", {"title": "Pilot 2"})
            await heard.wait()
            nursery.cancel_scope.cancel()
    assert told[1] == ("changed:", ["title"])
