"""Clients of the storm: they come, are cut off, come back with positions, and notice whatever is wrong."""

import random
from collections.abc import Callable
from typing import Any

import attrs
import trio

from tests.storm.raw import LostError, Socket

CATALOG = "catalog"


@attrs.define(eq=False)
class Truth:
    """
    What all clients together have been told: one event at each place of a topic's log.
    """

    events: dict[tuple[str, int], str] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)
    # The catalog's position when everything was written.
    end: tuple[int, int] = (0, 0)

    def complain(self, text: str) -> None:
        self.wrong.append(text)

    def note(self, frame: dict[str, Any], who: str) -> None:
        key = frame["topic"], frame["offset"]
        if self.events.setdefault(key, frame["id"]) != frame["id"]:
            self.complain(f"{who}: {key} is {frame['id']}, but was {self.events[key]}")


def place(position: dict[str, Any]) -> tuple[int, int]:
    """
    A position of the catalog, to be compared; clients proper need not look into it.
    """
    xid, _, seq = position["offset"].partition("-")
    return int(xid), int(seq)


@attrs.define(eq=False, kw_only=True)
class Reader:
    """
    One client's place in the log of an episode or a person: every event once and in order, from there on.
    """

    topic: str
    who: str
    truth: Truth
    position: dict[str, Any] | None = None
    gaps: int = 0

    def began(self, message: dict[str, Any]) -> None:
        position = message["position"]
        if self.position is None or not message["recovered"]:
            if self.position is not None:
                self.gaps += 1
                if message.get("snapshot") is None:
                    self.truth.complain(f"{self.who}: not recovered, and no snapshot on {self.topic}")
            self.position = position
        elif position["offset"] < self.position["offset"]:
            self.truth.complain(f"{self.who}: recovered {self.topic} to {position} from {self.position}")

    def agreed(self) -> None:
        pass  # its position is that of the latest event

    def heard(self, frame: dict[str, Any]) -> None:
        self.truth.note(frame, self.who)
        if self.position is None or frame["offset"] != self.position["offset"] + 1:
            self.truth.complain(f"{self.who}: {self.topic} {frame['offset']} after {self.position}")
        self.position = {"offset": frame["offset"], "epoch": frame["epoch"]}

    def has(self, heads: dict[str, int]) -> bool:
        return self.position is not None and self.position["offset"] >= heads.get(self.topic, 0)


@attrs.define(eq=False, kw_only=True)
class CatalogReader:
    """
    One client's place in the catalog: once after looking at ids, each episode in order.
    """

    who: str
    truth: Truth
    topic: str = CATALOG
    position: dict[str, Any] | None = None
    gaps: int = 0
    ids: set[str] = attrs.field(factory=set)
    latest: dict[str, int] = attrs.field(factory=dict)
    # Where the server stood when it began to tell what was missed.
    _promised: dict[str, Any] | None = None

    def began(self, message: dict[str, Any]) -> None:
        if self.position is not None and not message["recovered"]:
            self.gaps += 1
            self.latest.clear()
            if message.get("snapshot") is None:
                self.truth.complain(f"{self.who}: not recovered, and no snapshot on the catalog")
        self._promised = message["position"]
        if not message["recovered"]:
            self.position = self._promised

    def agreed(self) -> None:
        # What was missed has been told before the reply: to be cut off in the middle of it must cost nothing.
        self.position = self._promised

    def reached(self, message: dict[str, Any]) -> None:
        self.position = message["position"]

    def heard(self, frame: dict[str, Any]) -> None:
        self.truth.note(frame, self.who)
        if frame["id"] in self.ids:
            return
        self.ids.add(frame["id"])
        before = self.latest.get(frame["topic"])
        if before is not None and frame["offset"] != before + 1:
            self.truth.complain(f"{self.who}: catalog {frame['topic']} {frame['offset']} after {before}")
        self.latest[frame["topic"]] = frame["offset"]

    def has(self, heads: dict[str, int]) -> bool:
        if self.gaps:
            # What a snapshot has shown is not told any more: only the position tells.
            return self.position is not None and place(self.position) >= self.truth.end
        return all(self.latest.get(topic, 0) >= head for topic, head in heads.items())


@attrs.define(eq=False, kw_only=True)
class Guest:
    """
    One client over all its connections.
    """

    name: str
    token: str
    port: Callable[[], int]
    chance: random.Random
    truth: Truth
    readers: dict[str, Reader | CatalogReader]
    # How long a visit lasts and how long it stays away, at most, in seconds.
    visit: float = 2.0
    away: float = 0.5
    connections: int = 0
    refused: int = 0
    codes: list[int] = attrs.field(factory=list)
    # Set when all its topics have been agreed to for the first time.
    arrived: trio.Event = attrs.field(factory=trio.Event)
    _agreed: set[str] = attrs.field(factory=set)

    async def run(self, heads: Callable[[], dict[str, int] | None]) -> None:
        """
        Come and go until everything was heard up to the heads.
        """
        while True:
            found = heads()
            if found is not None and all(reader.has(found) for reader in self.readers.values()):
                return
            try:
                await self._visit(heads)
            except LostError:
                self.refused += 1
            await trio.sleep(self.chance.random() * self.away)

    async def _visit(self, heads: Callable[[], dict[str, int] | None]) -> None:
        socket = await Socket.open(self.port(), self.token)
        self.connections += 1
        self._agreed.clear()
        try:
            for topic, reader in self.readers.items():
                since = {} if reader.position is None else {"since": reader.position}
                await socket.send(type="subscribe", topic=topic, ref=topic, **since)
            stay = self.visit * self.chance.random() if heads() is None else 10
            with trio.move_on_after(stay):
                async for message in socket.messages():
                    self._hear(message)
                    if len(self._agreed) == len(self.readers):
                        self.arrived.set()
                    found = heads()
                    if found is not None and all(reader.has(found) for reader in self.readers.values()):
                        break
            if socket.closed is not None:
                self.codes.append(socket.closed)
        finally:
            socket.kill()

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if "event" in message:
            topic = message["topic"]
            reader = self.readers.get(topic) or self.readers.get(CATALOG)
            if topic.startswith("user:") and topic not in self.readers:
                self.truth.complain(f"{self.name}: {topic} is somebody else's")
            # Before anything is agreed to, everybody hears the catalog.
            elif reader is not None and reader.topic in self._agreed:
                reader.heard(message)
        elif kind == "subscribed":
            self._agreed.add(message["topic"])
            self.readers[message["topic"]].began(message)
        elif kind == "position":
            reader = self.readers.get(CATALOG)
            if isinstance(reader, CatalogReader) and CATALOG in self._agreed:
                reader.reached(message)
        elif kind == "ok" and message.get("ref") == CATALOG:
            self.readers[CATALOG].agreed()
        elif kind == "error":
            raise LostError(message["message"])
