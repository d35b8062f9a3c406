"""What is wrong with settings: every kind of mistake, from every source, all at once."""

import re
from pathlib import Path

import pytest

from conf.options import OPTIONS, RENAMED
from conf.settings import Mistake, SettingsError, load
from conf.sources import variable


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


def mistakes(config=None, environ=None, overrides=None):
    with pytest.raises(SettingsError) as raised:
        load(config, environ=environ or {}, overrides=overrides or {})
    return raised.value.mistakes


@pytest.mark.parametrize(
    ("toml", "mistake"),
    [
        ("[server]\nport = 65536", "server.port = 65536: must be a whole number from 0 to 65535"),
        ("[server]\nport = true", "server.port = true: must be a whole number from 0 to 65535"),
        ('[server]\nport = "80"', 'server.port = "80": must be a whole number from 0 to 65535'),
        ("[server]\nport = 80.0", "server.port = 80.0: must be a whole number from 0 to 65535"),
        ("[feed]\nbatch = 0", "feed.batch = 0: must be a whole number of 1 or more"),
        ("[server]\nport = { x = 1 }", "server.port = {…}: must be a whole number from 0 to 65535"),
        ("[server]\nhost = ''", 'server.host = "": must be a text that is not empty'),
        ("[node]\nname = 1", "node.name = 1: must be a text"),
        (
            '[feed]\npoll = "1 day"',
            'feed.poll = "1 day": must be a duration such as "500ms", "30s", "12h", longer than zero',
        ),
        (
            "[feed]\npoll = 0",
            'feed.poll = 0: must be a duration such as "500ms", "30s", "12h", longer than zero',
        ),
        (
            "[auth]\nleeway = -1",
            'auth.leeway = -1: must be a duration such as "500ms", "30s", "12h"',
        ),
        (
            "[auth]\nleeway = nan",
            'auth.leeway = nan: must be a duration such as "500ms", "30s", "12h"',
        ),
        (
            '[database]\nstatement_timeout = "2h"',
            'database.statement_timeout = "2h": must be a duration such as "500ms", "30s", "12h",'
            " longer than zero, at most 1h",
        ),
        (
            '[server]\nmax_body = "1MB"',
            'server.max_body = "1MB": must be a size such as "64KiB" or "1MiB", more than zero',
        ),
        ("[server]\nrequire_if_match = 1", "server.require_if_match = 1: must be true or false"),
        ('[log]\nformat = "xml"', 'log.format = "xml": must be one of "auto", "json", "people"'),
        (
            '[plugins]\nenabled = ["audit", "audit"]',
            'plugins.enabled = ["audit", "audit"]: must be a list of different names'
            ' such as ["activity", "audit"]',
        ),
        (
            "[supervision.job]\nbackoff_jitter = 1.1",
            "supervision.job.backoff_jitter = 1.1: must be a number from 0 to 1",
        ),
        ('database = "postgresql://app:pw@db"', "database: must be a table: [database]"),
        ("[server]\nprot = 1", "server.prot: no such option; did you mean server.port?"),
        ("[server]\nmax-body = 1", "server.max-body: no such option; did you mean server.max_body?"),
        ("port = 1", "port: no such option; did you mean server.port?"),
        ("batch = 1", "batch: no such option; did you mean feed.batch or plugins.batch?"),
        ("colour = 1", "colour: no such option"),
        ('[jobs]\nkeep = "7d"', "jobs.keep: no such option; it is called retention.jobs_age now"),
        ("[sevrer]\nport = 1", "sevrer: no such section; did you mean server?"),
        (
            "[supervision.epsiode]",
            "supervision.epsiode: no such section; did you mean supervision.episode?",
        ),
        ("[plugins]\nlingre = 1", "plugins.lingre: no such option; did you mean plugins.linger?"),
        (
            '[supervision.feed]\nbackoff_first = "1m"',
            'supervision.feed.backoff_first = "1m": must not be longer than supervision.feed.backoff_cap',
        ),
        (
            '[node]\nname = "external:a"',
            'node.name = "external:a": must be without "/" and ":", by which leases tell nodes apart',
        ),
        (
            '[sqs]\nqueue_url = "http://127.0.0.1/1/jobs"\nwait = "5s"\n[node]\nshutdown_grace = "4s"',
            'sqs.wait = "5s": must be shorter than node.shutdown_grace, because the end of the node waits for'
            " a poll",
        ),
        (
            '[sqs]\nwait = "21s"',
            'sqs.wait = "21s": must be a duration such as "500ms", "30s", "12h", longer than zero,'
            " at most 20s",
        ),
        (
            '[sqs]\nqueue_url = "jobs"',
            'sqs.queue_url = "jobs": must be a URL with http:// or https:// and without a user\'s name,'
            " or empty",
        ),
        (
            '[server]\ntls_key = "k.pem"',
            'server.tls_key = "k.pem": needs server.tls_certificate too',
        ),
        (
            '[server]\ntls_certificate = "c.pem"',
            'server.tls_certificate = "c.pem": needs server.tls_key too',
        ),
    ],
)
def test_a_mistake_names_file_option_value_and_what_would_be_right(file, toml, mistake):
    """
    The operator reads one line and knows what to change, and where.
    """
    assert [str(found) for found in mistakes(file(toml))] == [f"file greenroom.toml: {mistake}"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[server]\nport = = 1\n", r"is not TOML: .*line 2, column 8.*"),
        (b"[server]\nport = 1\nport = 2\n", r"is not TOML: .*line 3.*"),
        (b"x = " + b"9" * 5000, r"is not TOML: .*"),
        (b"# \xff\n", r"must be UTF-8, but byte 2 is not"),
    ],
)
def test_a_file_that_is_not_toml_is_one_mistake_that_names_the_line(tmp_path, content, text):
    """
    What cannot be parsed is reported with its place, not with a traceback.
    """
    path = tmp_path / "greenroom.toml"
    path.write_bytes(content)
    (mistake,) = mistakes(path)
    assert mistake.source == f"file {path}"
    assert re.fullmatch(text, mistake.remedy)


