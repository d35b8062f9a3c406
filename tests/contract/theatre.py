"""A plugin's actor without a node, what the plugin is handed, and what it writes."""

import random

import attrs
import trio

from engine.actors.effects import EffectActor, EffectSettings, Fed, Resume
from engine.domain.event import LogPlace
from engine.plugin_host.handle import PluginEngine
from engine.plugin_host.host import Effect
from engine.runtime.backoff import Backoff
from engine.runtime.foreign import Function, Runner
from engine.runtime.loop_guard import LoopGuard
from engine.runtime.mailbox import Mailbox, ask
from tests.contract.studio import PATIENCE, Studio
from tests.patience import patience

START = LogPlace(0, 0)
SETTINGS = EffectSettings(
    budget=PATIENCE,
    transaction_budget=PATIENCE,
    batch=10,
    linger=0,
    failures_to_quarantine=3,
    backoff=Backoff(first=0.001, cap=0.001, jitter=0),
)


class Bug(Exception):  # noqa: N818
    """
    What a broken plugin raises.
    """


@attrs.define(eq=False, kw_only=True)
class Theatre:
    """
    A plugin's actor, life after life; what the plugin was handed, and what it wrote.
    """

    studio: Studio
    log: object
    nursery: trio.Nursery
    settings: EffectSettings = SETTINGS
    # Of each call: the attempt, and the titles of the events.
    calls: list = attrs.field(factory=list)
    mailbox: Mailbox = attrs.field(factory=lambda: Mailbox(4, name="plugin/p"))
    actor: EffectActor | None = None

    def build(self, hook, *, many=False, is_async=True) -> EffectActor:
        """
        An actor of a plugin that does `hook(context, events)`, one event at a time or many.
        """

        def note(context, given):
            events = given if many else (given,)
            self.calls.append((context.attempt, [title(event) for event in events]))
            return events

        async def call(context, given):
            await hook(context, note(context, given))

        def call_plain(context, given):
            hook(context, note(context, given))

        prepared = trio.Event()
        prepared.set()
        function = Function(
            owner="p",
            name="on_events" if many else "on_event",
            call=call if is_async else call_plain,
            is_async=is_async,
        )
        return EffectActor(
            effect=Effect(
                plugin="p",
                engine=PluginEngine(plugin="p"),
                many=function if many else None,
                each=None if many else function,
            ),
            mailbox=self.mailbox,
            log=self.log,
            cursors=self.studio.store.cursors,
            settings=self.settings,
            beginning=START,
            chance=random.Random(1),
            runner=Runner(guard=LoopGuard(PATIENCE)),
            wake_feed=lambda: None,
            prepared=prepared,
        )

    async def start(self, hook, **how) -> trio.CancelScope:
        """
        Begin a life; cancelling what is returned ends it.
        """
        self.actor = self.build(hook, **how)
        return await self.nursery.start(self._live, self.actor)

    async def _live(self, actor, task_status):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(actor.run)
                task_status.started(scope)

    async def write(self, *titles):
        """
        Commit events of these titles, without telling the actor.
        """
        return [await self.studio.create(title) for title in titles]

    async def feed(self, *titles):
        """
        The same, and tell the actor as the feed does.
        """
        events = await self.write(*titles)
        await self.mailbox.tell(Fed(after=events[0].place, events=()))
        return events

    async def written(self):
        """
        The titles that the plugin has written, in order.
        """
        return [row[0] for row in await self.studio.rows("select title from written order by number")]

    async def until(self, is_so):
        """
        Wait until something is so; the actor tells nobody.
        """
        with patience():
            while not (so := is_so()):  # noqa: ASYNC110
                await trio.sleep(0.005)
        return so

    async def quarantined(self):
        """
        Wait until the plugin is quarantined; the cursor as it is in the store.
        """
        await self.until(lambda: self.actor.quarantined_at)
        return await self.studio.store.cursors.open("p", START)

    async def resume(self):
        """
        End the quarantine, as an operator does.
        """
        await self.studio.store.cursors.resume("p")
        with patience():
            await ask(self.mailbox, Resume)


def title(event):
    return event.data["episode"]["title"]


async def write(context, events):
    """
    A hook that writes what it is handed, exactly once.
    """
    async with context.transaction() as transaction:
        for event in events:
            await transaction.execute("insert into written (title) values (%s)", [title(event)])


def write_but_fail_at(*bad):
    """
    The same, but these titles are too much for it; the set that is returned can be emptied.
    """
    failing = set(bad)

    async def hook(context, events):
        for event in events:
            await write(context, [event])
            if title(event) in failing:
                raise Bug(title(event))

    return hook, failing
