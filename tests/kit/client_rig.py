"""A client on a clock, with transports that do what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from engineio_twisted.client import Client, ConnectionFailed, FailureType
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.packet import PROBE, PacketType

from .fakes import FakeTransport

OPENING: dict[str, Any] = {
    "sid": "sid-of-the-session",
    "upgrades": ["websocket"],
    "pingInterval": 25000,
    "pingTimeout": 20000,
    "maxPayload": 1000,
}


class FakeClientTransport(FakeTransport):
    """
    A transport of a client.

    @ivar opened: the parameters with which it was opened; None before.
    @ivar isPaused: whether it was asked to begin no more requests.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, writable=False)
        # That of a server answers polls. This one sends POSTs.
        self.isPolled = False
        self.failure: ConnectionFailed | None = None
        self.maxPayload: int | None = None
        self.opened: dict[str, str] | None = None
        self.isPaused = False
        self._paused: Callable[[], object] | None = None
        self._gone: Deferred[None] = Deferred()

    def open(self, **parameters: str) -> None:
        assert self.opened is None
        self.opened = parameters

    def whenGone(self) -> Deferred[None]:
        return self._gone

    def vanish(self) -> None:
        """Be gone: nothing is left in the reactor."""
        self._gone.callback(None)

    def pause(self, paused: Callable[[], object]) -> None:
        assert not self.isPaused
        self.isPaused = True
        self._paused = paused
        self.writable = False

    def paused(self) -> None:
        """As if no request was under way any more."""
        assert self._paused is not None
        self._paused()

    def unpause(self) -> None:
        assert self.isPaused
        self.isPaused = False
        self.writable = True
        self.owner.transportReady(self)

    def open0(self, **changes: Any) -> None:
        """As if the server had opened the session."""
        self.writable = True
        self.receive(PacketType.OPEN, json.dumps({**OPENING, **changes}))

    def fail(self, type_: FailureType, description: str = "it failed") -> None:
        """As if the transport had failed."""
        self.writable = False
        self.failure = ConnectionFailed(type_, description, self.name)
        self.owner.transportClosed(self, Closing(self.failure.reason, description))


class RiggedClient(Client):
    """
    A client whose transports are fakes.

    @ivar made: the transports, in the order in which they were made.
    @ivar told: the events, but those of packets, with their arguments.
    """

    def __init__(self, url: str = "http://127.0.0.1:3000", **options: Any) -> None:
        self.clock = Clock()
        super().__init__(url, reactor=self.clock, **options)
        self.made: list[FakeClientTransport] = []
        self.told: list[tuple[Any, ...]] = []
        self.messages: list[str | bytes] = []
        self.on("message", self.messages.append)
        for event in ("handshake", "open", "upgrading", "upgrade", "upgradeError", "heartbeat", "error", "close"):
            self.on(event, lambda *args, event=event: self.told.append((event, *args)))  # type: ignore[call-overload]

    def _newTransport(self, name: str) -> Any:
        transport = FakeClientTransport(name)
        transport.owner = self
        self.made.append(transport)
        return transport if self._returning is None else self._returning.wrapped(transport)

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [each[0] for each in self.told]

    @property
    def last(self) -> FakeClientTransport:
        """The transport that was made last."""
        return self.made[-1]

    def opened(self, **changes: Any) -> RiggedClient:
        """Connect, and open the session."""
        self.result = self.connect()
        self.last.open0(**changes)
        return self

    def onWebSocket(self) -> RiggedClient:
        """Connect, and move to WebSocket."""
        self.opened()
        self.answerProbe()
        self.made[0].paused()
        assert self.transport.name == "websocket"
        return self

    def answerProbe(self) -> None:
        """Let the WebSocket be open that is tried out, and answer the probe."""
        self.last.ready()
        self.last.receive(PacketType.PONG, PROBE)