def test_what_an_option_is_called_now_is_told_wherever_the_former_name_stands():
    """
    Also in the environment and on the command line; and the name that is told exists.
    """
    for before, now in RENAMED.items():
        assert now in OPTIONS
        assert before not in OPTIONS
        (told,) = mistakes(environ={variable(before): "1"})
        assert told.remedy == f"no such option; it is called {variable(now)} now"
        (told,) = mistakes(overrides={before: "1"})
        assert told.remedy == f"no such option; it is called {now} now"


def test_a_file_that_is_not_there_is_a_mistake_and_not_an_empty_file(tmp_path):
    """
    A mistyped path never starts a node with defaults, whoever gave it.
    """
    absent = tmp_path / "absent.toml"
    says = f"file {absent}: there is no such file; --config or GREENROOM_CONFIG names it"
    assert [str(mistake) for mistake in mistakes(absent)] == [says]
    assert [str(mistake) for mistake in mistakes(environ={"GREENROOM_CONFIG": str(absent)})] == [says]
    assert [str(mistake) for mistake in mistakes(tmp_path)] == [
        f"file {tmp_path}: cannot be read: Is a directory"
    ]


def test_a_mistake_in_the_environment_names_the_variable():
    """
    A wrong value and a misspelt name are both found.
    """
    found = mistakes(environ={"GREENROOM_SERVER_PORT": "eighty", "GREENROOM_SERVR_HOST": "x", "OTHER": "x"})
    assert [str(mistake) for mistake in found] == [
        'environment GREENROOM_SERVER_PORT: server.port = "eighty": must be a whole number from 0 to 65535',
        "environment GREENROOM_SERVR_HOST: no such option; did you mean GREENROOM_SERVER_HOST?",
    ]


