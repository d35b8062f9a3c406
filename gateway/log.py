"""Logging: structlog for everybody, one line for each thing that happened; JSON, or made for people."""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import attrs
import structlog

from conf.settings import Log

_debugs = False


def debugs() -> bool:
    """
    Whether anybody sees what is logged with `debug`: for what every request would log.
    """
    return _debugs


@attrs.define(eq=False)
class Unfailing:
    """
    A stream whose lines are lost when they cannot be written: the disk is full, the terminal closed.

    Else whoever logs would fail of it, in the middle of its work.
    """

    stream: TextIO

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()


def configure(settings: Log) -> None:
    """
    Send all logging to stderr in the wanted form; `auto` is for people on a terminal and JSON elsewhere.
    """
    for_people = settings.format == "people" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks are text, without the frames' variables: those may hold secrets.
    renderer: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if for_people
        else structlog.processors.JSONRenderer(),
    ]
    global _debugs
    _debugs = settings.level == "debug"
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Unfailing(sys.stderr))),
        # A reload changes the level of loggers that were used before.
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
