"""The settings: every source, who has the last word, and nothing secret ever shown."""

import re
from importlib import resources
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.options import OPTIONS
from conf.settings import describe, load
from conf.sources import variable
from conf.units import read_duration, read_size, show_duration, show_size

DEFAULTS = resources.files("conf").joinpath("default.toml").read_text("utf-8")
LONG_SECRET = "correct horse battery staple, 36 char"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """
    Write a greenroom.toml and return its path, relative as an operator would give it.
    """
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = Path("greenroom.toml")
        path.write_text(text, "utf-8")
        return path

    return write


def commented_options():
    """
    Yield each option that default.toml sets, and whether a comment stands with it.
    """
    table, comment = "", False
    for line in DEFAULTS.splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            table = header[1]
        elif option := re.match(r"(\w+) = ", line):
            yield f"{table}.{option[1]}", comment
        comment = line.startswith("# ")


def test_default_toml_sets_every_option_of_the_tree_and_no_other():
    """
    An option without a default, or a default without an option, never ships.
    """
    assert [option for option, _ in commented_options()] == list(OPTIONS)


def test_default_toml_explains_every_option():
    """
    Each option has a comment; those of a supervised child have theirs at the first child.
    """
    bare = {option for option, comment in commented_options() if not comment}
    explained = {option for option, comment in commented_options() if comment}
    assert {re.sub(r"supervision\.\w+", "supervision.episode", option) for option in bare} <= explained
    assert all(option.startswith("supervision.") for option in bare)


def test_durations_are_seconds_and_sizes_are_bytes_in_the_tree():
    """
    Nobody who reads a setting has to know how it was written.
    """
    settings = load(None, environ={}).settings
    assert settings.database.statement_timeout == 1.5
    assert settings.server.max_body == 1024 * 1024
    assert settings.presence.reload_grace == 2.0
    assert settings.plugins.enabled == ("activity", "notifications", "audit", "imports", "renders")
    assert settings.supervision.episode.restart == "transient"


def test_each_source_has_the_last_word_over_those_before_it(file):
    """
    Defaults, file, DATABASE_URL, GREENROOM_…, command line: the later wins, and is named.
    """
    config = file(
        '[server]\nhost = "a"\nport = 1\nbacklog = 1\n[database]\nurl = "postgresql://file"\npool_size = 2'
    )
    environ = {
        "DATABASE_URL": "postgresql://plain",
        "GREENROOM_SERVER_PORT": "2",
        "GREENROOM_SERVER_BACKLOG": "2",
    }
    loaded = load(config, environ=environ, overrides={"server.backlog": 3})
    server, database = loaded.settings.server, loaded.settings.database
    assert (server.host, server.port, server.backlog) == ("a", 2, 3)
    assert (database.url, database.pool_size) == ("postgresql://plain", 2)
    assert loaded.sources["server.keep_alive"] == "default"
    assert loaded.sources["server.host"] == "file greenroom.toml"
    assert loaded.sources["server.port"] == "environment GREENROOM_SERVER_PORT"
    assert loaded.sources["server.backlog"] == "command line"
    assert loaded.sources["database.url"] == "environment DATABASE_URL"


def test_greenroom_database_url_wins_over_a_database_url_that_is_not_for_us():
    """
    Another program's DATABASE_URL does not keep the node from starting once ours is given.
    """
    environ = {"DATABASE_URL": "mysql://other", "GREENROOM_DATABASE_URL": "postgres://ours"}
    assert load(None, environ=environ).settings.database.url == "postgres://ours"


def test_the_file_may_be_named_by_the_environment_and_the_argument_is_stronger(file, tmp_path):
    """
    GREENROOM_CONFIG names the file, unless the caller does; empty, it names none.
    """
    named = file("[server]\nport = 1")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2")
    environ = {"GREENROOM_CONFIG": str(named)}
    assert load(None, environ=environ).settings.server.port == 1
    assert load(other, environ=environ).settings.server.port == 2
    assert load(None, environ={"GREENROOM_CONFIG": ""}).settings.server.port == 8000