def test_what_kubernetes_puts_into_the_environment_is_no_mistake():
    """
    A Service named greenroom gives its pods variables that look like ours, and the node still starts.
    """
    links = {
        "GREENROOM_SERVICE_HOST": "10.0.0.1",
        "GREENROOM_SERVICE_PORT_HTTP": "8000",
        "GREENROOM_PORT": "tcp://10.0.0.1:8000",
        "GREENROOM_PORT_8000_TCP_ADDR": "10.0.0.1",
        "GREENROOM_DB_PORT_5432_TCP": "tcp://10.0.0.2:5432",
    }
    assert load(None, environ=links).sources == load(None, environ={}).sources


def test_all_mistakes_of_all_sources_come_at_once_even_those_that_a_stronger_source_hides(file):
    """
    One run names everything there is to put right.
    """
    found = mistakes(
        file('[server]\nport = -1\nprot = 1\n[supervision.job]\nbackoff_cap = "0s"'),
        {"GREENROOM_SERVER_PORT": "80", "GREENROOM_LOG_LEVEL": "loud"},
        {"server.backlog": 0, "nothing": 1},
    )
    assert [(mistake.source, mistake.option) for mistake in found] == [
        ("file greenroom.toml", "server.port"),
        ("file greenroom.toml", "server.prot"),
        ("environment GREENROOM_LOG_LEVEL", "log.level"),
        ("command line", "server.backlog"),
        ("command line", "nothing"),
        ("default", "supervision.job.backoff_first"),
    ]
    assert str(SettingsError(found)).splitlines() == [str(mistake) for mistake in found]


def test_a_rule_between_options_is_silent_about_a_value_that_was_refused(file):
    """
    The default that stands in for a wrong value causes no second mistake.
    """
    toml = '[supervision.feed]\nbackoff_first = "1m"\nbackoff_cap = "soon"'
    assert [mistake.option for mistake in mistakes(file(toml))] == ["supervision.feed.backoff_cap"]


def test_no_mistake_is_longer_than_a_line_or_much_longer_than_a_terminal_is_wide():
    """
    A value that is a whole file by accident stays readable.
    """
    (mistake,) = mistakes(environ={"GREENROOM_LOG_LEVEL": "word\n" * 1000})
    assert "\n" not in str(mistake)
    assert len(str(mistake)) < 250


def test_a_mistake_can_be_printed_whatever_bytes_the_environment_holds():
    """
    Bytes that are no text reach Python as lone surrogates, which no terminal takes.
    """
    (mistake,) = mistakes(environ={"GREENROOM_LOG_LEVEL": b"\xff".decode("utf-8", "surrogateescape")})
    assert mistake.value == r'"\udcff"'
    str(mistake).encode("utf-8")


def test_a_wrong_secret_or_database_url_is_masked_in_the_mistake():
    """
    A value that was refused may still be somebody's password.
    """
    environ = {"GREENROOM_AUTH_SECRET": "swordfish", "GREENROOM_DATABASE_URL": "mysql://app:swordfish@db"}
    found = mistakes(environ=environ)
    assert [(mistake.option, mistake.value) for mistake in found] == [
        ("auth.secret", '"***"'),
        ("database.url", '"***"'),
    ]
    assert "swordfish" not in str(SettingsError(found))


def test_a_mistake_without_option_or_value_reads_well():
    """
    What is not known leaves no gap in the line.
    """
    assert str(Mistake(source="file x", remedy="is not TOML")) == "file x: is not TOML"


@pytest.mark.parametrize(
    "name", ["Video Transcode", "video..transcode", "video.", "2d.render", "", "a" * 101]
)
def test_a_type_of_job_that_cannot_be_is_refused(file, name):
    """
    In no submission would it be taken; a type that can be is.
    """
    text = f'[jobs]\nexternal_types = ["video.transcode", "{name}"]'
    [mistake] = mistakes(file(text))
    assert (mistake.option, mistake.remedy) == (
        "jobs.external_types",
        'must be a list of different job types, lower case words joined by dots, such as ["video.transcode"]',
    )
    [mistake] = mistakes(environ={"GREENROOM_JOBS_EXTERNAL_TYPES": f"video.transcode, {name}"})
    assert mistake.option == "jobs.external_types"
