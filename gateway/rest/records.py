"""Activity, notifications and audit over REST."""

from typing import Any

from quart import Blueprint
from quart_schema import document_querystring, document_response, tag

from engine.domain.access import Action
from engine.domain.event import EpisodeId
from engine.hookspecs import Resource
from engine.store.records import RecordPage
from gateway.rest import edge, parameters, schemas
from gateway.rest.edge import Edge, answer
from gateway.rest.messages import Response
from gateway.rest.problems import Problem


def blueprint(at: Edge) -> Blueprint:
    """
    The routes of what happened and who is told.
    """
    routes = Blueprint("records", __name__, url_prefix="/api/v1")
    records = at.node.store.records

    @routes.get("/activity")
    @tag(["records"])
    @document_querystring(parameters.RecordQuery)
    @document_response(schemas.ActivityPage, 200)
    async def list_activity() -> Response:
        """
        What happened, newest first.
        """
        await at.enter(Action.READ, Resource(type="activity"))
        given = edge.query("limit", "cursor")
        page = await records.activity(limit=edge.limit_of(given), before=edge.cursor_of(given))
        return answer(_page(page))

    @routes.get("/episodes/<id>/activity")
    @tag(["records"])
    @document_querystring(parameters.RecordQuery)
    @document_response(schemas.ActivityPage, 200)
    async def list_episode_activity(id: str) -> Response:
        """
        What happened to one episode and its compositions, newest first; of a deleted one too.
        """
        key = EpisodeId(edge.path_id(id, "episode"))
        await at.enter(Action.READ, Resource(type="activity", episode_id=key))
        given = edge.query("limit", "cursor")
        if await at.node.store.episodes.log_offset(key) is None:
            raise Problem(404, f"there is no episode {key}")
        page = await records.activity(limit=edge.limit_of(given), before=edge.cursor_of(given), episode=key)
        return answer(_page(page))

    @routes.get("/audit")
    @tag(["records"])
    @document_querystring(parameters.RecordQuery)
    @document_response(schemas.AuditPage, 200)
    async def list_audit() -> Response:
        """
        The audit trail, newest first. For operators.
        """
        await at.enter(Action.OPERATE, Resource(type="audit"))
        given = edge.query("limit", "cursor")
        return answer(_page(await records.audit(limit=edge.limit_of(given), before=edge.cursor_of(given))))

    @routes.get("/notifications")
    @tag(["notifications"])
    @document_querystring(parameters.NotificationQuery)
    @document_response(schemas.NotificationPage, 200)
    async def list_notifications() -> Response:
        """
        The caller's own notifications, newest first; with unread=1 only those.
        """
        identity = await at.enter(Action.READ, Resource(type="notification"))
        given = edge.query("limit", "cursor", "unread")
        page, unread = await records.notifications(
            identity.user,
            limit=edge.limit_of(given),
            before=edge.cursor_of(given),
            unread=edge.number(given, "unread", 0, least=0, most=1) == 1,
        )
        return answer({**_page(page), "unread": unread})

    @routes.post("/notifications/<id>/read")
    @tag(["notifications"])
    @document_response(schemas.Notification, 200)
    async def read_notification(id: str) -> Response:
        """
        Mark one of the caller's notifications as read.
        """
        key = edge.path_id(id, "notification")
        identity = await at.enter(Action.READ, Resource(type="notification", id=key))
        notification = await records.read_notification(identity.user, key)
        if notification is None:
            raise Problem(404, f"there is no notification {key} of yours")
        return answer(notification.to_json())

    @routes.post("/notifications/read-all")
    @tag(["notifications"])
    @document_response(schemas.ReadAll, 200)
    async def read_all_notifications() -> Response:
        """
        Mark all of the caller's notifications as read; answers how many were not.
        """
        identity = await at.enter(Action.READ, Resource(type="notification"))
        return answer({"read": await records.read_notifications(identity.user)})

    return routes


def _page(page: RecordPage[Any]) -> dict[str, Any]:
    return {"data": [record.to_json() for record in page.records], "next_cursor": page.next_before}
