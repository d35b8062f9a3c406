"""The job handlers that plugins register: which are refused at the start, and with what words."""

import math
from functools import partial
from typing import Any

import pytest

from engine.errors import PluginError
from engine.hookspecs import JobHandler, hookimpl
from engine.plugin_host.host import PluginHost
from engine.plugin_host.jobs import is_async


async def run(context):
    return context


async def run_with(word, context):
    return word, context


class Called:
    async def __call__(self, context):
        return context

    async def method(self, context):
        return context


def register(**fields: Any) -> None:
    """
    Let a plugin register one handler.
    """

    class Plugin:
        @hookimpl
        def job_handlers(self):
            return [JobHandler(**{"type": "test.job", "run": run, **fields})]

    PluginHost().register(Plugin(), "plugin")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"type": None}, "None is no type: lower case words"),
        ({"type": "Test.Job"}, "'Test.Job' is no type"),
        ({"run": None}, "run must be a function of the context"),
        ({"run": lambda: None}, "run must be a function of the context"),
        ({"run": run_with}, "run must be a function of the context"),
        ({"check": "path"}, "check must be a plain function of the payload"),
        ({"check": run}, "check must be a plain function of the payload"),
        ({"unique": run}, "unique must be a plain function of the payload"),
        ({"unique": lambda: "key"}, "unique must be a plain function of the payload"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 100, not 0"),
        ({"max_attempts": 101}, "max_attempts must be a whole number from 1 to 100, not 101"),
        ({"max_attempts": 2.0}, "max_attempts must be a whole number from 1 to 100, not 2.0"),
        ({"max_attempts": True}, "max_attempts must be a whole number from 1 to 100, not True"),
        ({"concurrency": 10**12}, "concurrency must be a whole number from 1 to 10000"),
        ({"timeout": 0}, "timeout must be more than 0 seconds"),
        ({"timeout": "5"}, "timeout must be a number of seconds from 0 to 604800, not '5'"),
        ({"timeout": None}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"timeout": math.nan}, "timeout must be a number of seconds"),
        ({"timeout": math.inf}, "timeout must be a number of seconds"),
        ({"backoff_first": "1"}, "backoff_first must be a number of seconds"),
        ({"backoff_first": -1}, "backoff_first must be a number of seconds"),
        ({"backoff_cap": math.inf}, "backoff_cap must be a number of seconds from 0 to 31536000, not inf"),
        ({"backoff_first": 2, "backoff_cap": 1}, "backoff_first must be at most backoff_cap"),
    ],
)
def test_a_handler_that_cannot_be_run_is_refused_by_name(fields, says):
    """
    At the start. Later it would stop all jobs of the node, or answer each submission with 500.
    """
    with pytest.raises(PluginError) as raised:
        register(**fields)
    assert says in str(raised.value)
    assert str(raised.value).startswith("plugin plugin: job_handlers: ")


@pytest.mark.parametrize(
    "function", [run, Called(), Called().method, partial(run_with, "word"), lambda context: None, print, len]
)
def test_whatever_can_be_called_with_the_context_runs_jobs(function):
    """
    Functions, methods, partial ones, objects that are called, and what does not tell its arguments.
    """
    register(run=function, timeout=604_800, max_attempts=100, concurrency=10_000, backoff_cap=31_536_000)


def test_an_object_with_an_async_call_runs_on_the_event_loop():
    """
    In a thread it would answer with a coroutine that nobody awaits.
    """
    assert is_async(Called()) and is_async(run) and is_async(partial(run_with, "word"))
    assert not is_async(print) and not is_async(lambda context: None)
