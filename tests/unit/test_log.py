"""The log: in JSON or for people, and its level changes while the program runs."""

import json
from pathlib import Path

import pytest
import structlog

from conf.settings import load
from gateway import log


@pytest.fixture
def configured():
    """
    Configures the log as a reload does; the tests' own comes back afterwards.
    """
    before = structlog.get_config()

    def run(level, form):
        overrides = {"log.level": level, "log.format": form}
        log.configure(load(None, environ={}, overrides=overrides).settings.log)

    yield run
    structlog.configure(**before)


def test_a_reload_changes_level_and_form_of_loggers_that_were_used_before(configured, capsys):
    """
    JSON has an object a line with the same fields that people see in columns.
    """
    logger = structlog.get_logger()
    configured("info", "json")
    logger.debug("hidden")
    logger.info("shown", episode="e1")
    [line] = capsys.readouterr().err.splitlines()
    shown = json.loads(line)
    assert shown.pop("timestamp")
    assert shown == {"event": "shown", "level": "info", "episode": "e1"}
    assert not log.debugs()
    configured("debug", "people")
    logger.debug("now shown", episode="e2")
    text = capsys.readouterr().err
    assert "now shown" in text
    assert "episode=e2" in text
    assert log.debugs()
    configured("error", "json")
    logger.warning("hidden again")
    assert capsys.readouterr().err == ""


def test_a_traceback_shows_no_variables(configured, capsys):
    """
    They may hold secrets.
    """
    configured("info", "json")
    secret = "hunter2"
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger().exception("failed")
    said = capsys.readouterr().err
    assert "ValueError: 7" in said
    assert "hunter2" not in said


def test_what_cannot_be_written_is_lost_and_does_no_harm(configured, monkeypatch):
    """
    The disk is full, the terminal closed, the reader gone: whoever logs goes on.
    """
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 -- its end fails, too
    monkeypatch.setattr("sys.stderr", full)
    configured("info", "json")
    structlog.get_logger().info("nobody hears this")
    with pytest.raises(OSError, match="No space"):
        full.close()
