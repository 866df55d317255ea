"""
A network in memory: connections to a site, on a clock, between whose ends are nothing but bytes.

Nothing is read inside of what writes it, as on any network: L{MemoryNetwork.settle} delivers what has arrived. That
may be made to take its time, to come in pieces, or to be lost. L{engineio_twisted.testing} is what uses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import ENOTCONN
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock

from .ends import MemoryTransport, Process, Way

ROUNDS = 1_000_000
"""So often may something happen without time passing. What goes on longer goes on for ever."""


class Receiver(Protocol):
    """What is at the client's end of a connection."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes."""
        ...

    def connectionLost(self) -> None:
        """Called when the server has closed the connection, or cut it. Not told of what the client does itself."""
        ...


class ServerEnd(MemoryTransport):
    """
    The server's end of a connection.

    @param connection: the connection.
    @param process: what serves it.
    @param addresses: that of the client, and the one that it connected to.
    """

    def __init__(self, connection: MemoryConnection, process: Process, addresses: tuple[Any, Any]) -> None:
        super().__init__(process, connection.toServer, connection.toClient, addresses)
        self._connection = connection

    def wake(self) -> None:
        self._connection.network.wake(self._connection)

    # Another process may go on with it

    @property
    def isMovable(self) -> bool:
        """Whether another process could go on with it just now: nothing is being written, and it isn't closing."""
        isIdle = self.connected and not self.disconnecting and not self._isWriting and self._lostBy is None
        return bool(isIdle) and not ISSLTransport.providedBy(self)

    def detach(self) -> MemoryCarrier:
        """Take the connection away from its process and protocol, which hear of no end. What comes waits in it."""
        self.connected, self.disconnected = 0, 1
        self.isReading = False
        self.protocol = None
        self.process.ends.pop(self, None)
        self._connection.end = None
        return MemoryCarrier(self._connection, self.process, (self._peer, self._host))


class MemoryCarrier:
    """
    A connection that no process serves: what a descriptor is that goes from one process to another.

    @param connection: the connection.
    @param process: the one that has this.
    @param addresses: as of L{ServerEnd}.
    @ivar process: as given.
    """

    def __init__(self, connection: MemoryConnection, process: Process, addresses: tuple[Any, Any]) -> None:
        self._connection = connection
        self.process = process
        self._addresses = addresses
        connection.network.carriers[self] = connection

    def __repr__(self) -> str:
        return f"<descriptor of {self._connection!r}>"

    def duplicate(self, process: Process) -> MemoryCarrier:
        """Return another one, for another process."""
        return MemoryCarrier(self._connection, process, self._addresses)

    def attach(self, factory: Any) -> ServerEnd:
        """
        Serve the connection in the process that has this, which is closed.

        @param factory: builds the protocol.
        @return: the transport.
        @raise OSError: the client has gone.
        """
        connection = self._connection
        try:
            if connection.isCut:
                raise OSError(ENOTCONN, "the client has gone")
            factory.doStart()
            protocol = factory.buildProtocol(self._addresses[0])
            connection.end = end = ServerEnd(connection, self.process, self._addresses)
            end.begin(protocol)
            end.wake()
            return end
        finally:
            self.close()

    def close(self) -> None:
        """Close it. If nothing else has the connection, that is closed too. Again, it does nothing."""
        carriers, connection = self._connection.network.carriers, self._connection
        wasOpen = carriers.pop(self, None) is not None
        if wasOpen and connection.end is None and connection not in carriers.values():
            connection.isForgotten()


