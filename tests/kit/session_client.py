"""Our client's end of a session as the transport of a protocol, over real sockets; it upgrades when a test says so."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from engineio_twisted.client import ClientSessionEndpoint

from .wire import within


@implementer(IStreamClientEndpoint)
class Gate:
    """An endpoint by which polling connects at once, and a WebSocket when it is let through."""

    def __init__(self, port: int) -> None:
        from twisted.internet import reactor

        self._endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._opened: Deferred[None] = Deferred()
        self.made: list[Any] = []

    def open(self) -> None:
        """Let WebSockets through from now on."""
        if not self._opened.called:
            self._opened.callback(None)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        if isinstance(protocolFactory, WrappingFactory):
            # The agent's.
            return self._connect(protocolFactory)
        waiting: Deferred[Any] = Deferred()
        self._opened.addCallback(lambda _: None if waiting.called else waiting.callback(None))
        return waiting.addCallback(lambda _: self._connect(protocolFactory))

    def _connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        connected: Deferred[Any] = self._endpoint.connect(factory)

        def keep(protocol: Any) -> Any:
            self.made.append(protocol.transport)
            return protocol

        return connected.addCallback(keep)


class SessionClient:
    """
    A session, of which a protocol has the bytes.

    @param port: where the server listens.
    @param kind: C{polling}, C{websocket}, or C{upgrading} for one that moves from one to the other by L{upgrade}.
    """

    def __init__(self, port: int, protocol: Any, kind: str) -> None:
        self._protocol = protocol
        self._client: Any = None
        self._gate = Gate(port)
        if kind == "websocket":
            self._gate.open()
        transports = ["websocket"] if kind == "websocket" else ["polling", "websocket"]
        self._endpoint = ClientSessionEndpoint(
            f"http://127.0.0.1:{port}",
            endpoint=self._gate,
            transports=transports,
            upgrade=kind == "upgrading",
            upgradeTimeout=60000,
        )
        self._factory = Factory()
        self._factory.noisy = False
        self._factory.buildProtocol = lambda address: protocol  # type: ignore[method-assign]

    async def start(self) -> None:
        """Open the session, and connect the protocol."""
        await within(self._endpoint.connect(self._factory), "the session")
        # Some protocols forget their transport when it is lost.
        self._client = self._protocol.transport.socket

    @property
    def transport(self) -> str:
        """The name of the transport it is on."""
        name: str = self._client.transport.name
        return name

    async def upgrade(self) -> None:
        """Move to WebSocket, whatever is under way."""
        upgraded: Deferred[Any] = Deferred()
        self._client.once("upgrade", upgraded.callback)
        self._gate.open()
        await within(upgraded, "the upgrade")

    def drop(self) -> None:
        """Be gone, without a word."""
        for each in self._gate.made:
            each.abortConnection()

    async def end(self) -> None:
        """Be gone, and leave nothing behind."""
        if self._client is not None:
            await within(self._client.close(discard=True), "the end of the connections")
