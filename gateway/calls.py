"""One client's calls to plugins: bounded, part of its trace, answered by JSON or a refusal."""

from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from engine.actors.answers import NoAnswer
from engine.domain.access import Identity
from engine.domain.event import traceparent_of
from engine.hookspecs import Refused
from engine.node import Node
from gateway import protocol
from gateway.session_client import Refusal

# Calls that one client may have under way.
CALLS = 16

Answered = Callable[[msgspec.Raw | Refusal], None]


@attrs.define(eq=False, kw_only=True)
class Calls:
    """
    Own how many calls of one client plugins have not answered yet.
    """

    node: Node
    # The traceparent that the client has come with, if any: where calls are in a trace that name no other.
    traceparent: str | None
    _under_way: int = attrs.field(default=0, init=False)

    def begin(self, identity: Identity, call: protocol.Call, done: Answered) -> None:
        """
        Let a plugin answer; `done` is told the answer as JSON, or a refusal, now or later, and once.
        """
        if self._under_way >= CALLS:
            done(Refusal("too_many", f"{CALLS} calls of this session are under way; wait for an answer"))
            return
        tracer = self.node.traces.tracer
        parent = traceparent_of(call.traceparent or self.traceparent)
        span = None if tracer is None else tracer.begin(f"call {call.name}", parent)

        def answered(said: Any) -> None:
            self._under_way -= 1
            answer = _answer(said)
            if span is not None:
                span.end({}, error=answer.code if isinstance(answer, Refusal) else None)
            done(answer)

        self._under_way += 1
        self.node.plugin_tasks.answers.call(identity, call.name, call.args, answered)


def _answer(said: Any) -> msgspec.Raw | Refusal:
    if isinstance(said, NoAnswer | Refused):
        return Refusal(said.code, said.message)
    try:
        return msgspec.Raw(msgspec.json.encode(said))
    except (TypeError, ValueError, RecursionError) as error:
        return Refusal("failed", f"the plugin's answer is no JSON: {error}")
