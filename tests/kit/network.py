"""
The network and the time of a test: sockets and the reactor, or those of `engineio_twisted.testing`, in memory.

In memory, time passes whenever nothing else can happen: a test that waits two seconds for something takes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted.testing import MemoryConnection, MemoryNetwork

LOOPBACK = "127.0.0.1"

# Those of the networks in memory that are there; the last one's is the test's.
_clocks: list[Clock] = []


def time() -> IReactorTime:
    """Return what a test waits by: the clock of a network in memory, if there is one, else the reactor."""
    from twisted.internet import reactor

    return _clocks[-1] if _clocks else reactor  # type: ignore[return-value]


class ClientTransport:
    """The transport of a protocol at the client's end of a connection in memory."""

    def __init__(self, network: MemoryNetwork, protocol: Protocol) -> None:
        self._network, self._protocol = network, protocol
        self._isLost = False
        self.connection: MemoryConnection = network.connect(self, LOOPBACK)

    # What the network tells

    def dataReceived(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def connectionLost(self) -> None:
        if not self._isLost:
            self._isLost = True
            self._protocol.connectionLost(Failure(ConnectionDone()))

    # What the protocol does

    def write(self, data: bytes) -> None:
        self.connection.send(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._end(self.connection.finish)

    def abortConnection(self) -> None:
        self._end(self.connection.lose)

    def _end(self, how: Any) -> None:
        if not self._isLost:
            how()
            # As a reactor has it: not from inside.
            self._network.clock.callLater(0, self.connectionLost)

    def pauseProducing(self) -> None:
        self.connection.toClient.isHeld = True

    def resumeProducing(self) -> None:
        self.connection.toClient.isHeld = False
        self._network.wake(self.connection)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Never pause it: a test holds the other end back where it wants to."""

    def unregisterProducer(self) -> None:
        pass

    def getHost(self) -> Any:
        return self.connection.getPeer()

    def getPeer(self) -> Any:
        return self.connection.getHost()


@implementer(IStreamServerEndpoint, IListeningPort)
class MemoryEndpoint:
    """
    An endpoint in memory, and the port that it makes of it.

    @ivar clock: the clock of what listens there, and of its clients.
    @ivar network: its connections, once something listens.
    """

    network: MemoryNetwork

    def __init__(self) -> None:
        self.clock = Clock()
        self._factory: Any = None

    # The endpoint

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        self.network = MemoryNetwork(self.clock, factory)
        self._factory = factory
        factory.doStart()
        return succeed(self)

    # The port

    def getHost(self) -> Any:
        return self

    @property
    def port(self) -> MemoryEndpoint:
        """What clients are told in place of a number."""
        return self

    def stopListening(self) -> Deferred[None]:
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()
        return succeed(None)

    def connect(self, protocol: Protocol) -> Protocol:
        """Connect a client's protocol."""
        if self._factory is None:
            raise ConnectError
        protocol.makeConnection(ClientTransport(self.network, protocol))  # type: ignore[arg-type]
        return protocol

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Run what is due, and advance time if nothing else can happen. The test must wait only in this way."""
        from twisted.internet import reactor

        core: Any = reactor
        next_: Any = None

        def turn() -> None:
            nonlocal next_
            next_ = core.callLater(0, turn)
            self.network.settle()
            # What the test did then may have ended it.
            due = self.network.due if next_.active() else None
            if due is not None:
                self.network.advance(max(due - self.clock.seconds(), 0))

        _clocks.append(self.clock)
        next_ = core.callLater(0, turn)
        try:
            yield
        finally:
            next_.cancel()
            _clocks.remove(self.clock)

    def assertNothingLeft(self) -> None:
        """Make sure that no connection and no timer is left."""
        assert not self.network.connections, f"connections left: {list(self.network.connections)}"
        left = [str(call) for call in self.clock.getDelayedCalls()]
        assert left == [], f"timers left: {left}"
