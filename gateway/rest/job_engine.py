"""What the engine does with jobs, for operators: statistics, and pausing types and sources."""

from typing import Any

import attrs
from quart import Blueprint
from quart_schema import tag

from engine.domain.access import Action
from engine.domain.event import iso
from engine.domain.job import UNFINISHED
from engine.hookspecs import Resource
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response
from gateway.rest.problems import Problem


def blueprint(at: Edge) -> Blueprint:
    """
    The routes under /api/v1/engine/jobs.
    """
    routes = Blueprint("job_engine", __name__, url_prefix="/api/v1/engine/jobs")
    workshop, found = at.node.workshop, at.node.store.job_list

    @routes.get("")
    @tag(["engine"])
    async def read_jobs() -> Response:
        """
        Jobs by type and source: what waits and runs, what came of it here, what is paused. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        counts = await found.counts()
        pauses = {
            (pause.kind, pause.name): {"by": pause.by, "at": iso(pause.at)} for pause in await found.pauses()
        }
        names = sorted({*workshop.desk.types(), *(kind for kind, _ in counts)})
        return answer(
            {
                "types": {
                    name: {
                        **{state.value: counts.get((name, state), 0) for state in UNFINISHED},
                        "here": _here(name),
                        "paused": pauses.get(("type", name)),
                    }
                    for name in names
                },
                "sources": {
                    name: {**statistics, "paused": pauses.get(("source", name))}
                    for name, statistics in workshop.sources().items()
                },
                "rescued_total": workshop.rescuer.rescued_total,
            }
        )

    @routes.post("/types/<name>/pause")
    @tag(["engine"])
    async def pause_type(name: str) -> Response:
        """
        Let no node begin jobs of a type; those that run go on. For operators.
        """
        return await _pause("type", name)

    @routes.post("/types/<name>/resume")
    @tag(["engine"])
    async def resume_type(name: str) -> Response:
        """
        Let jobs of a type be begun again. For operators.
        """
        return await _resume("type", name)

    @routes.post("/sources/<name>/pause")
    @tag(["engine"])
    async def pause_source(name: str) -> Response:
        """
        Let no node take anything from a source. For operators.
        """
        return await _pause("source", name)

    @routes.post("/sources/<name>/resume")
    @tag(["engine"])
    async def resume_source(name: str) -> Response:
        """
        Let nodes take from a source again. For operators.
        """
        return await _resume("source", name)

    async def _pause(kind: str, name: str) -> Response:
        identity = await at.enter(Action.OPERATE, Resource(type="engine"))
        known = workshop.desk.types() if kind == "type" else list(workshop.sources())
        if name not in known:
            raise Problem(404, f"there is no {kind} {name!r}; there are {', '.join(known) or 'none'}")
        await found.pause(kind, name, identity.user)
        return answer({kind: name, "paused": True})

    async def _resume(kind: str, name: str) -> Response:
        await at.enter(Action.OPERATE, Resource(type="engine"))
        if not await found.resume(kind, name):
            raise Problem(409, f"the {kind} {name!r} is not paused")
        workshop.dispatcher.wake()
        workshop.ring()
        return answer({kind: name, "paused": False})

    def _here(name: str) -> dict[str, Any]:
        runnable = workshop.dispatcher.runnable.get(name)
        return {
            "running": workshop.dispatcher.running(name),
            "concurrency": 0 if runnable is None else runnable.handler.concurrency,
            **attrs.asdict(workshop.statistics.of(name)),
        }

    return routes
