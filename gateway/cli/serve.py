"""`greenroom serve`: from settings to a running node, and back down in good order."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs
import click
import structlog
import trio

from conf.settings import Loaded, Settings, SettingsError, load
from conf.sources import TEST_HOOKS_VARIABLE
from engine.errors import StartupError, StoreUnavailableError
from engine.node import Node
from engine.plugin_host.host import PluginHost
from engine.runtime.garbage import short_pauses
from engine.store.data_dir import DataDir
from engine.store.embedded import EmbeddedPostgres
from engine.store.migrate import migrate
from engine.traces import Tracer
from gateway import log as logging
from gateway.app import Application
from gateway.auth import Authenticator
from gateway.cli.open_files import make_room
from gateway.cli.options import config_option, data_dir_option, load_with_plugins, overrides_of
from gateway.gateway import Gateway, tls_context
from gateway.http.server import listen
from gateway.systemd import Systemd
from gateway.terminal import Terminal
from gateway.tracing import tracing

log = structlog.get_logger()

# Seconds beyond the drain for the database to write everything down.
STOPPING = 30.0
# Seconds that what did not stop within its grace has after all else has stopped.
STUCK = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@click.command()
@config_option
@click.option("--host", metavar="H", help="Address to listen on; only this machine by default.")
@click.option("--port", metavar="P", type=int, help="Port to listen on; 0 takes any free one.")
@data_dir_option
def serve(config: Path | None, host: str | None, port: int | None, data_dir: Path | None) -> None:
    """
    Run a node until SIGINT or SIGTERM. SIGHUP takes changed settings up.

    With nothing configured it listens on 127.0.0.1:8000 and starts a PostgreSQL of its own under the data
    directory. Exits with 0 after a drain, with 2 when it cannot start, with 1 when it fails,
    or when code of a plugin does not stop.
    """
    terminal = Terminal()
    # Nothing to read anew before it serves, and nothing to tell once it drains; it must not end it then.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    overrides = overrides_of({"server.host": host, "server.port": port, "node.data_dir": data_dir})
    loaded, plugins = load_with_plugins(config, overrides)
    settings = loaded.settings
    # Which plugins are loaded changes with a restart only; what they are told is checked by those.
    read = partial(load, config, environ=os.environ, overrides=overrides, schemas=lambda *_: plugins.schemas)
    logging.configure(settings.log)
    with ExitStack() as stack:
        running = prepare(settings, plugins, stack, read)
        # Entered last of what needs a tidy end: the last spans are those of the end.
        running.terminal = terminal
        running.tracer = stack.enter_context(tracing(settings))
        stack.enter_context(short_pauses())
        trio.run(running.run, strict_exception_groups=True)


@attrs.define(eq=False, kw_only=True)
class Running:
    """
    Own everything that was prepared before the event loop starts.
    """

    settings: Settings
    conninfo: str
    plugins: PluginHost
    authenticator: Authenticator
    embedded: EmbeddedPostgres | None
    sockets: list[socket.socket]
    # Reads the settings anew.
    read: Callable[[], Loaded]
    # Who collects spans, if anybody does.
    tracer: Tracer | None = None
    terminal: Terminal = attrs.field(factory=Terminal)

    async def run(self) -> None:
        """
        Run the node until a signal.
        """
        try:
            node = await Node.open(self.settings, self.conninfo, self.plugins, self.embedded)
        except StoreUnavailableError as error:
            raise StartupError(str(error)) from error
        node.traces.tracer = self.tracer
        systemd = Systemd.of(os.environ)
        gateway = Gateway(
            application=Application.build(node, self.authenticator),
            sockets=self.sockets,
            settings=self.settings,
        )
        node.live.source = self.read
        node.live.follow(gateway.retune)
        node.live.renew(gateway.renewal)
        node.live.follow(lambda settings: logging.configure(settings.log))
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(*SIGNALS) as signals:
                ended = trio.Event()

                async def live(task_status: trio.TaskStatus[None]) -> None:
                    await node.run(gateway.run, task_status=task_status)
                    ended.set()

                await nursery.start(live)
                click.echo(self._ready_line())
                systemd.ready(_status(node))
                nursery.start_soon(systemd.live, partial(_status, node))
                # Closed while it started: nobody said so, for that was ignored.
                if self.terminal.is_gone():
                    os.kill(os.getpid(), signal.SIGTERM)
                async for number in signals:
                    if number == signal.SIGHUP:
                        if self.terminal.is_gone():
                            break
                        systemd.reloading()
                        # It has told the log what is wrong; the old settings stay.
                        with suppress(SettingsError, StartupError):
                            node.live.reload()
                        systemd.ready(_status(node))
                    elif number == signal.SIGUSR2:
                        if os.environ.get(TEST_HOOKS_VARIABLE) == "1":
                            node.crash_episodes()
                    else:
                        break
            grace = node.settings.node.shutdown_grace
            log.info("draining", grace=grace)
            systemd.stopping(grace + STOPPING)
            await node.stop()
            systemd.close()
            with trio.move_on_after(STUCK):
                await ended.wait()
            if not ended.is_set():
                self._end_without(node)

    def _end_without(self, node: Node) -> NoReturn:
        # Code of a plugin that shields itself from being cancelled would keep the process for ever.
        left = [child.name for supervisor in node.supervisors.values() for child in supervisor.children()]
        log.error("ended without waiting for what does not stop", left=left)
        if self.embedded is not None:
            self.embedded.stop()
        os._exit(1)

    def _ready_line(self) -> str:
        server = self.settings.server
        port = self.sockets[0].getsockname()[1]
        host = f"[{server.host}]" if ":" in server.host else server.host
        scheme = "https" if server.tls_certificate else "http"
        database = "embedded PostgreSQL" if self.embedded else "PostgreSQL"
        where = self.settings.node.resolved_data_dir
        return f"greenroom ready on {scheme}://{host}:{port} ({database}, data in {where}, pid {os.getpid()})"


def _status(node: Node) -> str:
    hub = node.hub.statistics()
    return f"{hub.sessions} sessions, {node.meter.frames_per_second:.0f} frames/s"


def prepare(settings: Settings, plugins: PluginHost, stack: ExitStack, read: Callable[[], Loaded]) -> Running:
    """
    Everything that must be there before the event loop: port, data directory, database, schema.

    Raises StartupError; whatever was begun is undone by the stack.
    """
    tls_context(settings)
    make_room(settings.limits.sessions)
    sockets = listen(settings.server.host, settings.server.port, settings.server.backlog)
    for sock in sockets:
        stack.callback(sock.close)
    data_dir = DataDir.open(settings.node.resolved_data_dir)
    stack.callback(data_dir.close)
    secret = settings.auth.secret.encode() or data_dir.secret()
    authenticator = Authenticator.from_settings(settings.auth, secret)
    embedded = None
    conninfo = settings.database.url
    if not conninfo:
        embedded = stack.enter_context(_embedded(settings, data_dir))
        conninfo = embedded.conninfo
    for name in migrate(conninfo):
        log.info("migrated", migration=name)
    return Running(
        settings=settings,
        conninfo=conninfo,
        plugins=plugins,
        authenticator=authenticator,
        embedded=embedded,
        sockets=sockets,
        read=read,
    )


@contextmanager
def _embedded(settings: Settings, data_dir: DataDir) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(data_dir.path, run_as=settings.database.embedded_run_as)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()
