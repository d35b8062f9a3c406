"""How messages look in an event stream (server-sent events, WHATWG HTML 9.2). Knows no connection."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import attrs
import msgspec

from engine.actors.messages import Listed, Message, PresenceUpdate, Reached, Subscribed
from engine.domain.event import CATALOG, Event
from gateway import protocol

HEARTBEAT = b":\n\n"
# Of a topic's digest in an id: 64 bits tell a stream's hundred topics apart.
DIGEST = 8

_encode = msgspec.json.encode


class EventStream:
    """
    The format of event streams: records, of which each stream makes blocks with ids of its own.

    What is the same for all streams is encoded once, here; the id depends on what else a stream hears.
    """

    def encode(self, message: Message) -> bytes:
        """
        One record.
        """
        match message:
            case Event():
                at = protocol.position_json(message.position)
                return record(message.type, protocol.encode_message(message), message.topic, at)
            case Listed(event=event, position=position):
                # It says nothing of where the stream stands in the episode's own topic.
                heard = protocol.position_json(position) if position.is_short else None
                return record(event.type, protocol.encode_message(event), CATALOG, heard)
            case Subscribed():
                # While what was missed is told, the stream stands where its client stood.
                stands = None if message.recovered else protocol.position_json(message.position)
                return record("subscribed", protocol.encode_message(message), message.topic, stands)
            case Reached():
                # Nothing to show: an id of its own.
                reached = message.heard if message.heard.is_short else message.position
                return record("position", b"", message.topic, protocol.position_json(reached))
            case PresenceUpdate():
                return record("presence", protocol.encode_message(message))
            case _:
                assert_never(message)


EVENT_STREAM = EventStream()


def record(name: str, data: bytes, topic: str = "", position: Mapping[str, Any] | None = None) -> bytes:
    """
    A record: what it is called, its data as JSON, and where its topic stands after it.
    """
    return _encode([name, topic, position]) + b"\n" + data + b"\n"


def hint(seconds: float) -> bytes:
    """
    How long a client is to wait before it comes back.
    """
    return b"retry: %d\n\n" % round(seconds * 1000)


@attrs.define(eq=False)
class Positions:
    """
    Own where each topic of one stream stands: what its ids say.
    """

    _at: dict[str, Any]

    @classmethod
    def beginning(cls, since: Mapping[str, protocol.Since | None]) -> "Positions":
        """
        The positions of a stream that begins: those that its client came with.
        """
        return cls({topic: msgspec.to_builtins(position) for topic, position in since.items()})

    def blocks(self, records: bytes) -> bytes:
        """
        The blocks of these records. A position that moves becomes the block's id.
        """
        lines = records.split(b"\n")
        blocks = bytearray()
        for head, data in zip(lines[::2], lines[1::2], strict=False):
            name, topic, position = msgspec.json.decode(head)
            if position is not None and topic in self._at and self._at[topic] != position:
                self._at[topic] = position
                blocks += b"id: %s\n" % self.id()
            if data:
                blocks += b"event: %s\ndata: %s\n" % (name.encode(), data)
            blocks += b"\n"
        return bytes(blocks)

    def id(self) -> bytes:
        """
        The positions of all topics: opaque, short, and fit for a header.
        """
        offsets: dict[str, dict[str, Any]] = {}
        for topic, position in self._at.items():
            if position is not None:
                offsets.setdefault(position["epoch"], {})[_digest(topic)] = position["offset"]
        return base64.urlsafe_b64encode(_encode(offsets)).rstrip(b"=")


def positions_of(last_event_id: str | None, topics: Sequence[str]) -> Mapping[str, protocol.Since | None]:
    """
    Where a returning stream stands in each of its topics; None where it is new.

    An id that is none of ours stands nowhere, and so recovers nothing, but is told so.
    """
    if not last_event_id:
        return dict.fromkeys(topics)
    try:
        text = base64.urlsafe_b64decode(last_event_id + "=" * (-len(last_event_id) % 4))
        known = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
        found = {
            digest: msgspec.convert({"offset": offset, "epoch": epoch}, protocol.Since)
            for epoch, offsets in known.items()
            for digest, offset in offsets.items()
        }
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return dict.fromkeys(topics, protocol.Since(offset=0, epoch=""))
    return {topic: found.get(_digest(topic)) for topic in topics}


def _digest(topic: str) -> str:
    if topic == CATALOG:
        return topic
    digest = hashlib.blake2b(topic.encode(), digest_size=DIGEST).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
