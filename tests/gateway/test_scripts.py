"""The JavaScript client is served to frontends of any origin, and kept by browsers until it changes."""

from pathlib import Path

import pytest

from tests.gateway.node_fixture import RunningNode

WEB = Path(__file__).parents[2] / "gateway" / "web"
SCRIPTS = {path.name: path.read_bytes() for path in sorted(WEB.glob("*.[jt]s"))}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_is_served_as_it_is(greenroom: RunningNode, name: str) -> None:
    """
    With its type, without a token, and not again to who has it.
    """
    answer = await greenroom.request("GET", f"/{name}", token="")
    assert (answer.status, answer.body) == (200, SCRIPTS[name])
    kind = "text/javascript" if name.endswith(".js") else "text/plain"
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    again = await greenroom.request("GET", f"/{name}", token="", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == tag
    other = await greenroom.request("GET", f"/{name}", token="", headers={"If-None-Match": '"old"'})
    assert other.status == 200


async def test_nothing_else_is_served_from_there(greenroom: RunningNode) -> None:
    """
    Only what is meant for browsers.
    """
    for name in ("package.json", "client.py", "client.js/..", "%2e%2e/app.py"):
        assert (await greenroom.request("GET", f"/{name}", token="")).status == 404
