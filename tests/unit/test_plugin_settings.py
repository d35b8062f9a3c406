"""Settings of plugins' own: read, refused and shown as ours are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs
import pytest
from click.testing import CliRunner

from conf.changes import changes, taken_up
from conf.settings import SettingsError, describe, load
from engine.errors import PluginError
from engine.hookspecs import Count, Duration, Secret, SomeText, hookimpl
from engine.plugin_host.host import PluginHost
from gateway.cli.config import config as config_command


@attrs.frozen(kw_only=True)
class Webhook:
    url: SomeText
    secret: Secret = ""
    tries: Count = 3
    timeout: Duration = 5.0
    kinds: tuple[str, ...] = ("created",)
    style: Literal["slack", "plain"] = "slack"

    def __attrs_post_init__(self) -> None:
        if self.style == "slack" and self.tries > 5:
            raise ValueError("slack wants at most 5 tries")


class Plugin:
    @hookimpl
    def settings(self):
        return Webhook


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None):
    """
    Load a file with the plugin `webhook` there; the settings, and the host that was told of them.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text(text)
    host = PluginHost()
    host.register(Plugin(), "webhook")
    loaded = load(file, environ=environ or {}, schemas=lambda enabled, discover: host.schemas)
    host.configure(loaded.settings.plugins)
    return loaded, host


def test_a_plugin_gets_an_object_of_its_own_class_with_checked_values(tmp_path):
    """
    Durations are seconds, lists are tuples, what is not given takes the default; environment goes first.
    """
    text = '[plugins.webhook]\nurl = "https://x"\ntimeout = "250ms"\nkinds = ["a", "b"]\n'
    _, host = read(tmp_path, text, {"GREENROOM_PLUGINS_WEBHOOK_TRIES": "5"})
    assert host.engines["webhook"].settings == Webhook(
        url="https://x", timeout=0.25, kinds=("a", "b"), tries=5
    )


def test_all_mistakes_are_named_at_once_with_ours(tmp_path):
    """
    Where it was said, what, and what would be right; a secret is not repeated.
    """
    text = '[server]\nport = -1\n[plugins.webhook]\ntrys = 2\ntimeout = "soon"\nsecret = 5\n'
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, {"GREENROOM_PLUGINS_WEBHOOK_STYLE": "fax"})
    mistakes = [str(mistake).replace(f"file {tmp_path}/", "") for mistake in caught.value.mistakes]
    assert mistakes == [
        "greenroom.toml: server.port = -1: must be a whole number from 0 to 65535",
        "greenroom.toml: plugins.webhook.trys: no such option; did you mean plugins.webhook.tries?",
        'greenroom.toml: plugins.webhook.timeout = "soon": must be a duration such as "500ms", "30s", '
        '"12h", longer than zero',
        'greenroom.toml: plugins.webhook.secret = "***": must be a text',
        'environment GREENROOM_PLUGINS_WEBHOOK_STYLE: plugins.webhook.style = "fax": '
        'must be one of "slack", "plain"',
        "plugin webhook: plugins.webhook.url: is missing: a text that is not empty",
    ]


def test_what_the_class_itself_refuses_is_a_mistake_too(tmp_path):
    """
    Rules between options are the plugin's to make.
    """
    with pytest.raises(SettingsError, match=r"plugins\.webhook: slack wants at most 5 tries"):
        read(tmp_path, '[plugins.webhook]\nurl = "https://x"\ntries = 6')


def test_a_misspelt_table_is_noticed_and_one_of_an_absent_plugin_may_stay(tmp_path):
    """
    Who switches a plugin off for a day need not delete its settings.
    """
    good = '[plugins.webhook]\nurl = "https://x"\n'
    read(tmp_path, f"{good}[plugins.something-else]\nurl = 5")
    with pytest.raises(SettingsError, match=r"plugins\.webhok: no plugin of this name.*mean webhook"):
        read(tmp_path, f"{good}[plugins.webhok]\ntries = 5")
    with pytest.raises(SettingsError, match="GREENROOM_PLUGINS_WEBHOOK_TRYS: no such option; did you mean"):
        read(tmp_path, good, {"GREENROOM_PLUGINS_WEBHOOK_TRYS": "5"})


