"""The plugin host: what is found, what is refused at the start, and how plugins are asked."""

import threading
import time
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from engine.domain.access import Action, Identity, Role
from engine.domain.event import UserId
from engine.domain.fields import FieldError
from engine.errors import PluginError
from engine.hookspecs import Resource, hookimpl
from engine.plugin_host.host import DecisionError, PluginHost
from tests.patience import PATIENCE

ALICE = Identity(user=UserId("alice@example.com"), name="Alice", role=Role.EDITOR)
EPISODE = Resource(type="episode", id="1")


@pytest.fixture
def host():
    return PluginHost(decision_budget=0.2)


def test_built_in_plugins_are_loaded_by_name_like_any_other(host):
    """
    activity, notifications and audit are ordinary plugins with one effect each.
    """
    host.load(["activity", "notifications", "audit"], discover=False)
    assert host.names() == ["activity", "notifications", "audit"]
    assert {effect.plugin for effect in host.effects()} == {"activity", "notifications", "audit"}


def test_an_installed_package_is_found_by_its_entry_point(host, tmp_path: Path, monkeypatch):
    """
    Who installs a plugin need not name it anywhere; built-in ones that are not named stay out.
    """
    (tmp_path / "shouting.py").write_text(
        "from engine.hookspecs import hookimpl\n@hookimpl\nasync def on_event(event): ...\n"
    )
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[greenroom.plugins]\nshouting = shouting\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    host.load([], discover=True)
    assert host.names() == ["shouting"]
    assert host.effects()[0].many is None

    without = PluginHost(decision_budget=0.2)
    without.load([], discover=False)
    assert without.names() == []


def test_a_plugin_that_is_nowhere_is_named_with_what_there_is(host):
    """
    The error helps whoever misspelt a name.
    """
    with pytest.raises(
        PluginError, match=r"'actvity'.*neither an installed plugin \(activity, audit.*PYTHONPATH"
    ):
        host.load(["actvity"], discover=False)


@pytest.mark.parametrize("twice", ["activity", "plugins.activity"])
def test_a_plugin_that_is_named_twice_is_refused_in_plain_words(host, twice):
    """
    Under the same name or another: it would be given each event twice.
    """
    with pytest.raises(PluginError, match=f"plugin {twice} is loaded already, as activity; name it once"):
        host.load(["activity", twice], discover=False)


def test_a_plugin_that_cannot_be_imported_is_named(host, tmp_path, monkeypatch):
    """
    A broken module stops the start with its own error, not a traceback.
    """
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="nothing_of_that_name"):
        host.load(["broken_plugin"], discover=False)


