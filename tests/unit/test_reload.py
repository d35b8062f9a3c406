"""What a reload changes: which options, all or nothing, and who is told."""

import re
from importlib import resources

import pytest

from conf.changes import changes, taken_up
from conf.options import LIVE_OPTIONS, OPTIONS
from conf.settings import SettingsError, load
from engine.live import Live, NoSourceError

DEFAULTS = resources.files("conf").joinpath("default.toml").read_text("utf-8")


def settings(**environ):
    """
    The settings of an environment: `settings(feed_batch="7")`.
    """
    return load(None, environ={f"GREENROOM_{name.upper()}": value for name, value in environ.items()})


def comments():
    """
    Each option with the comment above it; a supervised child's stand at the first child.
    """
    found, table, comment = {}, "", ""
    for line in DEFAULTS.splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            table, comment = header[1], ""
        elif option := re.match(r"(\w+) = ", line):
            found[f"{table}.{option[1]}"] = comment
            comment = ""
        elif line.startswith("#"):
            comment += line[1:]  # with the space that stands for the end of the line before
        else:
            comment = ""
    return found


def test_options_that_need_a_restart_say_so_and_no_others():
    """
    An operator who reads default.toml knows what a reload will do.
    """
    says = {option for option, comment in comments().items() if re.search(r"Needs a restart[.;]", comment)}
    assert says == set(OPTIONS) - LIVE_OPTIONS


def test_a_reload_tells_live_options_apart_from_those_that_need_a_restart():
    """
    Both are named, with both values and where the new one is from.
    """
    found = changes(settings().settings, settings(feed_batch="7", server_port="9"))
    assert [str(change) for change in found.live] == [
        "feed.batch: 500 -> 7 (environment GREENROOM_FEED_BATCH)"
    ]
    assert [str(change) for change in found.restart] == [
        "server.port: 8000 -> 9 (environment GREENROOM_SERVER_PORT)"
    ]


def test_secrets_are_not_told_when_they_change():
    """
    That they differ is all that anybody is told.
    """
    old, new = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
    found = changes(settings(auth_secret=old).settings, settings(auth_secret=new))
    [change] = found.restart
    assert change.option == "auth.secret"
    assert old not in str(change)
    assert new not in str(change)


def test_settings_of_plugins_are_compared_and_masked(tmp_path):
    """
    Only the plugin knows whether they are secret.
    """
    file = tmp_path / "greenroom.toml"
    file.write_text('[plugins.hook]\nkey = "hunter2"\nretries = 3\n')
    found = changes(settings().settings, load(file, environ={}))
    assert [change.option for change in found.restart] == ["plugins.hook.key", "plugins.hook.retries"]
    assert "hunter2" not in str(found)
    assert found.restart[1].after == "3"


def test_what_needs_a_restart_stays_as_it_was():
    """
    The settings in force are those that the parts go by.
    """
    now = settings().settings
    wanted = settings(feed_batch="7", server_port="9", supervision_feed_within="7s").settings
    taken = taken_up(now, wanted)
    assert (taken.feed.batch, taken.supervision.feed.within, taken.server.port) == (7, 7.0, 8000)
    assert taken_up(now, now) == now


def test_followers_are_told_only_when_something_live_has_changed():
    """
    They are told the settings that are then in force.
    """
    given = settings()
    live = Live(given.settings, source=lambda: given)
    told = []
    live.follow(told.append)
    assert live.reload().live == ()
    given = settings(server_port="9")
    assert len(live.reload().restart) == 1
    assert told == []
    given = settings(feed_batch="7", server_port="9")
    live.reload()
    assert [one.feed.batch for one in told] == [7]
    assert told == [live.settings]


def test_a_preview_changes_nothing():
    """
    It tells the same as the reload after it.
    """
    live = Live(settings().settings, source=lambda: settings(feed_batch="7"))
    live.follow(lambda _: pytest.fail("told"))
    assert live.preview() == live.preview()
    assert live.settings.feed.batch == 500


def test_wrong_settings_change_nothing_and_every_mistake_is_named():
    """
    Also what is right among them stays as it was.
    """
    live = Live(settings().settings, source=lambda: settings(feed_batch="0", feed_poll="x", server_port="9"))
    live.follow(lambda _: pytest.fail("told"))
    with pytest.raises(SettingsError) as raised:
        live.reload()
    assert [mistake.option for mistake in raised.value.mistakes] == ["feed.batch", "feed.poll"]
    assert live.settings == settings().settings


def test_a_node_without_a_source_says_so():
    """
    A node that a program built has no file to read anew.
    """
    with pytest.raises(NoSourceError):
        Live(settings().settings).reload()
