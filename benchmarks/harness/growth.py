"""What an operation costs with few sessions and with many: it should be the same."""

from __future__ import annotations

from collections.abc import Sequence

from .measure import Job, Settings
from .processes import Server

SESSIONS = (10, 1000, 10_000)

KINDS = {
    "echo": "an echo of 32 bytes on WebSocket, 10 in flight in all",
    "heartbeat": "a heartbeat of an idle session on WebSocket",
    "broadcast": "64 bytes, delivered to one session of all",
}

INTERVAL = 5000
"""Milliseconds between the heartbeats of a session at most."""

HOLD = 5.0
"""Seconds in which heartbeats are counted: at least one of each session."""

WARM = 3000
"""How many heartbeats there are before any is counted: until then those of the reference cost more each."""


def intervalFor(sessions: int) -> int:
    """
    Return the milliseconds between heartbeats.

    With few sessions they are more frequent: else what a server does by itself in between, such as looking for
    garbage, would be taken for the cost of a few heartbeats.
    """
    return min(INTERVAL, max(20, sessions))


DEFAULT = ("engineio_twisted", "node", "bun", "aiohttp")


def nameOf(kind: str, sessions: int) -> str:
    return f"{kind}-{sessions}"


def rounds(servers: Sequence[Server], settings: Settings, sessions: Sequence[int] = SESSIONS) -> list[list[Job]]:
    """Return the jobs, those that are compared with each other together."""
    times = ["--warm", str(settings.warm), "--duration", str(settings.duration)]
    arguments = {
        # As many in flight however many there are: a session has one at most, so a read never brings two.
        "echo": ["ws-echo", "--inflight", "10", *times],
        "heartbeat": ["idle", "--base", "0", "--hold", str(HOLD), "--warm-ops", str(WARM)],
        "broadcast": ["broadcast", "--size", "64", *times],
    }
    within = {"heartbeat": HOLD}
    return [
        [
            Job(
                server,
                nameOf(kind, count),
                [*arguments[kind], "--connections", str(count)],
                intervalFor(count) if kind == "heartbeat" else 25_000,
                within.get(kind, settings.warm + settings.duration),
            )
            for server in servers
        ]
        for kind in KINDS
        for count in sessions
    ]
