"""What is measured of Engine.IO and of Socket.IO: how the generator is called."""

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
    @ivar hold: for a mode of idle sessions, the seconds in which heartbeats are counted; 0 for their memory alone.
    @ivar warm: how many operations there are before any is measured; 0 if seconds are counted in their place.
    @ivar count: how many are measured; 0 if seconds are counted in their place.
    """

    name: str
    operation: str
    arguments: tuple[str, ...]
    interval: int = 25_000
    hold: float = 0
    warm: int = 0
    count: int = 0

    @property
    def isIdle(self) -> bool:
        return self.arguments[0] in ("idle", "sio-idle")

    @property
    def isSteady(self) -> bool:
        """Whether operations follow each other, so that there are so many in a second, and a latency of each."""
        return not self.isIdle and self.arguments[0] != "sio-disconnect"

    @property
    def hasCost(self) -> bool:
        return not self.isIdle or self.hold > 0


def _mode(name: str, operation: str, arguments: str) -> Mode:
    return Mode(name, operation, tuple(arguments.split()))


def _opening(name: str, operation: str, arguments: str, warm: int, count: int) -> Mode:
    """
    Return a mode that opens sessions, measured by a number of operations.

    In seconds a fast server would be measured with more sessions than a slow one, which cost it memory, and a slow
    one with less of its code compiled.

    @param warm: the reference costs two and a half times as much at first, and no less after so many.
    """
    return Mode(name, operation, tuple(arguments.split()), warm=warm, count=count)


def _idle(transport: str) -> Mode:
    return Mode(
        f"idle-{transport}",
        "a heartbeat of one of 1200 idle sessions",
        tuple(f"idle --transport {transport} --base 200 --connections 1000".split()),
        # With 2000 or less the server on Bun closes connections on which a GET waits.
        interval=2500,
        hold=5,
        warm=4000,
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
    _opening(
        "handshake",
        "a session opened on polling, on a connection that is there",
        "handshake --connections 32",
        warm=20_000,
        count=20_000,
    ),
    _opening(
        "ws-handshake",
        "a connection, a session opened on WebSocket, its end",
        "ws-handshake --connections 32",
        warm=6_000,
        count=6_000,
    ),
    _opening(
        "upgrade",
        "a session opened on polling, moved to WebSocket, one echo, its end",
        "upgrade --connections 64",
        warm=8_000,
        count=4_000,
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


LEAVERS = 1000


def _leaving(name: str, clients: int) -> Mode:
    return Mode(
        f"sio-disconnect-{name}",
        f"one of {LEAVERS} clients that leave at once, of {clients:,}".replace(",", " "),
        # A server that looks through all clients for each that leaves does nothing else for a while.
        tuple(f"sio-disconnect --connections {clients} --leavers {LEAVERS} --stall 100".split()),
        # No heartbeats among what is measured.
        interval=300_000,
        warm=2 * LEAVERS,
    )


SOCKETIO_MODES = [
    _mode("sio-echo", "an event with 32 bytes of text, answered by an event", "sio-echo --connections 32"),
    _mode("sio-echo-d16", "the same, 16 in flight for each client", "sio-echo --connections 32 --depth 16"),
    _mode("sio-ack", "an event with 32 bytes of text, and its acknowledgement", "sio-ack --connections 32"),
    _mode(
        "sio-ack-coroutine",
        "the same, acknowledged by a coroutine",
        "sio-ack --connections 32 --event c",
    ),
    _mode(
        "sio-binary",
        "an event with an attachment of 1024 bytes, answered by one",
        "sio-echo --connections 32 --kind binary --size 1024",
    ),
    _mode(
        "sio-broadcast",
        "an event with 64 bytes of text, delivered to one of a room of 500",
        "sio-broadcast --connections 500 --size 64",
    ),
    _opening(
        "sio-connect",
        "a connection, a session on WebSocket, CONNECT, its end",
        "sio-connect --connections 32",
        warm=6_000,
        count=6_000,
    ),
    _leaving("2k", 2_000),
    _leaving("8k", 8_000),
    # The limit of open files is often 20 000.
    _leaving("19k", 19_000),
    _mode("sio-idle", "nothing: an idle client in `/`", "sio-idle --base 200 --connections 2000"),
]
"""The modes of the comparison of Socket.IO, all on WebSocket."""


CLIENT_MODES = [
    _mode("ws-echo-1", "32 bytes of text, there and back; one session", "echo websocket 1 1 text 32"),
    _mode("ws-echo-1-d16", "the same, 16 in flight", "echo websocket 1 16 text 32"),
    _mode("ws-echo-50", "32 bytes of text, there and back; 50 sessions", "echo websocket 50 1 text 32"),
    _mode("ws-echo-50-d16", "the same, 16 in flight in each", "echo websocket 50 16 text 32"),
    _mode("ws-echo-64k", "65 536 bytes of binary; 10 sessions", "echo websocket 10 1 binary 65536"),
    _mode("polling-echo-1", "a POST and a GET; one session", "echo polling 1 1 text 32"),
    _mode("polling-echo-1-d16", "the same, 16 in flight", "echo polling 1 16 text 32"),
    _mode("polling-echo-50", "a POST and a GET; 50 sessions", "echo polling 50 1 text 32"),
    _mode("polling-echo-50-d16", "the same, 16 in flight in each", "echo polling 50 16 text 32"),
    _mode("ws-open", "a session opened on WebSocket and closed; 10 at a time", "renew websocket 10"),
    _mode("polling-open", "a session opened on polling and closed; 10 at a time", "renew polling 10"),
    _mode("upgrade", "a session opened on polling, moved to WebSocket and closed; 10 at a time", "renew upgrade 10"),
    _mode("idle-websocket", "an idle session on WebSocket", "idle websocket"),
    _mode("idle-polling", "an idle session on polling", "idle polling"),
]
"""The modes of the comparison of clients; `clients.py`."""


def choose(names: Sequence[str], among: Sequence[Mode] = MODES) -> list[Mode]:
    """Return the modes of these names."""
    known = {mode.name: mode for mode in among}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchmarkError(f"no mode is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]