def test_a_plugin_s_own_budgets_stand_instead_of_everybody_s(tmp_path):
    """
    The same names as in [plugins]; a plugin's own options cannot take them.
    """
    text = '[plugins]\nbatch = 7\n[plugins.webhook]\nurl = "https://x"\neffect_budget = "2s"\n'
    loaded, _ = read(tmp_path, text)
    own = loaded.settings.plugins.of("webhook")
    assert (own.effect_budget, own.batch) == (2.0, 7)
    assert loaded.settings.plugins.of("audit").effect_budget == 10.0
    with pytest.raises(SettingsError, match=r"plugins\.webhook\.batch = 0: must be a whole number of 1"):
        read(tmp_path, '[plugins.webhook]\nurl = "https://x"\nbatch = 0')

    class Greedy:
        @hookimpl
        def settings(self):
            return attrs.make_class("Greedy", {"batch": attrs.field(type=int, default=1)})

    with pytest.raises(PluginError, match="batch is the name of a budget"):
        PluginHost().register(Greedy(), "greedy")


def test_a_class_that_cannot_be_read_from_a_file_is_refused_with_the_field(tmp_path):
    """
    The author learns at the first start which field has no kind.
    """

    class Odd:
        @hookimpl
        def settings(self):
            return attrs.make_class("Odd", {"when": attrs.field(type=dict)})

    host = PluginHost()
    with pytest.raises(PluginError, match="plugin odd: settings: when is <class 'dict'>; an option is bool"):
        host.register(Odd(), "odd")
    assert host.names() == []


def test_own_settings_are_shown_with_their_source_and_without_their_secrets(tmp_path):
    """
    `greenroom config show` tells what is in force, defaults included.
    """
    loaded, _ = read(tmp_path, '[plugins.webhook]\nurl = "https://x"\nsecret = "hush"\n')
    shown = {option: (value, source) for option, value, source in describe(loaded)}
    assert shown["plugins.webhook.url"] == ('"https://x"', f"file {tmp_path}/greenroom.toml")
    assert shown["plugins.webhook.secret"][0] == '"***"'
    assert shown["plugins.webhook.timeout"] == ('"5s"', "default of webhook")


def test_config_check_asks_the_plugins_that_would_be_loaded(tmp_path, monkeypatch):
    """
    From outside: a plugin named in the file checks its table in the same file.
    """
    (tmp_path / "picky_plugin.py").write_text(
        "import attrs\nfrom engine.hookspecs import Count, hookimpl\n"
        "@attrs.frozen\nclass Picky:\n    tries: Count\n"
        "@hookimpl\ndef settings():\n    return Picky\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "greenroom.toml"
    file.write_text('[plugins]\nenabled = ["picky_plugin"]\n[plugins.picky_plugin]\ntries = 0\n')
    result = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert result.exit_code == 2
    assert "plugins.picky_plugin.tries = 0: must be a whole number of 1 or more" in result.stderr
    file.write_text('[plugins]\nenabled = ["picky_plugin", "nobody"]\n')
    result = CliRunner().invoke(config_command, ["check", "--config", str(file)])
    assert result.exit_code == 2
    assert "'nobody', which is neither an installed plugin" in result.stderr


def test_a_running_node_takes_up_a_plugin_s_budgets_and_nothing_else_of_it(tmp_path):
    """
    What a plugin was told at its start it keeps; how long it may take is the operator's to change.
    """
    url = '[plugins.webhook]\nurl = "https://x"\nsecret = "hush"\n'
    now, _ = read(tmp_path, url + "batch = 7\n")
    wanted, _ = read(tmp_path, url.replace("hush", "hash") + 'effect_budget = "1s"\n')
    found = changes(now.settings, wanted)
    assert [(change.option, change.before, change.after) for change in found.live] == [
        ("plugins.webhook.batch", "7", "(not set)"),
        ("plugins.webhook.effect_budget", "(not set)", '"1s"'),
    ]
    assert [(change.option, change.before, change.after) for change in found.restart] == [
        ("plugins.webhook.secret", '"***"', '"***"')
    ]
    taken = taken_up(now.settings, wanted.settings).plugins
    assert (taken.of("webhook").effect_budget, taken.of("webhook").batch) == (1.0, 100)
    assert taken.settings["webhook"]["secret"] == "hush"
