"""The files of a new plugin's package, as `greenroom plugins new` writes them. Knows no command line."""

import re
from collections.abc import Mapping

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "greenroom-{name}"
version = "0.1.0"
description = "A plugin of Greenroom's"
requires-python = ">=3.11"
dependencies = ["greenroom"]

[project.optional-dependencies]
test = ["pytest>=8"]

# How a node finds it: installed is enough.
[project.entry-points."greenroom.plugins"]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

_MODULE = '''\
"""The plugin {name}: says hello to new episodes."""

import attrs
import structlog

from engine.hookspecs import Context, Event, SomeText, hookimpl

log = structlog.get_logger()


@attrs.frozen(kw_only=True)
class Settings:
    """
    What may stand in [plugins.{name}].
    """

    greeting: SomeText = "Hello"


@hookimpl
def settings() -> type:
    """
    The class of the plugin's settings.
    """
    return Settings


@hookimpl
async def on_episode_created(context: Context, event: Event) -> None:
    """
    Say hello.
    """
    log.info("{name}", says=f"{{context.settings.greeting}}, {{event.data['episode']['title']}}!")
    context.metrics.counter("greetings", "New episodes that were greeted.").add()
'''

_TEST = '''\
"""The plugin {name} on a simulated engine: no database, no waiting."""

import {module}

from engine.testing import simulate


def test_it_says_hello_to_a_new_episode():
    """
    As often as there are new episodes, in the words that it was told.
    """

    async def scenario(engine):
        await engine.create("Pilot")
        async with engine.outage():
            await engine.advance(3600)
        await engine.settle()

    ran = simulate(scenario, plugins={{"{name}": {module}}}, options={{"plugins.{name}.greeting": "Welcome"}})
    assert [line["says"] for line in ran.logs if line["event"] == "{name}"] == ["Welcome, Pilot!"]
'''

_README = """\
# greenroom-{name}

A plugin of Greenroom's. To work on it:

```console
python -m venv .venv
.venv/bin/pip install -e '.[test]'
.venv/bin/python -m pytest
```

A node in whose environment it is installed runs it; `greenroom plugins doctor` says whether it is found, and
what is wrong with it. Its settings:

```toml
[plugins.{name}]
greeting = "Hello"
```
"""


def files_of(name: str) -> Mapping[str, str]:
    """
    The package's files by their path. `name` is as NAME has it.
    """
    module = f"greenroom_{name.replace('-', '_')}"
    texts = {
        "pyproject.toml": _PYPROJECT,
        f"{module}/__init__.py": _MODULE,
        f"tests/test_{name.replace('-', '_')}.py": _TEST,
        "README.md": _README,
    }
    return {path: text.format(name=name, module=module) for path, text in texts.items()}
