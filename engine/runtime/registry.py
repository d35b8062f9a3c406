"""Registry: key → actor, started on demand, passivated when idle; knows nothing of what actors do."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, Protocol, TypeVar

import attrs
import trio

from engine.errors import ParkedError
from engine.runtime.mailbox import Mailbox, Reply, ask
from engine.runtime.supervisor import (
    ChildEvent,
    ChildSpec,
    Restart,
    RestartPolicy,
    Supervisor,
    SupervisorEvent,
)

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")
T = TypeVar("T")


def _restarted_after_crashes_only(policy: RestartPolicy) -> RestartPolicy:
    return attrs.evolve(policy, restart=Restart.TRANSIENT)


class Actor(Protocol):
    """
    What a registry runs: one life of an actor.

    It reads the mailbox it was made with, and passivates by returning, at any moment it likes: as a rule
    when `mailbox.receive_or_idle()` brings None and nobody needs it. What is told while it is ending, or
    has not been read, starts its next life.
    """

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """
        Call `task_status.started()` when ready, then read the mailbox until nobody needs the actor.
        """
        ...


@attrs.frozen(kw_only=True)
class RegistryStatistics:
    """
    A registry at one moment; `depth` and `oldest_age` (seconds) are those of its mailboxes together.
    """

    kind: str
    actors: int
    parked: int
    depth: int
    oldest_age: float
    started_total: int
    passivated_total: int


@attrs.define(eq=False)
class Registry(Generic[K, M]):
    """
    Own the mailboxes of all actors of one kind, by key.

    A mailbox is there from the first message until its actor has passivated with nothing left to read.
    A crash of an actor loses the message it was handling, no other. While an actor is parked its asks
    fail with ParkedError; other messages that it had not read wait for its next life.
    """

    supervisor: Supervisor
    kind: str = attrs.field(kw_only=True)
    # Its `restart` does not count: an actor is restarted after a crash only.
    policy: RestartPolicy = attrs.field(kw_only=True, converter=_restarted_after_crashes_only)
    capacity: int = attrs.field(kw_only=True)
    idle: float = attrs.field(kw_only=True)
    # Makes a new actor for each life; its mailbox is the same in all.
    start: Callable[[K, Mailbox[M]], Actor] = attrs.field(kw_only=True)
    _mailboxes: dict[K, Mailbox[M]] = attrs.field(factory=dict, init=False)
    _started_total: int = attrs.field(default=0, init=False)
    _passivated_total: int = attrs.field(default=0, init=False)

    def retune(self, policy: RestartPolicy, *, capacity: int, idle: float) -> None:
        """
        Let all actors, running ones too, live by other numbers.
        """
        self.policy = policy
        self.capacity, self.idle = capacity, idle
        for mailbox in self._mailboxes.values():
            mailbox.resize(capacity)
            mailbox.idle = idle
        self.supervisor.retune(self.policy)

    def tell_nowait(self, key: K, message: M) -> None:
        """
        Tell an actor, which is started if it does not run.

        Raises MailboxFullError, ParkedError, or ActorStoppedError when the supervisor does not run.
        """
        self._mailbox(key).tell_nowait(message)

    async def tell(self, key: K, message: M) -> None:
        """
        The same, but waits for room: the caller owns the deadline.
        """
        await self._mailbox(key).tell(message)

    async def ask(self, key: K, make: Callable[[Reply[T]], M]) -> T:
        """
        Tell an actor, which is started if it does not run, and wait for its answer.

        Raises ParkedError, or ActorStoppedError when the actor crashes or is stopped before it answers.
        """
        return await ask(self._mailbox(key), make)

    def tell_running_nowait(self, key: K, message: M) -> bool:
        """
        Tell an actor only if it is there and not parked; else False. Raises MailboxFullError.
        """
        mailbox = self._mailboxes.get(key)
        if mailbox is None or not mailbox.accepts:
            return False
        mailbox.tell_nowait(message)
        return True

    def __contains__(self, key: K) -> bool:
        return key in self._mailboxes

    def keys(self) -> tuple[K, ...]:
        """
        The keys whose actor is there: starting, running, waiting for its restart, parked or ending.
        """
        return tuple(self._mailboxes)

    def mailboxes(self) -> dict[str, Mailbox[M]]:
        """
        The mailbox of each actor that is there, by the name of its child.
        """
        return {mailbox.name: mailbox for mailbox in self._mailboxes.values()}

    def statistics(self) -> RegistryStatistics:
        """
        Numbers for metrics and the tree.
        """
        mailboxes = [mailbox.statistics() for mailbox in self._mailboxes.values()]
        return RegistryStatistics(
            kind=self.kind,
            actors=len(mailboxes),
            parked=sum(not mailbox.accepts for mailbox in self._mailboxes.values()),
            depth=sum(mailbox.depth for mailbox in mailboxes),
            oldest_age=max((mailbox.oldest_age for mailbox in mailboxes), default=0.0),
            started_total=self._started_total,
            passivated_total=self._passivated_total,
        )

    def _mailbox(self, key: K) -> Mailbox[M]:
        mailbox = self._mailboxes.get(key)
        if mailbox is None:
            name = f"{self.kind}/{key}"
            mailbox = Mailbox(self.capacity, name=name, idle=self.idle)
            spec = ChildSpec(
                name=name,
                kind=self.kind,
                run=partial(self._live, key, mailbox),
                policy=self.policy,
                park=True,
                on_event=partial(self._happened, key, mailbox),
            )
            self.supervisor.start_child_nowait(spec)
            self._mailboxes[key] = mailbox
        return mailbox

    async def _live(self, key: K, mailbox: Mailbox[M], status: trio.TaskStatus[None]) -> None:
        mailbox.accept()
        while True:
            received = mailbox.statistics().received_total
            self._started_total += 1
            with mailbox.serving():
                await self.start(key, mailbox).run(status)
            self._passivated_total += 1
            # No checkpoint from this look until `_happened` hears that the child is gone: whatever is told
            # before starts another life here, whatever is told after another child.
            if not len(mailbox):
                return
            if mailbox.statistics().received_total == received:
                raise RuntimeError(
                    f"{mailbox.name} returned without reading any of its {len(mailbox)} messages"
                )

    def _happened(self, key: K, mailbox: Mailbox[M], event: SupervisorEvent) -> None:
        if event.what is ChildEvent.PARKED:
            why = "was parked by an operator, who has to resume it"
            if event.error is not None:
                why = f"crashed too often: parked for at most {self.policy.cool_down:g} s"
            mailbox.refuse(lambda: ParkedError(f"{mailbox.name} {why}"))
        elif event.what is ChildEvent.GONE:
            del self._mailboxes[key]
            mailbox.close()
