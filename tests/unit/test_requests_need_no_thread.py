"""What a request runs through is coroutines only: Quart sends each plain function to a thread and back."""

import inspect
from itertools import chain
from unittest.mock import MagicMock

from conf.settings import load
from gateway.app import Application


def test_no_route_and_no_hook_of_a_request_is_a_plain_function():
    """
    A hop to a thread costs a request more than all of its JSON, and on a busy machine milliseconds.
    """
    node = MagicMock(settings=load(None, environ={}).settings)
    rest = Application.build(node, MagicMock()).rest
    of_hooks = (rest.before_request_funcs, rest.after_request_funcs, rest.teardown_request_funcs)
    hooks = chain.from_iterable(chain.from_iterable(each.values() for each in of_hooks))
    functions = [*rest.view_functions.values(), *hooks]
    assert len(functions) > 20
    assert [each.__qualname__ for each in functions if not inspect.iscoroutinefunction(each)] == []
