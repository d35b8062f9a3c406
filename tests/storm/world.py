"""The storm: one real program, writers, guests, and what goes wrong meanwhile."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from engine.domain.access import Role
from gateway.auth import issue
from tests.storm.guests import CATALOG, CatalogReader, Guest, Reader, Truth, place
from tests.storm.raw import Http, LostError, Socket

ROOT = Path(__file__).parents[2]
READY = re.compile(r"greenroom ready on http://127\.0\.0\.1:(\d+) ")
SOON = 40
USERS = 20


@attrs.frozen(kw_only=True)
class Options:
    """
    How large and how rough; times in seconds. `wrongs` are what happens, one after the other.

    On a machine so slow that hardly anything would have happened it blows longer than `seconds`.
    """

    seed: int
    clients: int = 30
    rate: float = 60
    episodes: int = 5
    seconds: float = 6
    # Successful writes, and connections of each client, at least.
    writes: int = 120
    connections: float = 2.5
    # Every so many clients one hears the catalog.
    catalog_every: int = 8
    wrongs: tuple[str, ...] = ("crash", "crash", "postgres", "crash")
    settings: dict[str, str] = attrs.field(factory=dict)


@attrs.define(eq=False, kw_only=True)
class Program:
    """
    `greenroom serve` on one port and one data directory, life after life.
    """

    directory: Path
    settings: dict[str, str]
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def errors(self) -> Path:
        return self.directory / "stderr"

    async def start(self) -> None:
        """
        Begin a life; returns when it serves.
        """
        command = [sys.executable, "-m", "gateway", "serve"]
        command += ["--port", str(self.port), "--data-dir", str(self.data)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
        kept.pop("DATABASE_URL", None)
        scratch = self.directory / "t"
        scratch.mkdir(exist_ok=True)
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                command,
                cwd=ROOT,
                env={**kept, "TMPDIR": str(scratch), "GREENROOM_TEST_HOOKS": "1", **self.settings},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        with trio.fail_after(SOON):
            line = await trio.to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True)
        ready = READY.match(line)
        assert ready, (line, self.errors.read_text()[-2000:])
        self.port = int(ready[1])

    async def end(self, number: signal.Signals) -> int:
        """
        Send a signal and wait for the exit code.
        """
        assert self.process is not None
        self.process.send_signal(number)
        with trio.fail_after(SOON):
            while (code := self.process.poll()) is None:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return code

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill_postgres(self) -> None:
        """
        kill -9 of the embedded PostgreSQL, if it runs just now.
        """
        with suppress(FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            os.kill(int((self.data / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def token(self, user: str) -> str:
        secret = (self.data / "secret").read_bytes().strip()
        return issue(secret, user=user, name=user, role=Role.OPERATOR, ttl=3600)


@contextmanager
def program(**settings: str) -> Iterator[Program]:
    """
    A program in a directory of its own; at the end nothing of it is left.
    """
    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    directory.chmod(0o755)
    made = Program(directory=directory, settings=settings)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.terminate()
            try:
                made.process.wait(SOON)
            except subprocess.TimeoutExpired:
                made.process.kill()
                made.process.wait()
        made.kill_postgres()
        shutil.rmtree(directory, ignore_errors=True)


@attrs.define(eq=False, kw_only=True)
class Storm:
    """
    One storm, from its seed.
    """

    options: Options
    program: Program
    truth: Truth = attrs.field(factory=Truth)
    guests: list[Guest] = attrs.field(factory=list)
    episodes: list[str] = attrs.field(factory=list)
    answers: Counter[int] = attrs.field(factory=Counter)
    _heads: dict[str, int] | None = None
    _stopped: trio.Event = attrs.field(factory=trio.Event)
    _created: list[str] = attrs.field(factory=list)
    # Every event of every episode, as the database has it: topic and offset, id.
    _all: dict[tuple[str, int], str] = attrs.field(factory=dict)

    async def run(self) -> None:
        """
        All of it. What was wrong is in `truth.wrong`.
        """
        await self.program.start()
        http = Http(self.program.port)
        tokens = [self.program.token(user(number)) for number in range(USERS)]
        for number in range(self.options.episodes):
            title = {"title": f"{number}"}
            status, episode = await http.ask("POST", "/api/v1/episodes", title, token=tokens[0])
            assert status == 201, episode
            self.episodes.append(episode["id"])
        await self._settle(http, tokens[0])
        async with trio.open_nursery() as nursery:
            for number in range(self.options.clients):
                self.guests.append(self._guest(number, tokens))
                nursery.start_soon(self.guests[-1].run, lambda: self._heads)
            with trio.fail_after(SOON):
                for guest in self.guests:
                    await guest.arrived.wait()
            writers = max(2, int(self.options.rate // 20))
            async with trio.open_nursery() as storm:
                for number in range(writers):
                    storm.start_soon(self._write, number, writers, tokens)
                storm.start_soon(self._do_wrong)
                await trio.sleep(self.options.seconds)
                with trio.fail_after(SOON):
                    while not self._was_one():  # noqa: ASYNC110
                        await trio.sleep(0.05)
                self._stopped.set()
            heads = await self._settle(http, tokens[0])
            self.truth.end = await self._end(tokens[0])
            self._heads = heads
            with trio.move_on_after(SOON) as patience:
                while not all(has_all(guest, heads) for guest in self.guests):  # noqa: ASYNC110
                    await trio.sleep(0.05)
            if patience.cancelled_caught:
                for guest in self.guests:
                    if not has_all(guest, heads):
                        behind = {topic: f"of {at}" for topic, at in heads.items()}
                        for reader in guest.readers.values():
                            behind[reader.topic] = str(reader.position)
                            if isinstance(reader, CatalogReader):
                                for topic, at in reader.latest.items():
                                    behind[topic] = f"{at} {behind.get(topic)}"
                        self.truth.complain(f"{guest.name} never got everything: {behind}")
            nursery.cancel_scope.cancel()
        await self._compare(http, tokens[0], heads)

    def _was_one(self) -> bool:
        written = sum(count for status, count in self.answers.items() if 200 <= status < 300)
        connections = sum(guest.connections for guest in self.guests)
        return (
            written >= self.options.writes and connections >= self.options.connections * self.options.clients
        )

    def _guest(self, number: int, tokens: list[str]) -> Guest:
        name, chance = f"guest-{number}", random.Random(f"{self.options.seed}-{number}")
        readers: dict[str, Reader | CatalogReader] = {}
        if number % self.options.catalog_every == 0:
            readers[CATALOG] = CatalogReader(who=name, truth=self.truth)
        else:
            topics = [f"episode:{id_}" for id_ in chance.sample(self.episodes, min(2, len(self.episodes)))]
            if number % 3 == 0:
                topics.append(f"user:{user(number % USERS)}")
            for topic in topics:
                readers[topic] = Reader(topic=topic, who=name, truth=self.truth)
        return Guest(
            name=name,
            token=tokens[number % USERS],
            port=lambda: self.program.port,
            chance=chance,
            truth=self.truth,
            readers=readers,
        )

    async def _write(self, number: int, writers: int, tokens: list[str]) -> None:
        chance = random.Random(f"{self.options.seed}-writer-{number}")
        http = Http(self.program.port)
        pause = writers / self.options.rate
        next_at = trio.current_time() + pause * chance.random()
        extras: list[str] = []
        while not self._stopped.is_set():
            await trio.sleep_until(next_at)
            next_at = max(next_at + pause, trio.current_time() - 1)
            what, token = chance.random(), chance.choice(tokens)
            episode = chance.choice(self.episodes)
            try:
                with trio.fail_after(10):
                    if what < 0.08:
                        status, made = await http.ask("POST", "/api/v1/episodes", {"title": "x"}, token=token)
                        if status == 201:
                            extras.append(made["id"])
                            self._created.append(made["id"])
                    elif what < 0.1 and extras:
                        status, _ = await http.ask("DELETE", f"/api/v1/episodes/{extras.pop()}", token=token)
                    elif what < 0.25:
                        body = {"name": f"{what}"}
                        path = f"/api/v1/episodes/{episode}/compositions"
                        status, _ = await http.ask("POST", path, body, token=token)
                    else:
                        body = {"title": f"{what}"}
                        status, _ = await http.ask("PATCH", f"/api/v1/episodes/{episode}", body, token=token)
                self.answers[status] += 1
                if status == 500:
                    self.truth.complain("a write was answered with 500")
            except (LostError, trio.TooSlowError):
                self.answers[0] += 1
                await trio.sleep(0.1)
        http.close()

    async def _do_wrong(self) -> None:
        wrongs = self.options.wrongs
        for number, what in enumerate(wrongs):
            with trio.move_on_after(self.options.seconds / (len(wrongs) + 1)):
                await self._stopped.wait()
                return
            match what:
                case "crash":
                    self.program.signal(signal.SIGUSR2)
                case "postgres":
                    self.program.kill_postgres()
                case "kill":
                    await self.program.end(signal.SIGKILL)
                    await self.program.start()
                case "restart":
                    code = await self.program.end(signal.SIGTERM)
                    if code:
                        self.truth.complain(f"stopping ended with exit code {code} ({number})")
                    await self.program.start()
                case _:
                    raise ValueError(what)

    async def _settle(self, http: Http, token: str) -> dict[str, int]:
        """
        Wait until no effect is left to be made; the latest offset of every topic.
        """
        with trio.fail_after(SOON):
            while True:
                with suppress(LostError):
                    status, plugins = await http.ask("GET", "/api/v1/engine/plugins", token=token)
                    if status == 200 and all(plugin.get("lag", 0) == 0 for plugin in plugins["data"]):
                        break
                await trio.sleep(0.1)
        self._all = await self._log(http, token)
        heads: dict[str, int] = {}
        for topic, offset in self._all:
            heads[topic] = max(offset, heads.get(topic, 0))
        return heads

    async def _end(self, token: str) -> tuple[int, int]:
        socket = await Socket.open(self.program.port, token)
        try:
            await socket.send(type="subscribe", topic=CATALOG)
            async for message in socket.messages():
                if message.get("type") == "subscribed":
                    return place(message["position"])
        finally:
            socket.kill()
        raise LostError("the catalog was not to be had")

    async def _log(self, http: Http, token: str) -> dict[tuple[str, int], str]:
        """
        Every event of every episode, as the database has it.
        """
        found: dict[tuple[str, int], str] = {}
        for id_ in (*self.episodes, *self._created):
            since, more = 0, True
            while more:
                path = f"/api/v1/episodes/{id_}/events?since={since}"
                status, page = await http.ask("GET", path, token=token)
                assert status == 200, (status, page)
                for frame in page["data"]:
                    since = frame["offset"]
                    found[frame["topic"], since] = frame["id"]
                more = page["more"]
        return found

    async def _compare(self, http: Http, token: str, heads: dict[str, int]) -> None:
        log = self._all
        for at, id_ in log.items():
            if self.truth.events.get(at, id_) != id_:
                self.truth.complain(f"clients heard {self.truth.events[at]} at {at}, the log has {id_}")
        known = set(self._created) | set(self.episodes)
        for topic, offset in self.truth.events:
            kind, _, key = topic.partition(":")
            if kind == "episode" and key in known and (topic, offset) not in log:
                self.truth.complain(f"clients heard {topic} {offset}, which the log does not have")
        http.close()

    def report(self) -> dict[str, Any]:
        """
        What it was like.
        """
        readers = [reader for guest in self.guests for reader in guest.readers.values()]
        return {
            "events": len(self.truth.events),
            "answers": dict(self.answers),
            "connections": sum(guest.connections for guest in self.guests),
            "refused": sum(guest.refused for guest in self.guests),
            "codes": dict(Counter(code for guest in self.guests for code in guest.codes)),
            "gaps": sum(reader.gaps for reader in readers),
            "wrong": len(self.truth.wrong),
        }


def user(number: int) -> str:
    return f"user-{number}@example.com"


def has_all(guest: Guest, heads: dict[str, int]) -> bool:
    return all(reader.has(heads) for reader in guest.readers.values())


def run(options: Options) -> Storm:
    """
    A storm from its beginning to its end.
    """
    limits = {
        "GREENROOM_LIMITS_SESSIONS_PER_USER": "1000",
        "GREENROOM_SUPERVISION_EPISODE_MAX_RESTARTS": "1000",
        "GREENROOM_REALTIME_REPLAY_LIMIT": "100000",
        "GREENROOM_SERVER_RECONNECT_AFTER": "0s",
        "GREENROOM_SERVER_RECONNECT_WINDOW": "1s",
    }
    with program(**{**limits, **options.settings}) as made:
        storm = Storm(options=options, program=made)
        trio.run(partial(storm.run))
        tracebacks = [line for line in made.errors.read_text().splitlines() if "Traceback" in line]
        storm.truth.wrong += [line for line in tracebacks if "InjectedCrashError" not in line]
        return storm
