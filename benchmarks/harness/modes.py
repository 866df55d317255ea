"""What is measured: how the generator is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .processes import BenchmarkError


@dataclass(frozen=True)
class Mode:
    """
    A way to load a server.

    @ivar operation: what one operation is, for people.
    @ivar arguments: of the generator.
    @ivar interval: milliseconds between heartbeats.
    @ivar hold: for a mode of idle sessions, the seconds in which heartbeats are counted.
    """

    name: str
    operation: str
    arguments: tuple[str, ...]
    interval: int = 25_000
    hold: float = 0

    @property
    def isIdle(self) -> bool:
        return self.arguments[0] == "idle"


def _mode(name: str, operation: str, arguments: str) -> Mode:
    return Mode(name, operation, tuple(arguments.split()))


def _idle(transport: str) -> Mode:
    return Mode(
        f"idle-{transport}",
        "a heartbeat of one of 1200 idle sessions",
        tuple(f"idle --transport {transport} --base 200 --connections 1000".split()),
        interval=2500,
        hold=2.5,
    )


MODES = [
    _mode("ws-echo", "32 bytes of text, there and back", "ws-echo --connections 32"),
    _mode(
        "ws-echo-d16",
        "the same, 16 in flight in each session",
        "ws-echo --connections 32 --depth 16",
    ),
    _mode("ws-echo-1k-utf8", "1024 bytes of text beyond ASCII", "ws-echo --connections 32 --size 1024 --kind utf8"),
    _mode("ws-echo-64k", "65 536 bytes of binary", "ws-echo --connections 32 --size 65536 --kind binary"),
    _mode(
        "polling-echo",
        "a POST of 32 bytes, its answer, and the answer of the GET that waits",
        "polling-echo --connections 32",
    ),
    _mode(
        "handshake",
        "a session opened on polling, on a connection that is there",
        "handshake --connections 32",
    ),
    _mode(
        "ws-handshake",
        "a connection, a session opened on WebSocket, its end",
        "ws-handshake --connections 32",
    ),
    _mode(
        "upgrade",
        "a session opened on polling, moved to WebSocket, one echo, its end",
        "upgrade --connections 64",
    ),
    _mode(
        "broadcast",
        "64 bytes of text, delivered to one of 1000 sessions",
        "broadcast --connections 1000 --size 64",
    ),
    _idle("websocket"),
    _idle("polling"),
]
"""The modes of the comparison. In each, 32 sessions at a time, but where it says otherwise."""


def choose(names: Sequence[str]) -> list[Mode]:
    """Return the modes of these names."""
    known = {mode.name: mode for mode in MODES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchmarkError(f"no mode is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]
