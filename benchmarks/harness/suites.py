"""The comparisons: the servers and modes of each, and the files that take its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import modes, servers
from .modes import Mode
from .processes import Server


@dataclass(frozen=True)
class Suite:
    """
    A comparison.

    @ivar title: what is compared.
    @ivar name: of its files, before their suffix.
    @ivar marker: between which its tables stand on the page.
    @ivar counted: what is measured by its number and not by time, for people.
    @ivar memory: the title of the table of memory.
    @ivar reference: the name of the server that others are compared with.
    @ivar packages: of the peers, those whose versions are stated: from PyPI, and from npm.
    """

    title: str
    name: str
    marker: str
    modes: Sequence[Mode]
    servers: Sequence[Server]
    counted: str
    memory: str
    reference: str
    packages: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def numbers(self) -> str:
        return f"{self.name}.json"


ENGINEIO = Suite(
    "Engine.IO",
    "performance",
    "numbers",
    modes.MODES,
    servers.COMPARED,
    "openings and heartbeats",
    "Memory of an idle session, KiB.",
    servers.REFERENCE,
    (
        ("python-engineio", "aiohttp", "uvicorn", "uvloop", "httptools", "websockets", "daphne"),
        ("engine.io", "ws", "bun", "@socket.io/bun-engine"),
    ),
)

SOCKETIO = Suite(
    "Socket.IO",
    "performance-socketio",
    "socketio",
    modes.SOCKETIO_MODES,
    servers.SOCKETIO,
    "connections and disconnects",
    "Memory of an idle client in `/`, KiB.",
    servers.REFERENCE_SOCKETIO,
    (
        ("python-socketio", "python-engineio", "uvicorn", "uvloop", "httptools", "websockets"),
        ("socket.io", "socket.io-parser", "socket.io-adapter", "engine.io", "ws"),
    ),
)

CLIENTS = Suite(
    "Clients",
    "performance-clients",
    "clients",
    modes.CLIENT_MODES,
    servers.CLIENTS,
    "",
    "Memory of an idle session of a client, KiB.",
    servers.PYTHON_CLIENT,
    (("python-engineio", "aiohttp"), ("engine.io-client",)),
)
"""By a program of its own, `clients.py`."""

SUITES = (ENGINEIO, SOCKETIO)
