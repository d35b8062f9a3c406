"""The JSON protocol of /real-time: what clients may send, and how everything that is sent to them looks."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, assert_never

import msgspec

from engine.actors.messages import Listed, Message, PresenceUpdate, Reached, Subscribed
from engine.domain.event import CatalogPosition, Event, Position, iso
from engine.domain.presence import ViewerPage
from gateway.http.frames import text_frame

NAMESPACE = "/real-time"
Ref = str | int | None

# Close codes are public API: docs/real-time.md.
GOING_AWAY = 1001
TOO_BIG = 1009
BUG = 1011
BAD_MESSAGE = 4400
NOT_AUTHENTICATED = 4401
FORBIDDEN = 4403
NO_PONG = 4408
TOO_SLOW = 4413
TOO_MANY = 4429
TOKEN_EXPIRED = 4440
TRY_LATER = 4503


class Since(msgspec.Struct, forbid_unknown_fields=True):
    """
    A client's position, as it was given: an offset, and the epoch it is of.
    """

    offset: int | str
    epoch: str


class Connect(msgspec.Struct, tag="connect", tag_field="type", forbid_unknown_fields=True):
    """
    Prove who is speaking.
    """

    token: str
    ref: Ref = None


class Refresh(msgspec.Struct, tag="refresh", tag_field="type", forbid_unknown_fields=True):
    """
    A new token of the same user, before the old one expires.
    """

    token: str
    ref: Ref = None


class Subscribe(msgspec.Struct, tag="subscribe", tag_field="type", forbid_unknown_fields=True):
    """
    Hear of a topic: from `since` on, or from now; `snapshot` asks for the present state first.
    """

    topic: str
    since: Since | None = None
    snapshot: bool = False
    ref: Ref = None


class Unsubscribe(msgspec.Struct, tag="unsubscribe", tag_field="type", forbid_unknown_fields=True):
    """
    Hear no more of a topic.
    """

    topic: str
    ref: Ref = None


class SetPresence(
    msgspec.Struct, tag="presence", tag_field="type", rename="camel", forbid_unknown_fields=True
):
    """
    Be present on a resource, in a state.
    """

    resource_type: str
    resource_id: str
    state: str = "viewing"
    user_name: str | None = None
    ref: Ref = None


class Leave(msgspec.Struct, tag="leave", tag_field="type", rename="camel", forbid_unknown_fields=True):
    """
    Be present on a resource no longer.
    """

    resource_type: str
    resource_id: str
    ref: Ref = None


class Viewers(msgspec.Struct, tag="viewers", tag_field="type", rename="camel", forbid_unknown_fields=True):
    """
    Ask who is present, a page at a time.
    """

    resource_type: str
    resource_id: str
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    ref: Ref = None


class Call(msgspec.Struct, tag="call", tag_field="type", forbid_unknown_fields=True):
    """
    Ask a plugin. `traceparent` (W3C Trace Context) names the step of a trace that this is part of.
    """

    name: str
    args: Any = None
    traceparent: str | None = None
    ref: Ref = None


class Ping(msgspec.Struct, tag="ping", tag_field="type", forbid_unknown_fields=True):
    """
    Find out whether the node is there.
    """

    ref: Ref = None


ClientMessage = Connect | Refresh | Subscribe | Unsubscribe | SetPresence | Leave | Viewers | Call | Ping
_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_encode = msgspec.json.encode


class BadMessageError(ValueError):
    """
    The client sent what is no message of the protocol. Close with 4400; the text says what was wrong.
    """


def decode(text: str) -> ClientMessage:
    """
    A client's message. Raises BadMessageError.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadMessageError(f"not a message of this protocol: {error}") from None


def ok(ref: Ref, **more: object) -> bytes:
    """
    The reply to what was done.
    """
    return _reply("ok", ref, more)


def error(ref: Ref, code: str, message: str) -> bytes:
    """
    The reply to what was refused; the session goes on.
    """
    return _reply("error", ref, {"code": code, "message": message})


def bye(
    code: int,
    reason: str,
    *,
    reconnect_after: float,
    resume: bool,
    positions: Mapping[str, Position | CatalogPosition],
) -> bytes:
    """
    The last message before a close: why, whether and after how many seconds to come back, and from where.
    """
    return _encode(
        {
            "type": "bye",
            "code": code,
            "reason": reason,
            "reconnect_after": round(reconnect_after, 3),
            "resume": resume,
            "positions": {topic: position_json(position) for topic, position in positions.items()},
        }
    )