class MemoryConnection(ServerEnd):
    """
    A connection: to the server a transport that does what one of the reactor does, to the client two ways for bytes.

    If it moves from one process to another, it stays what the client has, and another transport is its C{end}.

    @ivar toServer: what the client has sent.
    @ivar toClient: what the server has sent.
    @ivar isReading: whether the server reads what has arrived.
    @ivar isOver: whether it is closed, at both ends.
    @ivar end: the server's end; None while it is on its way from one process to another.
    @ivar isCut: whether the client has gone meanwhile.
    """

    isOver: bool = False
    isCut: bool = False
    _isVanished = False

    def __init__(self, network: MemoryNetwork, receiver: Receiver, address: str, port: int) -> None:
        self.network = network
        self._receiver = receiver
        self.toServer: Way = Way(network.clock)
        self.toClient: Way = Way(network.clock)
        self.end: ServerEnd | None = self
        isIPv6 = ":" in address
        peer = (IPv6Address if isIPv6 else IPv4Address)("TCP", address, port)
        host = (IPv6Address if isIPv6 else IPv4Address)("TCP", "::1" if isIPv6 else "127.0.0.1", 80)
        super().__init__(self, network.processes[0], (peer, host))

    # What the client does

    def send(self, data: bytes) -> None:
        """Send bytes to the server."""
        if not self.isOver and not self._isVanished:
            self.toServer.put(data)
            self.network.wake(self)

    def finish(self) -> None:
        """Close the connection in order: the server reads what is under way, and then the end."""
        if not self.isOver and not self._isVanished:
            self.toServer.end()
            # Nobody is there to read any more.
            self._leave()

    def lose(self) -> None:
        """Lose the connection: what is under way doesn't arrive, and the server learns of it."""
        self.toServer.clear()
        self._leave()
        if self.end is None:
            self.isCut = True
        elif not self.end.disconnected:
            self.end.loseBy(ConnectionLost())

    def _leave(self) -> None:
        self._receiver = _NOBODY
        self.toClient.clear()
        self.toClient.isHeld = False
        if self.end is not None and self.end.disconnected:
            self.toClient.end()
        self.network.wake(self)

    def vanish(self) -> None:
        """Let nothing arrive any more, at either end, without a notice to either."""
        self._isVanished = True
        self.toServer.clear()
        self.toClient.isHeld = True

    # What the network does

    @property
    def due(self) -> list[float]:
        """The times at which something arrives next, in each direction in which something is under way."""
        return [due for due in (self.toServer.due, self.toClient.due) if due is not None]

    def turn(self) -> bool:
        """Let each end read one piece, and the server do what a reactor would have it do; tell if anything happened."""
        happened = self.end is not None and self.end.takeTurn()
        piece = self.toClient.take()
        if piece is None:
            return happened
        if piece:
            self._receiver.dataReceived(piece)
        else:
            self.isOver = True
            self._receiver.connectionLost()
        return True

    def isForgotten(self) -> None:
        """Called when no process has it any more: the last one died, or closed its descriptor."""
        self.end = self
        self.toServer.clear()
        self.toClient.end()
        self.network.wake(self)


class _Nobody:
    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self) -> None:
        pass


_NOBODY = _Nobody()


class Passing(Protocol):
    """What a network looks at: a connection, a link."""

    @property
    def isOver(self) -> bool:
        """Whether nothing passes any more."""
        ...

    @property
    def due(self) -> list[float]:
        """The times at which something arrives next, in each direction in which something is under way."""
        ...

    def turn(self) -> bool:
        """Let each end read one piece; return whether anything happened."""
        ...


