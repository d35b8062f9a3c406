"""Clients that misbehave: how each ends, and whether anybody else notices."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

import crowd
from programs import WITHOUT_EFFECTS, Program, token
from report import table

if TYPE_CHECKING:
    from parts import Bench, Result

VIEWERS = 50
# Events a second: enough to fill what lies between the node and a client that does not read.
PACE = 200
# Seconds: how old the oldest byte for a client may be here, its time for the last frame, and a measurement.
DEADLINE, GRACE, MEASURED = 1.0, 1.0, 5.0
PAIRS = 2
SETTINGS = WITHOUT_EFFECTS + f'[realtime]\noutlet_deadline = "{DEADLINE:g}s"\n'
# The p99 of the others with one of these to theirs without, at most.
RATIO = 1.1
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, CLOSE = 1, 8
# No code: the client did not read as far as the 4413 that was sent to it, and the connection broke off.
CUT_OFF = 0


def measure(bench: "Bench") -> "Result":
    """
    Pairs of measurements, without and with one such client, one pair after the other.
    """
    house = crowd.greenroom(settings=SETTINGS)
    found: dict[str, dict[str, Any]] = {}
    with house.start(bench.directory / "house") as program:
        _p99(bench, house, program)  # warm
        for _ in range(PAIRS * bench.rounds):
            for name, (behave, code) in KINDS.items():
                calm = _p99(bench, house, program)
                client = Client(program)
                ending = threading.Thread(target=client.run, args=[behave])
                ending.start()
                disturbed = _p99(bench, house, program)
                ending.join()
                kind = found.setdefault(name, {"code": code, "endings": [], "pairs": []})
                kind["endings"].append(client.ending)
                kind["pairs"].append((calm, disturbed))
    return {
        name: {**kind, "ratio": median([disturbed / calm for calm, disturbed in kind["pairs"]])}
        for name, kind in found.items()
    }


def goals(result: "Result") -> dict[str, bool]:
    """
    What was promised, and whether it is kept.
    """
    kept = {}
    for name, kind in result.items():
        kept[f"{name} ends {_shown(kind['code'])}"] = set(kind["endings"]) == {kind["code"]}
        kept[f"p99 of the others with {name} at most {RATIO:g} times that without"] = kind["ratio"] <= RATIO
    return kept


def report(result: "Result") -> list[str]:
    """
    One table.
    """
    return [
        table(
            f"One client that misbehaves, {VIEWERS} that do not, {PACE} events a second",
            ("", "ends", "others' p99 ms without", "with", "ratio"),
            (
                (
                    name,
                    " ".join(sorted({_shown(ending) for ending in kind["endings"]})),
                    f"{median([calm for calm, _ in kind['pairs']]):.2f}",
                    f"{median([disturbed for _, disturbed in kind['pairs']]):.2f}",
                    f"{kind['ratio']:.2f}",
                )
                for name, kind in result.items()
            ),
        )
    ]


class Client:
    """
    A client by hand, with a small window, so that little of what it does not read is on the way.
    """

    def __init__(self, program: Program) -> None:
        # The close code that it was told.
        self.ending = 0
        self._line = socket.socket()
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._line.connect(("127.0.0.1", program.port))
        self._line.sendall(
            f"GET /real-time HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {token('slow@example.com')}\r\n\r\n".encode()
        )
        self._read = b""
        while b"\r\n\r\n" not in self._read:
            self._read += self._line.recv(1)
        self._read = b""

    def run(self, behave: Callable[["Client"], None]) -> None:
        """
        Misbehave, then read on to the end.
        """
        with contextlib.suppress(ConnectionError):
            behave(self)
        self._line.settimeout(DEADLINE + GRACE + MEASURED)
        with contextlib.suppress(ConnectionError):
            while data := self._line.recv(65536):
                self._read += data
        self._line.close()
        self.ending = _close_code(self._read)

    def never_read(self) -> None:
        """
        Read nothing until the connection has broken off.
        """
        self._wait_cut_off(MEASURED)

    def read_bytes(self) -> None:
        """
        Read a byte a second until the connection has broken off.
        """
        until = time.monotonic() + MEASURED
        while time.monotonic() < until and not self._wait_cut_off(1.0):
            self._read += self._line.recv(1)

    def read_late(self) -> None:
        """
        Read when the node has given up, and has not hung up yet.
        """
        # It takes about a third of a second to fill the kernel's buffers.
        time.sleep(DEADLINE + GRACE * 0.75)

    def _wait_cut_off(self, seconds: float) -> bool:
        poll = select.poll()
        # Errors and the end of both directions are told without being asked for.
        poll.register(self._line, 0)
        return bool(poll.poll(1000 * seconds))

    def send_garbage(self) -> None:
        """
        Send what is not of the protocol.
        """
        self._send(b"garbage")

    def flood(self) -> None:
        """
        Send more than anybody may, without reading the answers.
        """
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            self._send(b'{"type":"ping"}')

    def _send(self, text: bytes) -> None:
        self._line.sendall(struct.pack("!BBI", 0x80 | TEXT, 0x80 | len(text), 0) + text)


KINDS: dict[str, tuple[Callable[[Client], None], int]] = {
    "one that never reads": (Client.never_read, CUT_OFF),
    "one that reads a byte a second": (Client.read_bytes, CUT_OFF),
    "one that reads late": (Client.read_late, 4413),
    "one that sends garbage": (Client.send_garbage, 4400),
    "one that floods": (Client.flood, 4429),
}


def _shown(code: int) -> str:
    return f"with {code}" if code else "cut off"


def _p99(bench: "Bench", house: crowd.House, program: Program) -> float:
    options = {"q": program.publish, "r": PACE, "w": 0.2, "d": MEASURED - 1}
    return float(crowd.come(bench.loads, house, program, VIEWERS, **options).result()["p99"])


def _close_code(frames: bytes) -> int:
    """
    The code in the last of the server's frames; 0 when that is no whole close frame.
    """
    at = 0
    while len(frames) - at >= 2:
        size, head = frames[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(frames[at + 2 : at + 4]), 4
        if frames[at] & 15 == CLOSE:
            return int.from_bytes(frames[at + head : at + head + 2])
        at += head + size
    return 0
