"""A real browser and real npm packages against a real node: in this process, or as a program of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import environment, grown, programs, serve
from tests.browser import node_tools
from tests.browser.chromium import Chromium, running_chromium
from tests.browser.node_page import NodePage, node_page
from tests.gateway.conftest import greenroom, logs, put_clock_forward, start_greenroom

# `greenroom` is a node in this process, `serve` starts the real program, which can be killed.
__all__ = [
    "browser",
    "chromium",
    "environment",
    "greenroom",
    "grown",
    "logs",
    "packages",
    "programs",
    "serve",
]
__all__ += ["put_clock_forward", "start_greenroom"]


@pytest.fixture(scope="session")
def packages() -> Path:
    """
    The directory `node_modules` with npm's packages.
    """
    return node_tools.packages()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """
    The browser of the whole run; tests take `browser`.
    """
    with running_chromium() as running:
        yield running


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    """
    A browser whose tabs are closed after the test.
    """
    yield chromium
    chromium.close_all()


@pytest.fixture
async def page() -> AsyncIterator[NodePage]:
    """
    The JavaScript client in a Node of its own.
    """
    async with node_page() as running:
        yield running
