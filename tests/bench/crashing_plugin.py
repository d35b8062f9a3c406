"""A plugin that fails at every event; with the settings of broken_plugin.py, a hundred times a second."""

from engine.hookspecs import hookimpl


@hookimpl
async def on_event() -> None:
    """
    Fail.
    """
    raise RuntimeError("as always")
