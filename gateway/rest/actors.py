"""Children of the supervision tree over REST, for operators: restart, park, resume."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import attrs
from quart import Blueprint
from quart_schema import tag

from engine.domain.access import Action
from engine.domain.fields import FieldError, Invalid
from engine.hookspecs import Resource
from engine.node import Node
from engine.runtime.child import ChildInfo, ChildState
from engine.runtime.supervisor import Supervisor
from gateway.rest.edge import Edge, answer, body
from gateway.rest.messages import Response
from gateway.rest.problems import Problem

# Who asks comes in by the gateway; the others are more than an actor.
UNTOUCHABLE = {
    "gateway": "you could not resume it: it is what answers you",
    "database": "it is PostgreSQL itself; restart the node",
    "supervisor": "it is a supervisor; name one of its children",
    "drain": "it does nothing but give running jobs back when the node stops",
}

# Who has one life only: it cannot be resumed.
UNPARKABLE = {
    "job": "cancel the job, or restart its run: it is given back, and begun anew",
    "answer": "it ends with its answer",
}

Do = Callable[[Supervisor, str], Awaitable[bool]]


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/engine/actors.
    """
    routes = Blueprint("actors", __name__, url_prefix="/api/v1/engine/actors")
    node = at.node

    @routes.post("/restart")
    @tag(["engine"])
    async def restart() -> Response:
        """
        End an actor's life and start the next; it counts as no crash. A running job is given back, and begun
        anew. For operators.
        """
        return await _do(at, Supervisor.restart_child)

    @routes.post("/park")
    @tag(["engine"])
    async def park() -> Response:
        """
        End an actor's life, and start no other until it is resumed. For operators.
        """
        return await _do(at, Supervisor.park_child, but_not=UNPARKABLE)

    @routes.post("/resume")
    @tag(["engine"])
    async def resume() -> Response:
        """
        Start an actor that is parked or backing off, now. For operators.
        """

        async def resumed(supervisor: Supervisor, name: str) -> bool:
            if not supervisor.resume_child(name):
                raise Problem(409, f"{name} runs: there is nothing to resume")
            return True

        return await _do(at, resumed)

    @routes.get("")
    @tag(["engine"])
    async def actors() -> Response:
        """
        All actors by name, with their state. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        return answer({"data": [_shown(child) for _, child in _children(node)]})

    return routes


async def _do(at: Edge, do: Do, but_not: Mapping[str, str] = MappingProxyType({})) -> Response:
    await at.enter(Action.OPERATE, Resource(type="engine"))
    name = _named(await body())
    found = [
        (supervisor, child)
        for supervisor, child in _children(at.node)
        if name in (child.name, f"{supervisor.name}/{child.name}")
    ]
    if not found:
        raise Problem(404, f"there is no actor {name!r}; GET /api/v1/engine/actors lists them")
    if len(found) > 1:
        names = ", ".join(f"{supervisor.name}/{child.name}" for supervisor, child in found)
        raise Problem(409, f"{name!r} may be one of {names}; say which")
    [(supervisor, child)] = found
    name = child.name
    if (reason := UNTOUCHABLE.get(child.kind)) is not None:
        raise Problem(409, f"{name} cannot be restarted or parked by itself: {reason}")
    if (reason := but_not.get(child.kind)) is not None:
        raise Problem(409, f"{name} cannot be parked: {reason}")
    await do(supervisor, name)
    after = [one for one in supervisor.children() if one.name == name]
    # One that had a single life is gone.
    return answer(_shown(after[0] if after else attrs.evolve(child, state=ChildState.STOPPING)))


def _named(given: object) -> str:
    match given:
        case {"name": str() as name, **more} if not more:
            return name
    raise Problem.invalid(Invalid((FieldError("name", 'must name an actor: {"name": "catalog"}'),)))


def _children(node: Node) -> list[tuple[Supervisor, ChildInfo]]:
    return [
        (supervisor, child) for supervisor in node.supervisors.values() for child in supervisor.children()
    ]


def _shown(child: ChildInfo) -> dict[str, object]:
    return attrs.asdict(child)