class MemoryNetwork:
    """
    Connections to a site, and the clock by which all happens.

    @param clock: the clock of all that serves.
    @param site: what makes the protocol of a connection.
    @ivar connections: those that are open.
    @ivar carriers: those of connections that no process serves just now.
    @ivar processes: what serves; here it is one.
    @ivar connectionClass: the class of connections, a L{MemoryConnection}; one of your own may watch what is written.
    """

    connectionClass: type[MemoryConnection] = MemoryConnection
    _firstPort = 49152

    def __init__(self, clock: Clock, site: Any) -> None:
        self.clock = clock
        self.processes: list[Process] = [Process(clock, site)]
        self._port = self._firstPort
        self.connections: dict[MemoryConnection, None] = {}
        self.carriers: dict[MemoryCarrier, MemoryConnection] = {}
        # Those of which something is under way, or to be done.
        self._awake: dict[Passing, None] = {}
        self._whenQuiet: deque[Callable[[], object]] = deque()
        self._isSettling = False

    def processAt(self, at: Any) -> Process:
        """
        Return the process that a new connection reaches.

        @param at: where a client wants to come in; None leaves it open.
        @raise ValueError: there is no such process.
        """
        if at is not None:
            raise ValueError(f"worker {at!r}: expected None, as there is one process")
        return self.processes[0]

    def connect(self, receiver: Receiver, address: str, at: Any = None) -> MemoryConnection:
        """
        Connect to the site.

        @param receiver: what is at the client's end.
        @param address: the client's IP address.
        @param at: as for L{processAt}.
        """
        process = self.processAt(at)
        self._port += 1
        connection = self.connectionClass(self, receiver, address, self._port)
        connection.process = process
        self.connections[connection] = None
        connection.begin(connection.process.site.buildProtocol(connection.getPeer()))
        return connection

    def wake(self, passing: Passing) -> None:
        """Mark a connection, so that it is looked at next."""
        self._awake[passing] = None

    def whenQuiet(self, what: Callable[[], object]) -> None:
        """Call something when nothing else happens without time passing."""
        self._whenQuiet.append(what)

    def settle(self) -> None:
        """
        Deliver what has arrived, and what is sent because of it, until nothing happens without time passing.

        Called from inside itself, it leaves that to the one that runs.

        @raise AssertionError: it doesn't end.
        """
        if self._isSettling:
            return
        self._isSettling = True
        try:
            for _ in range(ROUNDS):
                happened = [self._turn(each) for each in list(self._awake)]
                if not self.runDue() and not any(happened):
                    if not self._whenQuiet:
                        return
                    self._whenQuiet.popleft()()
            raise AssertionError(f"something happens for ever without time passing: {self.clock.getDelayedCalls()[:3]}")
        finally:
            self._isSettling = False

    def _turn(self, passing: Passing) -> bool:
        happened = passing.turn()
        if passing.isOver:
            self.connections.pop(passing, None)  # type: ignore[call-overload]
        if not happened and not passing.due:
            self._awake.pop(passing, None)
        return happened

    @property
    def clocks(self) -> list[Clock]:
        """The clocks of all that doesn't stand still."""
        return [*{self.clock: None, **{each.clock: None for each in self.processes if not each.isStalled}}]

    def runDue(self) -> bool:
        """
        Run the calls that are due, and not those that come to be by it: C{Clock.advance} might never end.

        @return: whether there were any.
        """
        now = self.clock.seconds()
        due = [(clock, call) for clock in self.clocks for call in clock.calls if call.getTime() <= now]
        for clock, call in due:
            if call.active():
                clock.calls.remove(call)
                call.called = True
                call.func(*call.args, **call.kw)
        return bool(due)

    def advance(self, seconds: float) -> None:
        """
        Let time pass, stopping whenever something is due or arrives: what comes of it happens at that time.

        @raise ValueError: the time is negative.
        """
        if seconds < 0:
            raise ValueError(f"{seconds} seconds: expected time to go forwards")
        until = self.clock.seconds() + seconds
        while True:
            self.settle()
            due = self.due
            if due is None or due >= until:
                self.clock.rightNow = until
                self.settle()
                return
            self.clock.rightNow = due

    @property
    def due(self) -> float | None:
        """The time at which something is due or arrives, later than now; None if nothing is going to."""
        times = [call.getTime() for clock in self.clocks for call in clock.getDelayedCalls()]
        times += [due for each in self._awake for due in each.due]
        # What has arrived and isn't read, as its reader has stopped, is no reason to stop.
        return min((each for each in times if each > self.clock.seconds()), default=None)


class Line:
    """
    The connections of one client, and what becomes of what is sent on them.

    @ivar delay: seconds that it takes, in both directions.
    @ivar pieceSize: bytes of the pieces in which it arrives; None for pieces as they are written.
    @ivar isHeld: whether the client reads nothing.
    @ivar isVanished: whether nothing arrives any more.
    @ivar at: where a new connection comes in, as for L{MemoryNetwork.processAt}.
    """

    delay: float = 0.0
    pieceSize: int | None = None
    isHeld = False
    isVanished: bool = False
    at: int | Callable[[], int] | None = None

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._connections: list[MemoryConnection] = []

    def connect(self, receiver: Receiver) -> MemoryConnection:
        """Connect to the site."""
        self._connections = [each for each in self._connections if not each.isOver]
        connection = self._network.connect(receiver, self._address, self.at)
        self._connections.append(connection)
        self._arrange(connection)
        return connection

    def arrange(self) -> None:
        """Apply what was changed to the connections that there are."""
        for each in self._connections:
            self._arrange(each)

    def _arrange(self, connection: MemoryConnection) -> None:
        for way in (connection.toServer, connection.toClient):
            way.delay, way.pieceSize = self.delay, self.pieceSize
        connection.toClient.isHeld = self.isHeld
        if self.isVanished:
            connection.vanish()
        self._network.wake(connection)

    def vanish(self) -> None:
        """Let nothing arrive any more, at either end, without a notice to either."""
        self.isVanished = True
        for each in self._connections:
            each.vanish()

    def lose(self) -> None:
        """Lose all connections."""
        for each in self._connections:
            each.lose()