def test_every_option_has_an_environment_variable_of_its_own():
    """
    One underscore joins section and option, and still no two options share a variable.
    """
    assert len({variable(option) for option in OPTIONS} | {"GREENROOM_CONFIG"}) == len(OPTIONS) + 1


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("server.port", "9000", 9000),
        ("server.keep_alive", "90", 90.0),
        ("server.keep_alive", "1.5m", 90.0),
        ("server.max_body", "2048", 2048),
        ("server.max_body", "2KiB", 2048),
        ("server.require_if_match", "Yes", True),
        ("server.require_if_match", "0", False),
        ("plugins.enabled", "audit, activity", ("audit", "activity")),
        ("plugins.enabled", "", ()),
        ("supervision.feed.backoff_jitter", "1", 1.0),
        ("log.level", "debug", "debug"),
    ],
)
def test_text_of_the_environment_and_of_the_command_line_is_read_alike(option, text, value):
    """
    Where everything is text, each kind of option understands its own.
    """
    from_environment = load(None, environ={variable(option): text})
    from_command_line = load(None, environ={}, overrides={option: text})
    for loaded in (from_environment, from_command_line):
        section = loaded.settings
        for name in option.split("."):
            section = getattr(section, name)
        assert section == value
        assert type(section) is type(value)


def test_what_a_plugin_is_told_is_kept_open_and_joined_over_the_sources(file):
    """
    Where nobody has asked the plugins, what they are told is taken as it is; a later source adds to it.
    """
    config = file('[plugins.webhook]\nurl = "https://x"\ntries = 3\n[plugins.audit.deep]\nx = [1]')
    loaded = load(config, environ={}, overrides={"plugins.webhook.tries": 5})
    assert loaded.settings.plugins.settings == {
        "webhook": {"url": "https://x", "tries": 5},
        "audit": {"deep": {"x": [1]}},
    }
    assert loaded.sources["plugins.webhook.url"] == "file greenroom.toml"
    assert loaded.sources["plugins.webhook.tries"] == "command line"


def test_secrets_and_passwords_are_never_shown(file):
    """
    Neither in the list of settings, nor in the tree's repr, where a traceback or a log would find it.
    """
    config = file(f'[auth]\nsecret = "{LONG_SECRET}"\n[plugins.webhook]\ntoken = "swordfish"\ntries = 3')
    loaded = load(config, environ={"DATABASE_URL": "postgresql://app:sword/f@sh@db:5432/green"})
    shown = {option: value for option, value, _ in describe(loaded)}
    assert shown["auth.secret"] == '"***"'
    assert shown["database.url"] == '"postgresql://app:***@db:5432/green"'
    assert shown["plugins.webhook.token"] == '"***"'
    assert shown["plugins.webhook.tries"] == "3"
    assert LONG_SECRET not in repr(loaded)
    assert "sword" not in repr(loaded)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://db:5432/green", "postgresql://db:5432/green"),
        ("postgresql://app@db/green", "postgresql://app@db/green"),
        ("postgresql://:pw@db", "postgresql://:***@db"),
        ("postgres://db/green?user=app&password=pw&x=1", "postgres://db/green?user=app&password=***&x=1"),
    ],
)
def test_a_database_url_is_shown_without_its_password(url, shown):
    """
    Everything else of it stays, for the operator has to recognise it.
    """
    loaded = load(None, environ={}, overrides={"database.url": url})
    assert {option: value for option, value, _ in describe(loaded)}["database.url"] == f'"{shown}"'


def test_the_list_of_settings_is_a_file_that_gives_the_same_settings(file):
    """
    What is shown can be pasted into a file and means the same.
    """
    loaded = load(None, environ={"GREENROOM_NODE_NAME": 'a "b" \\ é', "GREENROOM_FEED_POLL": "0.0015"})
    pasted = file("\n".join(f"{option} = {value}" for option, value, _ in describe(loaded)))
    assert load(pasted, environ={}).settings == loaded.settings


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_that_is_shown_reads_as_the_same_duration(milliseconds):
    """
    Writing and reading durations lose nothing down to a millisecond.
    """
    assert read_duration(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, rel=1e-12)


@given(st.integers(min_value=1, max_value=2**50))
def test_a_size_that_is_shown_reads_as_the_same_size(size):
    """
    Writing and reading sizes lose nothing.
    """
    assert read_size(show_size(size)) == size


def test_an_empty_data_directory_is_resolved_by_who_runs_the_node(monkeypatch, tmp_path):
    """
    Root keeps its data in /var/lib, everybody else under the home directory.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    node = load(None, environ={}).settings.node
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert node.resolved_data_dir == Path("/var/lib/greenroom")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert node.resolved_data_dir.is_relative_to(tmp_path)
    assert attrs.evolve(node, data_dir="~/data").resolved_data_dir == tmp_path / "data"


def test_a_node_without_a_name_is_called_after_host_and_process(monkeypatch):
    """
    Two nodes on one host do not share a name unless the operator says so.
    """
    monkeypatch.setattr("socket.gethostname", lambda: "studio")
    monkeypatch.setattr("os.getpid", lambda: 7)
    node = load(None, environ={}).settings.node
    assert node.resolved_name == "studio-7"
    assert attrs.evolve(node, name="main").resolved_name == "main"