@pytest.mark.parametrize("what", ["SystemExit(0)", "GeneratorExit", "RuntimeError('broken')"])
def test_a_plugin_that_ends_the_import_is_named(host, tmp_path, monkeypatch, what):
    """
    A node that was to be started must not end as if all were well.
    """
    (tmp_path / "leaving_plugin.py").write_text(f"raise {what}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        PluginError, match="plugin leaving_plugin cannot be imported: " + what.partition("(")[0]
    ):
        host.load(["leaving_plugin"], discover=False)


@pytest.mark.parametrize("hook", ["settings", "job_handlers", "socket_namespaces"])
def test_a_plugin_that_exits_while_it_is_asked_is_named(host, hook):
    """
    Before anything runs: a clear line, and not a process that ends as if all were well.
    """

    def leave(self):
        raise SystemExit(0)

    plugin = type("Leaving", (), {hook: hookimpl(leave)})()
    with pytest.raises(PluginError, match=rf"plugin leaving: {hook}.*: SystemExit: 0"):
        host.register(plugin, "leaving")
    assert host.names() == []


def test_a_misspelt_hook_is_refused(host):
    """
    A hook that does not exist would never be called, and nobody would notice.
    """

    class Plugin:
        @hookimpl
        async def on_evnt(self, event): ...

    with pytest.raises(PluginError, match="on_evnt"):
        host.register(Plugin(), "misspelt")
    assert host.names() == []


def test_an_argument_that_the_hook_does_not_have_is_refused(host):
    """
    A plugin may name fewer arguments than the contract, never others.
    """

    class Plugin:
        @hookimpl
        async def on_event(self, evnt): ...

    with pytest.raises(PluginError, match="evnt"):
        host.register(Plugin(), "misspelt")


def test_a_wrapper_is_refused(host):
    """
    Hooks stand each for itself: none runs around another plugin's.
    """

    class Plugin:
        @hookimpl(wrapper=True)
        def authorize(self, identity):
            return (yield)

    with pytest.raises(PluginError, match="wrapper"):
        host.register(Plugin(), "wrapping")


def test_both_effect_hooks_in_one_plugin_are_refused(host):
    """
    An event would be handed over twice, on one cursor.
    """

    class Plugin:
        @hookimpl
        async def on_event(self, event): ...

        @hookimpl
        async def on_events(self, events): ...

    with pytest.raises(PluginError, match="on_events is given every event, so on_event would"):
        host.register(Plugin(), "greedy")


def test_a_type_of_event_with_a_hook_of_its_own_is_not_given_to_on_event(host):
    """
    One event, one call: `on_event` has the rest.
    """

    class Plugin:
        @hookimpl
        async def on_event(self, event): ...

        @hookimpl
        def on_episode_deleted(self, event): ...

    host.register(Plugin(), "choosy")
    [effect] = host.effects()
    assert effect.of("episode_deleted").name == "on_episode_deleted"
    assert not effect.of("episode_deleted").is_async
    assert effect.of("episode_created").name == "on_event"


def test_two_plugins_whose_metrics_would_be_one_s_are_refused(host):
    """
    A metric's name has no dots and dashes: what differs in them only would be mixed up.
    """
    host.register(object(), "a-b")
    with pytest.raises(PluginError, match="its metrics would be those of a-b"):
        host.register(object(), "a.b")


async def test_a_decision_may_be_async_and_use_the_plugin_s_own_engine(host):
    """
    A decision that has to ask somebody may wait, within its budget.
    """

    class Plugin:
        @hookimpl
        async def authorize(self, engine, identity):
            await trio.lowlevel.checkpoint()
            return f"{engine.plugin} does not know {identity.name}"

    host.register(Plugin(), "waiting")
    assert await host.authorize(ALICE, Action.READ, EPISODE) == "waiting does not know Alice"


async def test_the_first_refusal_is_the_answer_and_arguments_go_by_name(host):
    """
    Whoever refuses is believed; nobody needs to name arguments that it does not use.
    """

    class Allowing:
        @hookimpl
        def authorize(self):
            return None

    class Refusing:
        @hookimpl
        def authorize(self, resource, identity):
            return f"not {identity.name} on {resource.type}"

    host.register(Allowing(), "allowing")
    assert await host.authorize(ALICE, Action.UPDATE, EPISODE) is None
    host.register(Refusing(), "refusing")
    assert await host.authorize(ALICE, Action.UPDATE, EPISODE) == "not Alice on episode"


async def test_all_plugins_errors_are_gathered(host):
    """
    Whoever edits an episode learns everything that is wrong at once.
    """

    class Picky:
        def __init__(self, field):
            self.field = field

        @hookimpl
        def validate_episode(self, after):
            return [FieldError(self.field, f"not {after[self.field]}")]

    host.register(Picky("title"), "picky-title")
    host.register(Picky("status"), "picky-status")
    errors = await host.validate_episode(ALICE, None, {"title": "Pilot", "status": "draft"}, {})
    assert set(errors) == {FieldError("title", "not Pilot"), FieldError("status", "not draft")}


async def test_a_decision_that_raises_or_dawdles_refuses_and_names_the_plugin(host):
    """
    No answer is no permission; and a request does not wait for ever.
    """

    class Raising:
        @hookimpl
        def authorize(self):
            raise KeyError("oops")

    late = threading.Event()

    class Dawdling:
        @hookimpl
        def validate_episode(self):
            late.wait(PATIENCE)

    host.register(Raising(), "raising")
    with pytest.raises(DecisionError, match=r"raising could not decide.*oops"):
        await host.authorize(ALICE, Action.READ, EPISODE)
    host.register(Dawdling(), "dawdling")
    with pytest.raises(DecisionError, match=r"dawdling did not decide within 0\.2 s"):
        await host.validate_episode(ALICE, None, {}, {})
    late.set()


async def test_an_answer_that_is_none_is_no_permission(host):
    """
    It is told as what it is, the plugin's mistake; and the answer is read under the plugin's budget, too.
    """

    class Odd:
        @hookimpl
        def validate_episode(self):
            return ["no"]

    class Slow:
        @hookimpl
        def validate_episode(self):
            for _ in range(100):
                time.sleep(0.01)
                yield FieldError("title", "again")

    host.register(Odd(), "odd")
    with pytest.raises(
        DecisionError, match=r"odd could not decide: TypeError: .* FieldErrors, not with a str"
    ):
        await host.validate_episode(ALICE, None, {}, {})
    host = PluginHost(decision_budget=0.2)
    host.register(Slow(), "slow")
    with pytest.raises(DecisionError, match="slow did not decide"):
        await host.validate_episode(ALICE, None, {}, {})
