"""The load generators: compiled from the C beside this file when they are needed. Knows no server."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import attrs

HERE = Path(__file__).parent
# Seconds beyond the measured ones: connecting 1,000 subscribers, waiting for the last answers.
SLACK = 90.0
EPISODES = "/api/v1/episodes"
# %N is the number of the request.
EPISODE = '{"title":"Pilot %N","episode_number":%N,"status":"draft","categories":["Drama"]}'
# The programs that are compiled, and where their source is.
SOURCES = {"restload": "restload.c", "fanload": "fanload.c", "sendloop": "peers/sendloop.c"}


class BenchError(Exception):
    """
    The benchmark cannot go on; the text says why and what to do.
    """


@attrs.frozen
class Loads:
    """
    The compiled generators, and the C peer.
    """

    directory: Path

    @classmethod
    def compile(cls, directory: Path) -> Self:
        """
        Compile them into a directory. Raises BenchError when there is no C compiler.
        """
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise BenchError(
                "the load generators are written in C, and there is no C compiler here: "
                "install gcc (Debian: apt-get install gcc libc6-dev)"
            )
        for name, source in SOURCES.items():
            command = [compiler, "-O2", "-o", str(directory / name), str(HERE / source)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise BenchError(f"{source} does not compile here:\n{done.stderr}")
        return cls(directory)

    def requests(
        self,
        port: int,
        token: str,
        *,
        concurrency: int,
        seconds: float,
        rate: float = 0,
        path: str | None = None,
    ) -> dict[str, Any]:
        """
        Create episodes, or read what is at `path`; with a rate, that many a second, however long they take.

        Times in milliseconds.
        """
        given = {
            "-p": port,
            "-u": path or EPISODES,
            "-H": f"Authorization: Bearer {token}",
            "-c": concurrency,
            "-d": seconds,
            "-r": rate,
        }
        if path is None:
            given |= {"-m": "POST", "-b": EPISODE}
        result = self._result(self._run("restload", given).communicate(timeout=seconds + SLACK)[0])
        if result["refused"] or result["errors"]:
            raise BenchError(f"requests were refused, or failed: {result}")
        return result

    def subscribers(self, port: int, count: int, *, gently: bool = False, **options: Any) -> "Subscribers":
        """
        Connect subscribers, and wait until all of them are. Options are those of fanload.

        Gently, it takes only the CPU that nobody else wants.
        """
        given = {"-p": port, "-n": count, **{f"-{name}": value for name, value in options.items()}}
        process = self._run("fanload", given, *(["nice", "-n", "19"] if gently else []))
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            process.wait()
            raise BenchError("the subscribers could not connect")
        return Subscribers(process)

    def _run(self, name: str, given: dict[str, object], *by: str) -> subprocess.Popen[str]:
        pairs = [str(part) for pair in given.items() for part in pair]
        return subprocess.Popen([*by, self.directory / name, *pairs], stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _result(output: str) -> dict[str, Any]:
        if not output:
            raise BenchError("a load generator failed")
        result: dict[str, Any] = json.loads(output)
        return result


@attrs.frozen
class Subscribers:
    """
    Connected subscribers that count what they are delivered.
    """

    process: "subprocess.Popen[str]"

    def result(self) -> dict[str, Any]:
        """
        What they counted, when their time is over. Raises BenchError when one was lost, or nothing came.
        """
        result = self.counted()
        if not result["deliveries"]:
            raise BenchError("nothing was delivered")
        return result

    def counted(self) -> dict[str, Any]:
        """
        The same, even if nothing came.
        """
        return Loads._result(self.process.communicate(timeout=SLACK)[0])
