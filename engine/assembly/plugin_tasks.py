"""What runs for plugins beside their effects: life cycle, notices, answers. Builds it and hangs it up."""

from collections.abc import Iterator, Mapping
from functools import partial

import attrs

from conf.settings import Child, Settings
from engine.actors.answers import Answers
from engine.actors.notices import WAITING, Notice, NoticeActor, Notices
from engine.actors.plugin_life import PluginLife
from engine.actors.presence import PresenceSink
from engine.assembly.topics import policy_of
from engine.marks import Marks
from engine.plugin_host.host import PluginHost
from engine.runtime.child import ChildSpec, Restart, RestartPolicy
from engine.runtime.mailbox import Mailbox
from engine.runtime.supervisor import Supervisor

# Hooks that are told what has happened, and say nothing.
NOTICE_HOOKS = ("presence_changed", "session_opened", "session_closed")


@attrs.define(eq=False, kw_only=True)
class PluginTasks:
    """
    Own the tasks of all plugins that are no effects.
    """

    settings: Settings
    lives: Mapping[str, PluginLife]
    notices: Notices
    answers: Answers
    marks: Marks = attrs.field(factory=Marks)

    @classmethod
    def build(cls, settings: Settings, plugins: PluginHost, writer: PresenceSink) -> "PluginTasks":
        """
        All of it, not yet running. `writer` is who keeps presence.
        """
        lives = {
            name: PluginLife(
                engine=engine,
                runner=plugins.runner,
                started=plugins.function(name, "engine_started"),
                stopping=plugins.function(name, "engine_stopping"),
                budget=plugins.budgets_of(name).life_cycle_budget,
            )
            for name, engine in plugins.engines.items()
        }
        actors = {}
        for name, engine in plugins.engines.items():
            found = {hook: plugins.function(name, hook) for hook in NOTICE_HOOKS}
            functions = {hook: function for hook, function in found.items() if function is not None}
            if functions:
                actors[name] = NoticeActor(
                    engine=engine,
                    runner=plugins.runner,
                    functions=functions,
                    limits=partial(plugins.budgets_of, name),
                    prepared=lives[name].prepared,
                    mailbox=Mailbox[Notice](WAITING, name=f"plugin/{name}/notices"),
                )
        kind = settings.supervision.plugin
        answers = Answers(
            plugins=plugins,
            runner=plugins.runner,
            supervisor=Supervisor("answers"),
            policy=_once(kind),
            limits=plugins.budgets_of,
            prepared={name: life.prepared for name, life in lives.items()},
            rest=kind.cool_down,
        )
        return cls(
            settings=settings,
            lives=lives,
            notices=Notices(actors=actors, writer=writer),
            answers=answers,
        )

    def children(self) -> Iterator[ChildSpec]:
        """
        What is to be started with the node.
        """
        policy = policy_of(self.settings.supervision.plugin)
        for name, life in self.lives.items():
            if life.has_hooks:
                yield ChildSpec(name=f"{name}/life", kind="plugin", run=life.run, policy=policy, park=True)
        for name, actor in self.notices.actors.items():
            yield ChildSpec(name=f"{name}/notices", kind="plugin", run=actor.run, policy=policy, park=True)

    def retune(self, settings: Settings) -> None:
        """
        Go by these settings; the plugins' budgets are looked up each time.
        """
        kind = settings.supervision.plugin
        self.answers.rest, self.answers.policy = kind.cool_down, _once(kind)
        for name, life in self.lives.items():
            life.budget = settings.plugins.of(name).life_cycle_budget


def _once(kind: Child) -> RestartPolicy:
    """
    An answer that failed is not given again.
    """
    return attrs.evolve(policy_of(kind), restart=Restart.TEMPORARY)
