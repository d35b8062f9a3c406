"""Events: committed facts, and their place in the logs. Knows nothing of how they are stored or sent."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, NewType

import attrs

from engine.domain.runs import Run, Runs, read_runs, show_runs
from engine.domain.world import now

EventId = NewType("EventId", str)
UserId = NewType("UserId", str)
EpisodeId = NewType("EpisodeId", str)
JobId = NewType("JobId", str)
Topic = NewType("Topic", str)
Offset = NewType("Offset", int)
Epoch = NewType("Epoch", str)

# What may stand in an event's data: JSON values only.
Json = Mapping[str, object]

CATALOG = Topic("catalog")
# The log of jobs that belong to no episode.
JOBS = Topic("jobs")

_PLACE = re.compile(r"([0-9]{1,18})-([0-9]{1,19})(?:\+([0-9,-]{1,2000}))?")
# "Trace Context", W3C Recommendation, 2021: version, trace, parent, flags.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Runs that a position tells at most: it stands in every frame of some clients.
_MOST_RUNS = 64


class LogPlace(NamedTuple):
    """
    Where an event stands in the node-wide log, in commit order.

    `xid` is the transaction that wrote it, `seq` its number; `seq` alone would skip rows whose
    transaction commits late. A tuple, because it is made and compared for every event, several times.
    """

    xid: int
    seq: int


@attrs.frozen
class Position:
    """
    Where a reader of one topic stands: the last offset it has, in the order named by the epoch.
    """

    offset: Offset
    epoch: Epoch


@attrs.frozen
class CatalogPosition:
    """
    Where a reader of the catalog stands: it has everything up to the place, in the order of the epoch.

    And beyond it the events whose `seq` is in these runs: what is told early comes ahead of what an open
    transaction still holds back.
    """

    place: LogPlace
    epoch: Epoch
    beyond: tuple[Run, ...] = ()

    @property
    def offset(self) -> str:
        """
        The place as clients keep it and send it back.
        """
        beyond = f"+{show_runs(self.beyond)}" if self.beyond else ""
        return f"{self.place.xid}-{self.place.seq}{beyond}"

    def is_before(self, other: "CatalogPosition") -> bool:
        """
        Whether a reader in that other position, of the same order, has heard more.
        """
        if self.place != other.place:
            return self.place < other.place
        heard = Runs(list(self.beyond))
        return not all(heard.covers(run) for run in other.beyond)

    @property
    def is_short(self) -> bool:
        """
        Whether it can be told to clients; what is not can be again when the log has caught up.
        """
        return len(self.beyond) <= _MOST_RUNS

    @classmethod
    def parsed(cls, offset: str, epoch: Epoch) -> "CatalogPosition | None":
        """
        The position that a client sends back; None when it is none.
        """
        match = _PLACE.fullmatch(offset)
        if match is None:
            return None
        try:
            beyond = read_runs(match[3]) if match[3] else ()
        except ValueError:
            return None
        if len(beyond) > _MOST_RUNS:
            return None  # we never say so many
        return cls(LogPlace(int(match[1]), int(match[2])), epoch, beyond)


@attrs.frozen(kw_only=True)
class Request:
    """
    Where a change came from, as activity and audit records tell it.
    """

    mutation_id: str
    ip: str | None = None
    user_agent: str | None = None
    traceparent: str | None = None


def traceparent_of(given: str | None) -> str | None:
    """
    A traceparent, if it is one; what is none is ignored, as W3C Trace Context wants it.
    """
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None


@attrs.frozen(kw_only=True)
class EventDraft:
    """
    An event that a decision wants to happen; the store commits it together with the row it is about.
    """

    type: str
    data: Json


@attrs.frozen(kw_only=True)
class Event:
    """
    A committed fact.

    `data` holds the whole fact (for plugins and records); `wire_data` is what frontends are shown of it.
    """

    place: LogPlace
    id: EventId
    topic: Topic
    offset: Offset
    epoch: Epoch
    type: str
    data: Json
    user: UserId
    request: Request
    at: datetime

    @property
    def position(self) -> Position:
        """
        Where a reader stands that has this event as its latest.
        """
        return Position(self.offset, self.epoch)


def episode_topic(episode_id: EpisodeId) -> Topic:
    """
    The topic, and so the log, of one episode.
    """
    return Topic(f"episode:{episode_id}")


def user_topic(user: UserId) -> Topic:
    """
    The topic, and so the log, of what one person is told.
    """
    return Topic(f"user:{user}")


def is_private(topic: Topic) -> bool:
    """
    Whether the topic is one person's own.
    """
    return topic.startswith("user:")


def utc_now() -> datetime:
    """
    The present time in UTC, cut to milliseconds as the wire shows it.
    """
    at = now()
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def iso(at: datetime) -> str:
    """
    A time as the wire shows it: 2026-01-07T12:00:00.000Z.
    """
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
