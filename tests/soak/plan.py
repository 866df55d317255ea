"""How a session goes, and what message has which number: both sides know it without storing or telling each other."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

PING_INTERVAL, PING_TIMEOUT = 2.0, 8.0
"""Seconds. The defaults would make the end of a run wait for three quarters of a minute, twice."""
CLOSING_TIMEOUT = 8.0
"""Seconds that a session closed by the server waits for the client. No option: the server of the soak shortens it."""
FROM_CLIENT, FROM_SERVER = 0, 1

Message = str | bytes

_generator = random.Random(5)
_LARGEST = 150_000
_ASCII = "".join(_generator.choices('abcdefghijklmnopqrstuvwxyz0123456789 \n\\"<&', k=2 * _LARGEST))
_ANY = "".join(_generator.choices("aé€😀\\n\u2028\x00", k=2 * _LARGEST // 4))
_BYTES = _generator.randbytes(2 * _LARGEST)


def message(serial: int, direction: int, number: int) -> Message:
    """
    Return the message of a session with this number: text, most of it ASCII, or bytes; most small, few large.

    It begins with all three numbers, so that what came instead of it can be told.
    """
    dice = (serial * 7919 + number * 104_729 + direction * 15_485_863 + 1) * 2_654_435_761 & 0xFFFFFFFF
    scale, dice = dice % 1000, dice // 1000
    size = dice % (100 if scale < 800 else 2000 if scale < 950 else 20_000 if scale < 997 else _LARGEST)
    start, kind = dice % _LARGEST, dice % 10
    head = f"{serial}.{direction}.{number}."
    if kind < 6:
        return head + _ASCII[start : start + size]
    if kind < 7:
        return head + _ANY[start // 4 : start // 4 + size // 4]
    return head.encode() + _BYTES[start : start + size]


class Checked:
    """
    What came from the other side of one session: each message exactly once, and in order.

    @ivar count: how many did.
    @ivar problem: what was wrong first.
    """

    __slots__ = ("count", "direction", "problem", "serial")

    def __init__(self, serial: int, direction: int) -> None:
        self.serial, self.direction = serial, direction
        self.count = 0
        self.problem = ""

    def take(self, data: Message) -> None:
        wanted = message(self.serial, self.direction, self.count)
        if data != wanted and not self.problem:
            self.problem = f"message {wanted[:40]!r} ({len(wanted)}) was to come, and {data[:40]!r} ({len(data)}) came"
        self.count += 1


ENDS = {
    # What the client does. It leaves when it has got all, or as soon as it has said all.
    "client": 24,
    "client early": 10,
    # What the server does: the same, or it drops what is buffered.
    "server": 14,
    "server early": 8,
    "server discards": 2,
    # What nobody says: the client is gone, at a random moment, or in a certain one.
    "vanish": 14,
    "vanish in a handshake": 3,
    "vanish unread": 3,
    "vanish in a body": 5,
    "vanish in a frame": 5,
    "vanish in an opening": 3,
    "vanish opened": 3,
    "vanish probing": 3,
    "vanish probed": 3,
    # It never polls, so that the server can't tell it of the end.
    "deaf": 2,
}
COMPLETE = {
    # Which sides' messages have to be complete in the end; of others what came is the beginning of what was sent.
    "client": ("client", "server"),
    "client early": ("client",),
    "server": ("client", "server"),
    "server early": ("server",),
}
WAYS = {
    "vanish in a body": "polling",
    "deaf": "polling",
    **dict.fromkeys(("vanish in an opening", "vanish opened", "vanish probing", "vanish probed"), "upgrade"),
}
"""Those that only one way has."""
_VANISHED = ("transport close", "transport error", "ping timeout")
REASONS = {
    "client": ("transport close",),
    "client early": ("transport close",),
    **dict.fromkeys(("server", "server early", "server discards"), ("forced close",)),
    # Whichever time is over first. On a slow machine the server closes late, and the heartbeat is.
    "deaf": ("forced close", "ping timeout"),
}
"""By which reasons a session may end on the server; one that vanished by those of L{_VANISHED}."""


def reasonsFor(end: str) -> Sequence[str]:
    return REASONS.get(end, _VANISHED)


@attrs.frozen
class Plan:
    """
    How one session goes.

    @ivar way: C{polling}, C{websocket} or C{upgrade}.
    @ivar how: how the client vanishes: C{fin} and C{rst} close its connections, with C{silent} it stops doing anything.
    @ivar failures: how many attempts to upgrade are broken off before the one that isn't, or that there isn't.
    @ivar delays: seconds, after which the client says so many messages.
    @ivar linger: seconds it stays when all is said; long enough for heartbeats, sometimes.
    @ivar isSocketIO: whether its messages are events of Socket.IO.
    """

    serial: int
    way: str
    revision: int
    end: str
    how: str
    fromClient: int
    fromServer: int
    delays: Sequence[tuple[float, int]]
    upgradeAfter: float
    failures: int
    vanishAfter: float
    linger: float
    base64: bool
    gzip: bool
    keepAlive: bool
    isSocketIO: bool

    @property
    def isOurs(self) -> bool:
        """Whether a client of the package has it: it does nothing wrong, and costs more than one of L{.load}."""
        # What is sent to a server that closes is refused, and a client whose POST is refused polls no more.
        isRefused = self.end == "server early" and self.way != "websocket"
        behaves = self.end in COMPLETE and not self.failures and not isRefused
        return behaves and not self.isSocketIO and self.serial % 4 == 0

    @property
    def query(self) -> str:
        """What the server has to know of it."""
        end = self.end.replace(" ", "+")
        return f"serial={self.serial}&client={self.fromClient}&server={self.fromServer}&end={end}"


def planOf(seed: int, serial: int) -> Plan:
    """Return the plan of a session: the same for the same numbers."""
    dice = random.Random(seed << 40 | serial)
    end = dice.choices(list(ENDS), list(ENDS.values()))[0]
    way = dice.choices(("polling", "websocket", "upgrade"), (35, 25, 40))[0]
    way = WAYS.get(end, way)
    if end == "vanish in a frame" and way == "polling":
        way = "upgrade"
    # Something is needed to vanish in.
    fromClient = dice.randrange(3 if end in ("vanish in a body", "vanish in a frame") else 0, 13)
    delays, left = [], fromClient
    while left:
        some = min(left, dice.choice((1, 1, 1, 2, 5)))
        delays.append((dice.expovariate(15) if dice.random() < 0.7 else 0.0, some))
        left -= some
    return Plan(
        serial,
        way,
        3 if dice.random() < 0.15 else 4,
        end,
        dice.choice(("fin", "rst", "silent")),
        fromClient,
        dice.randrange(13),
        delays,
        dice.choice((0.0, 0.0, 0.1, 0.3)) * dice.random(),
        0 if way == "websocket" or end == "deaf" or dice.random() < 0.8 else dice.choice((1, 1, 2)),
        dice.expovariate(3),
        dice.uniform(2, 6) if dice.random() < 0.1 else 0.0,
        dice.random() < 0.3,
        dice.random() < 0.2,
        dice.random() < 0.7,
        dice.random() < 0.5,
    )
