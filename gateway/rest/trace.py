"""What became of a write, for operators: its commit, each effect, how many frames."""

from typing import Any

from quart import Blueprint
from quart_schema import tag

from engine.domain.access import Action
from engine.domain.event import Event, iso
from engine.hookspecs import Resource
from engine.node import Node
from engine.store.mutations import Outcome
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response
from gateway.rest.problems import Problem

# Events of one request that are shown: a client may have chosen one id for all of its requests.
SHOWN = 100


def blueprint(at: Edge) -> Blueprint:
    """
    The route /api/v1/trace.
    """
    routes = Blueprint("trace", __name__, url_prefix="/api/v1/trace")

    @routes.get("/<id>")
    @tag(["engine"])
    async def read_trace(id: str) -> Response:
        """
        What became of the write with this mutation id, which its answer's X-Request-ID named. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        events = await at.node.store.mutations.events(id, SHOWN)
        if not events:
            raise Problem(
                404,
                f"the log has nothing that was committed under {id[:100]!r}: it was refused, or cut since",
            )
        return answer({"mutation": id, "events": [await _became(at.node, event) for event in events]})

    return routes


async def _became(node: Node, event: Event) -> dict[str, Any]:
    frames = node.traces.frames(event.id)
    return {
        "id": event.id,
        "type": event.type,
        "topic": event.topic,
        "offset": event.offset,
        "user": event.user,
        "committed_at": iso(event.at),
        "traceparent": event.request.traceparent,
        "effects": [_effect(outcome) for outcome in await node.store.mutations.outcomes(event)],
        # Of this node; null when it remembers the event no more.
        "frames": None if frames is None else {"total": sum(frames.values()), "by_topic": dict(frames)},
    }


def _effect(outcome: Outcome) -> dict[str, Any]:
    state = "handled" if outcome.handled else "quarantined" if outcome.quarantined else "waiting"
    return {
        "plugin": outcome.plugin,
        "state": state,
        "failures": outcome.failures,
        "last_error": outcome.last_error,
    }
