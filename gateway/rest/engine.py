"""The engine itself over REST, for operators: the supervision tree, plugins, health."""

from datetime import datetime
from typing import Any

import attrs
import trio
from prometheus_client import CollectorRegistry
from quart import Blueprint
from quart_schema import security_scheme, tag

from engine.actors.effects import EffectActor
from engine.domain.access import Action
from engine.domain.event import EventId, iso
from engine.hookspecs import Resource
from engine.node import Node
from gateway.rest.edge import Edge, answer, body, path_id
from gateway.rest.messages import Response
from gateway.rest.numbers import numbers
from gateway.rest.problems import Problem

SHOWN_FAILURES = 10
# Seconds that a plugin's actor has to end its quarantine.
PATIENCE = 5.0


def blueprint(at: Edge, registry: CollectorRegistry) -> Blueprint:
    """
    The routes under /api/v1/engine.
    """
    routes = Blueprint("engine", __name__, url_prefix="/api/v1/engine")
    node = at.node

    @routes.get("/tree")
    @tag(["engine"])
    async def read_tree() -> Response:
        """
        The supervision tree as it is now. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        return answer({**node.tree(), "plugins": _states(node), "numbers": numbers(registry)})

    @routes.get("/plugins")
    @tag(["engine"])
    async def list_plugins() -> Response:
        """
        All plugins: state, cursor, lag, failures. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        return answer({"data": [await _plugin(name) for name in node.plugins.names()]})

    @routes.get("/plugins/<name>")
    @tag(["engine"])
    async def read_plugin(name: str) -> Response:
        """
        One plugin, with its latest failures and their tracebacks. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        if name not in node.plugins.names():
            raise _unknown(name)
        failures = await node.store.cursors.failures(name, SHOWN_FAILURES)
        shown = [{**attrs.asdict(failure), "at": _time(failure.at)} for failure in failures]
        return answer({**await _plugin(name), "failures": shown})

    @routes.post("/plugins/<name>/resume")
    @tag(["engine"])
    async def resume_plugin(name: str) -> Response:
        """
        End a plugin's quarantine; it goes on where it stopped. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        try:
            with trio.fail_after(PATIENCE):
                known = await node.resume_plugin(name)
        except trio.TooSlowError:
            raise Problem(
                503,
                f"plugin {name} did not go on within {PATIENCE:g} s; "
                f"if `greenroom actor list` has it parked, `greenroom actor resume {name}` comes first",
                headers={"Retry-After": f"{PATIENCE:.0f}"},
            ) from None
        if not known:
            raise _unknown(name)
        return answer(await _plugin(name))

    @routes.post("/plugins/<name>/replay")
    @tag(["engine"])
    async def replay_plugin(name: str) -> Response:
        """
        Hand a plugin an event, or `beginning`, and all after it once more: `{"from": …}`. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        if name not in node.effects:
            raise _unknown(name)
        event = _event_of(await body())
        if not await node.store.cursors.replay(name, event):
            raise Problem(404, "the log has no such event, or no more of it")
        # Its next life reads the cursor; at work, it would find out at its next commit.
        await node.plugin_supervisor.restart_child(name)
        place = (await node.store.cursors.open(name, node.feed.place)).place
        cursor = {"xid": place.xid, "seq": place.seq}
        lag = await node.store.cursors.lag(place)
        return answer({**await _plugin(name), "cursor": cursor, "lag": lag})

    async def _plugin(name: str) -> dict[str, Any]:
        actor = node.effects.get(name)
        if actor is None:
            return {"name": name, "state": "running", "effects": False}
        lag = node.meter.lag[name] = await node.store.cursors.lag(actor.cursor.place)
        return {"name": name, "state": _state(actor), "effects": True, **_numbers(actor), "lag": lag}

    def _unknown(name: str) -> Problem:
        return Problem(404, f"there is no plugin {name!r}; there are {', '.join(node.plugins.names())}")

    return routes


def health(at: Edge) -> Blueprint:
    """
    The routes that tell a load balancer whether to send anybody here.
    """
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    @security_scheme([])
    @tag(["health"])
    async def healthz() -> Response:
        """
        Whether the process lives.
        """
        return answer({"status": "ok"})

    @routes.get("/readyz")
    @security_scheme([])
    @tag(["health"])
    async def readyz() -> Response:
        """
        Whether requests can be served: 503 while the database is away.
        """
        await at.node.store.log.epoch()
        return answer({"status": "ready"})

    return routes


def _states(node: Node) -> list[dict[str, Any]]:
    return [
        {"name": name, "state": _state(actor), **_numbers(actor), "lag": node.meter.lag[name]}
        for name, actor in node.effects.items()
    ]


def _event_of(given: object) -> EventId | None:
    start = given.get("from") if isinstance(given, dict) and set(given) == {"from"} else None
    if start == "beginning":
        return None
    if not isinstance(start, str):
        raise Problem(422, 'send {"from": "<event id>"} or {"from": "beginning"}')
    return EventId(path_id(start, "event"))


def _state(actor: EffectActor) -> str:
    if actor.quarantined_at is not None:
        return "quarantined"
    return "retrying" if actor.failures else "running"


def _numbers(actor: EffectActor) -> dict[str, Any]:
    return {
        "cursor": {"xid": actor.cursor.place.xid, "seq": actor.cursor.place.seq},
        "handled_total": actor.handled_total,
        "failed_total": actor.failed_total,
        "failures_in_a_row": actor.failures,
        "last_error": actor.last_error,
        "quarantined_at": _time(actor.quarantined_at),
        "reason": actor.cursor.reason,
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