def _reply(kind: str, ref: Ref, more: Mapping[str, object]) -> bytes:
    return _encode({"type": kind, **({} if ref is None else {"ref": ref}), **more})


def wire_data(event: Event) -> dict[str, Any]:
    """
    What frontends are shown of an event, by its type.
    """
    kind, _, verb = event.type.rpartition("_")
    data: dict[str, Any] = dict(event.data)
    data.pop("before", None)
    if kind == "episode":
        data["episode"] = {name: data["episode"][name] for name in EPISODE_FIELDS}
    if event.type.startswith("job_"):
        data["submittedBy"] = data["job"]["submitted_by"]
        data["job"] = {name: data["job"][name] for name in JOB_FIELDS}
        if event.type == "job_cancelled":
            data["cancelledBy"] = event.user
    else:
        data[f"{verb}By"] = event.user
    data["timestamp"] = iso(event.at)
    return data


EPISODE_FIELDS = ("id", "title", "episode_number", "status", "categories")
JOB_FIELDS = ("id", "type", "state", "attempt", "max_attempts", "progress", "episode_id")


def event_frame(event: Event) -> dict[str, Any]:
    """
    An event as its subscribers get it.
    """
    return {
        "event": event.type,
        "data": wire_data(event),
        "namespace": NAMESPACE,
        "broadcast": True,
        "id": event.id,
        "topic": event.topic,
        "offset": event.offset,
        "epoch": event.epoch,
    }


def presence_frame(update: PresenceUpdate) -> dict[str, Any]:
    """
    Who came and went, as those who are present get it.
    """
    shown = update.viewers
    return {
        "type": "presence",
        "topic": update.topic,
        "resourceType": "episode",
        "resourceId": update.resource_id,
        "total": update.total,
        "version": update.version,
        "joined": [viewer.to_json(update.resource_id) for viewer in update.joined],
        "left": [viewer.to_json(update.resource_id) for viewer in update.left],
        "complete": update.complete,
        "summary": {"names": list(update.names), "others": max(0, update.total - len(update.names))},
        **({} if shown is None else {"viewers": [viewer.to_json(update.resource_id) for viewer in shown]}),
    }


def viewers_json(resource_id: str, found: ViewerPage) -> dict[str, Any]:
    """
    A page of those who are present, as whoever asked for it gets it.
    """
    return {
        "viewers": [viewer.to_json(resource_id) for viewer in found.viewers],
        "total": found.total,
        "next_after": found.next_after,
    }


def subscribed_frame(first: Subscribed) -> dict[str, Any]:
    """
    The beginning of a subscription.
    """
    return {
        "type": "subscribed",
        "topic": first.topic,
        "recovered": first.recovered,
        "position": position_json(first.position),
        **({} if first.snapshot is None else {"snapshot": first.snapshot}),
    }


def reached_frame(reached: Reached) -> dict[str, Any]:
    """
    How far the catalog's subscribers have heard everything.
    """
    return {"type": "position", "topic": reached.topic, "position": position_json(reached.position)}


def position_json(position: Position | CatalogPosition) -> dict[str, Any]:
    """
    A position as clients keep it and send it back.
    """
    return {"offset": position.offset, "epoch": position.epoch}


def encode_message(message: Message) -> bytes:
    """
    A message of the hub as JSON.
    """
    match message:
        case Event():
            return _encode(event_frame(message))
        case Listed(event=event):
            return _encode(event_frame(event))
        case PresenceUpdate():
            return _encode(presence_frame(message))
        case Reached():
            return _encode(reached_frame(message))
        case Subscribed():
            return _encode(subscribed_frame(message))
        case _:
            assert_never(message)


class FramedJson:
    """
    The format of connections that are written to directly: ready WebSocket frames.
    """

    def encode(self, message: Message) -> bytes:
        """
        One text frame.
        """
        return text_frame(encode_message(message))

    def wrap(self, payload: bytes) -> bytes:
        """
        One text frame around a reply.
        """
        return text_frame(payload)


class JsonLines:
    """
    The format of connections behind TLS or HTTP/2: lines, which `split` makes messages of again.
    """

    def encode(self, message: Message) -> bytes:
        """
        One line.
        """
        return encode_message(message) + b"\n"

    def wrap(self, payload: bytes) -> bytes:
        """
        One line around a reply.
        """
        return payload + b"\n"

    @staticmethod
    def split(data: bytes) -> Sequence[str]:
        """
        The messages in joined lines. JSON has no line feeds inside, but what else Python calls a line's end.
        """
        return data.decode().split("\n")[:-1]


FRAMED_JSON = FramedJson()
JSON_LINES = JsonLines()
