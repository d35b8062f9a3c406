"""Settings of a running node over REST, for operators: what a reload would change, and the reload."""

from collections.abc import Callable, Iterable

import attrs
from quart import Blueprint
from quart_schema import tag

from conf.changes import Change, Changes
from conf.settings import Mistake, SettingsError
from engine.domain.access import Action
from engine.domain.fields import FieldError
from engine.errors import StartupError
from engine.hookspecs import Resource
from engine.live import NoSourceError
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response
from gateway.rest.problems import Problem


def blueprint(at: Edge) -> Blueprint:
    """
    The routes at /api/v1/engine/reload.
    """
    routes = Blueprint("reload", __name__, url_prefix="/api/v1/engine")
    live = at.node.live

    @routes.get("/reload")
    @tag(["engine"])
    async def preview() -> Response:
        """
        What a reload would change; changes nothing. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        return _answer(live.preview)

    @routes.post("/reload")
    @tag(["engine"])
    async def reload() -> Response:
        """
        Read the settings anew and take up what a running node can, or nothing if any is wrong. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="engine"))
        return _answer(live.reload)

    return routes


def _answer(read: Callable[[], Changes]) -> Response:
    try:
        found = read()
    except NoSourceError as error:
        raise Problem(409, str(error)) from None
    except SettingsError as error:
        wrong = [FieldError(mistake.option or "(all)", _told(mistake)) for mistake in error.mistakes]
        raise Problem(422, "the settings are wrong; the old ones stay in force", errors=wrong) from None
    except StartupError as error:
        raise Problem(422, f"{error}; the old settings stay in force") from None
    return answer(
        {"changed": _shown(found.live), "needs_restart": _shown(found.restart), "renewed": found.renewed}
    )


def _told(mistake: Mistake) -> str:
    where = f"{mistake.source} says {mistake.value}" if mistake.value else mistake.source
    return f"{mistake.remedy} ({where})"


def _shown(changes: Iterable[Change]) -> list[dict[str, object]]:
    return [attrs.asdict(change) for change in changes]
