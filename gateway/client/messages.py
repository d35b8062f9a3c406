"""What the Python client hands to its user, and how it reads what a node sends. Knows no connection."""

import base64
import enum
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
import msgspec

from engine.errors import EngineError

# After these a client does not come back: it would be refused again for the same reason.
FINAL_CODES = frozenset({4400, 4401, 4403, 4409})


class ClientError(EngineError):
    """
    The client cannot do what was asked of it; the text says why.
    """


class RefusedError(ClientError):
    """
    The node refused one wish; `code` is one of docs/real-time.md. The client goes on.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClosedError(ClientError):
    """
    The client has ended and will not come back; `code` is the close code, None if its user closed it.
    """

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(reason if code is None else f"{reason} (close code {code})")
        self.code = code
        self.reason = reason


class UnreachableError(ClientError):
    """
    Nobody answered the first attempt to connect. Check the URL, or try again.
    """


class State(enum.Enum):
    """
    How much what the client has told can be trusted now.
    """

    # Not connected yet.
    CONNECTING = "connecting"
    # Everything is told as it happens.
    LIVE = "live"
    # Connected again; what was missed is being told.
    RECOVERING = "recovering"
    # Not connected: what was told may be old. The client tries to come back.
    STALE = "stale"
    # It will not come back.
    CLOSED = "closed"


@attrs.frozen
class Position:
    """
    Where a reader of one topic stands. It means something to the node only: keep it, and give it back.
    """

    offset: int | str
    epoch: str

    def __str__(self) -> str:
        return f"{self.offset}@{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """
        The position that `str` made a text of. Raises ValueError.
        """
        offset, at, epoch = text.rpartition("@")
        if not offset or not at or not epoch:
            raise ValueError(f"a position looks like 7@3f0a…, not {text!r}")
        return cls(int(offset) if offset.isascii() and offset.isdecimal() else offset, epoch)

    @classmethod
    def read(cls, given: Any) -> "Position | None":
        """
        A position as a node sends it.
        """
        return None if given is None else cls(given["offset"], given["epoch"])

    def to_json(self) -> dict[str, Any]:
        """
        The position as a node takes it back.
        """
        return {"offset": self.offset, "epoch": self.epoch}


@attrs.frozen(kw_only=True)
class Event:
    """
    Something happened. `position` is its place in the log of `topic`; `frame` is the message as it came.
    """

    name: str
    data: Mapping[str, Any]
    id: str
    topic: str
    position: Position
    frame: Mapping[str, Any] = attrs.field(repr=False, eq=False)

    @classmethod
    def read(cls, frame: Mapping[str, Any]) -> "Event":
        """
        An event frame.
        """
        return cls(
            name=frame["event"],
            data=frame["data"],
            id=frame["id"],
            topic=frame["topic"],
            position=Position(frame["offset"], frame["epoch"]),
            frame=frame,
        )


@attrs.frozen(kw_only=True)
class Gap:
    """
    Events of `topic` were missed and cannot be had any more. `snapshot` is how things stand instead.
    """

    topic: str
    snapshot: Mapping[str, Any] | None
    position: Position | None


Item = Event | Gap


@attrs.frozen(kw_only=True)
class Viewer:
    """
    A person who is present on an episode; times as ISO 8601 texts.
    """

    user: str
    name: str
    state: str
    viewed_at: str
    last_active: str

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Viewer":
        """
        A viewer in a presence frame or a snapshot.
        """
        return cls(
            user=given["userId"],
            name=given["userName"],
            state=given["state"],
            viewed_at=given["viewedAt"],
            last_active=given["lastActive"],
        )


def websocket_url(url: str) -> str:
    """
    Where a node's WebSocket is: `http://host:port` and `ws://host:port/real-time` both will do.

    Raises ValueError.
    """
    scheme, separator, rest = url.partition("://")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    host, _, path = rest.partition("/")
    try:
        parts = urlsplit(f"{scheme}://{host}/{path or 'real-time'}")
        complete = bool(separator and parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        complete = False
    if not complete or scheme not in ("ws", "wss"):
        raise ValueError(f"a URL looks like http://127.0.0.1:8000, not {url!r}")
    return f"{scheme}://{host}/{path or 'real-time'}"


def expiry(token: str) -> float | None:
    """
    When a token expires, in Unix seconds; None if it does not say so, or is no JWT.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims.get("exp")
    except (ValueError, AttributeError):
        return None
    return float(expires) if isinstance(expires, int | float) else None
