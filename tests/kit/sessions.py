"""An open session with all that surrounds it, on a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from engineio_twisted.protocol.packet import PacketType
from engineio_twisted.session import session

from .fakes import FakeHost, FakeRequest, FakeTransport

onEachTransport = pytest.mark.parametrize("name", ["polling", "websocket"])

EVENTS = [
    "open",
    "packet",
    "packetCreate",
    "data",
    "message",
    "heartbeat",
    "flush",
    "drain",
    "upgrading",
    "upgrade",
    "suspend",
    "resume",
    "error",
    "close",
]


class Session:
    """An open session with all that surrounds it, and the events it emitted."""

    def __init__(self, transport: str = "websocket", isOpen: bool = True, protocol: int = 4, **options: Any) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock, **options)
        self.transport = FakeTransport(transport, writable=transport == "websocket")
        self.ended = self.host.ended
        self.events: list[tuple[Any, ...]] = []
        self.socket = session.Session("sid-12345678", self.host, self.transport, FakeRequest().exchange, protocol)
        if isOpen:
            self.socket.open()
            if transport == "polling":
                self.transport.ready()
            self.transport.sent.clear()
            self.host.events.clear()
        for event in EVENTS:
            self.socket.on(event, self._remember(event))

    def _remember(self, event: str) -> Callable[..., None]:
        return lambda *args: self.events.append((event, *args))

    def names(self) -> list[str]:
        return [each[0] for each in self.events]

    @property
    def closes(self) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.events if each[0] == "close"]

    def candidate(self) -> FakeTransport:
        """A WebSocket that tries to replace polling."""
        candidate = FakeTransport()
        assert self.socket.tryUpgrade(candidate)
        return candidate

    def isQuiet(self) -> bool:
        """Whether the session has left no timer."""
        return self.clock.getDelayedCalls() == []


def polling(**options: Any) -> Session:
    return Session("polling", **options)


def slow(room: int = 0, **options: Any) -> Session:
    """A session on a WebSocket whose client takes so many packets, and then no more until it is ready."""
    session = Session(**options)
    session.transport.room = room
    session.transport.writable = room > 0
    return session


def texts(session: Session) -> list[Any]:
    return [each[1] for each in session.events if each[0] == "message"]


def arrive(session: Session, *messages: str) -> None:
    for each in messages:
        session.transport.receive(PacketType.MESSAGE, each)
