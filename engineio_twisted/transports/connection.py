"""
What the connection of a WebSocket needs, whichever engine reads and writes its frames.

docs/architecture/engines.md
"""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..clock import DeadlineQueue, cancel, steadyClock
from ..ends import CLOSE_TIMEOUT, Connections
from ..protocol.frames import INTERNAL_ERROR, TOO_LARGE
from ..turns import inLaterTurn
from ..web.connections import unsent

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..observer import Counters


@implementer(IPushProducer)
class WebSocketConnection:
    """
    What a connection needs whatever implements WebSocket: a place in the list, the pace of the client, a bound on what
    is read, turns for what takes long, a deadline.

    A base of the protocols of engines, and half of an L{IWebSocket}. The connection calls C{pauseProducing},
    C{resumeProducing} and C{stopProducing}; the protocol of the engine everything else. That gives what comes to
    L{read}, or, while C{_isStopped}, to L{keep}; and it implements L{read} and L{lost}.

    @ivar transport: the connection, set before anything is called.
    @ivar counters: where bytes are counted.
    """

    _log = Logger()
    transport: Any
    isOpen: Any
    # Engines of others may not know.
    arriving: Any = None
    # When the connection is aborted, and the timer for that if it isn't one of many.
    _due = inf
    _deadline: IDelayedCall | None = None
    # How many bytes more are read from a client that doesn't read; None while it does.
    _allowance: int | None = None
    # Whether the session wants nothing to be read.
    _isHeldBack = False
    # Whether what comes is only kept, behind what is: while it is held back, and while something waits for its turn.
    _isStopped = False
    _unread = b""
    _isQueued = False
    # Why the connection was lost, while something that came before is unread.
    _loss: Failure | None = None

    def __init__(self, clock: IReactorTime, maxHttpBufferSize: int, connections: WebSockets, receiver: Any) -> None:
        self._clock = clock
        self._maxHttpBufferSize = maxHttpBufferSize
        self._connections = connections
        self.receiver = receiver
        self.counters: Counters = receiver.counters

    def connectionBegan(self) -> None:
        """Called when the connection is there."""
        self._connections.add(self)
        # What a client doesn't read must not pile up here while more of what it sends is answered.
        self.transport.registerProducer(self, True)

    def connectionEnded(self) -> None:
        """Called when the connection is lost."""
        if self._due < inf:
            cancel(self._deadline)
            self._connections.closing.remove(self)
        self._connections.remove(self)

    def connectionGone(self, reason: Failure) -> None:
        """Tell the protocol of the engine that the connection is lost, once all that came before is read."""
        try:
            if not isinstance(reason.value, ConnectionClosed):
                self._logLoss(reason)
            if self._unread:
                self._loss = reason
                # Nobody takes what is sent any more.
                self.pauseProducing()
            else:
                self.lost(reason)
        finally:
            self.connectionEnded()

    def lost(self, reason: Failure) -> None:
        """Called when the connection is lost and everything that came is read."""
        raise NotImplementedError

    def setDeadline(self, deadline: float = 0.0) -> None:
        """
        Abort the connection in a while, unless it is lost by then. An earlier deadline stays.

        @param deadline: the time for that; it isn't sooner than in L{CLOSE_TIMEOUT} seconds.
        """
        if self._loss is not None:
            self.resumeReceiving()
            return
        clock = steadyClock(self._clock)
        now = clock.seconds()
        due = max(deadline, now + CLOSE_TIMEOUT)
        if due < self._due:
            self._due = due
            cancel(self._deadline)
            if due > now + CLOSE_TIMEOUT:
                self._deadline = clock.callLater(due - now, self.abort)
            else:
                # As nearly all have.
                self._connections.closing.add(self)
        # The client's part of a closing handshake is to be read; over TLS also what it says in the end.
        self.resumeReceiving()
        self._resume()

    def abort(self) -> None:
        """Abort the connection, whatever is left to send."""
        self.transport.abortConnection()

    def logFailure(self, code: int, reason: str) -> None:
        """
        Log that the client broke the protocol, or sent too much, which the receiver is told next.

        @param code: that of the close frame it got.
        @param reason: why, in words that are not the client's.
        """
        owner = self.receiver.owner
        isTooLarge = code == TOO_LARGE
        if isTooLarge:
            self.counters.limitReached(owner, "maxHttpBufferSize")
        if self.counters.throttle.allows(f"WebSockets closed with {code}"):
            self._log.warn(
                "WebSocket of session {session} from {peer} closed with {code}: {reason}",
                session=getattr(owner, "logName", None),
                peer=self.transport.getPeer(),
                code=code,
                reason=reason,
                option="maxHttpBufferSize" if isTooLarge else None,
            )

    def _logLoss(self, reason: Failure) -> None:
        """Log that the connection failed, by TLS for instance, and wasn't just closed or lost."""
        if self.counters.throttle.allows("WebSockets whose connection failed"):
            self._log.warn(
                "WebSocket of session {session} from {peer} lost: {reason}",
                session=getattr(self.receiver.owner, "logName", None),
                peer=self.transport.getPeer(),
                reason=reason.getErrorMessage(),
            )

    def countRead(self, data: bytes) -> None:
        """Count what a client sent, and stop reading if it has sent enough without reading itself."""
        self.counters.addBytesReceived(self.receiver.owner, len(data))
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0:
                self.transport.pauseProducing()

    def countWritten(self, size: int) -> None:
        """Count what is sent to a client, without the 101."""
        self.counters.addBytesSent(self.receiver.owner, size)

    @property
    def writable(self) -> bool:
        """Whether the WebSocket is open, and the client takes what is sent to it."""
        return bool(self.isOpen) and self._allowance is None

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of what was sent the connection has not given to the system."""
        return unsent(self.transport)

    @property
    def heldBytes(self) -> int:
        """How many bytes came that the receiver hasn't got."""
        return len(self._unread) + self._incompleteBytes

    @property
    def _incompleteBytes(self) -> int:
        """How many bytes there are of a message that is incomplete."""
        raise NotImplementedError

    @property
    def isDelivering(self) -> bool:
        """Whether something that was read waits."""
        return bool(self._unread)

    def pauseReceiving(self) -> None:
        """Read no more of what the client sends."""
        self._isHeldBack = self._isStopped = True
        self.transport.pauseProducing()

    def resumeReceiving(self) -> None:
        """Go on reading."""
        if self._isHeldBack:
            self._isHeldBack = False
            if self._unread:
                self._readLater()
            elif not self._isQueued:
                self._isStopped = False
                self._resume()

    def _resume(self) -> None:
        # There are three reasons not to.
        if not self._isStopped and (self._allowance is None or self._allowance >= 0):
            self.transport.resumeProducing()

    def read(self, data: bytes, ends: float) -> None:
        """
        Read what came, until the receiver holds the client back or time is over; give the rest to L{keep}.

        However little time there is, at least one step is done.

        @param ends: when it is, by the clock; 0 stands for L{turns.TURN} seconds from now.
        """
        raise NotImplementedError

    def keep(self, data: bytes) -> None:
        """Keep what can't be read now, behind what is kept already; it is read in a later turn, or when it may be."""
        self._unread += data
        self._isStopped = True
        if not self._isHeldBack:
            self._readLater()

    def _readLater(self) -> None:
        if not self._isQueued:
            self._isQueued = True
            self.transport.pauseProducing()
            inLaterTurn(self._clock, self._readOn)

    def _readOn(self, ends: float) -> None:
        self._isQueued = False
        if self._isHeldBack:
            return
        data, self._unread = self._unread, b""
        self._isStopped = False
        try:
            self.read(data, ends)
        except BaseException:
            # As the reactor does if it fails for what is just read.
            self._unread = b""
            self.transport.abortConnection()
            if self.counters.throttle.allows("WebSockets that could not be read"):
                self._log.failure("What {peer} sent could not be read", peer=self.transport.getPeer())
        if self._unread:
            return
        loss, self._loss = self._loss, None
        if loss is not None:
            self.lost(loss)
        elif not self._isStopped:
            if not getattr(self.transport, "disconnecting", False):
                self._resume()
            self.receiver.delivered()

    def pauseProducing(self) -> None:
        """
        Called when the client doesn't read as fast as it is sent to.

        Its pongs are still read, and some more; but one that goes on and on is left to wait until it reads.
        """
        # Said again at every write that finds the buffer full.
        if self._allowance is None:
            self._allowance = self._maxHttpBufferSize

    def resumeProducing(self) -> None:
        """Called when the client has taken what was sent to it."""
        self._allowance = None
        self._resume()
        self.receiver.ready()

    def stopProducing(self) -> None:
        """Called when the connection is lost; the protocol is told too, and does what is to be done."""


class WebSockets(Connections[WebSocketConnection]):
    """
    The WebSockets of an engine.

    @ivar closing: those that have L{CLOSE_TIMEOUT} seconds until they are aborted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock

    @cached_property
    def closing(self) -> DeadlineQueue:
        return DeadlineQueue(steadyClock(self._clock), CLOSE_TIMEOUT, WebSocketConnection.abort)


class Turns:
    """
    Knows the turns of the reactor, as far as anything was written at once in them.

    @ivar clock: the reactor.
    @ivar turn: stands for the present turn.
    """

    clock: IReactorTime
    turn: object
    _turnIsNoted = False

    def noteTurn(self) -> None:
        """Change L{turn} when the reactor has gone round once."""
        if not self._turnIsNoted:
            self._turnIsNoted = True
            self.clock.callLater(0, self._turnIsOver)

    def _turnIsOver(self) -> None:
        self._turnIsNoted = False
        self.turn = object()


class WithoutWebSockets:
    """
    In place of an engine, for a server on which no client may connect by WebSocket.

    @ivar connections: none.
    """

    def __init__(self) -> None:
        self.connections: Connections[WebSocketConnection] = Connections()


def begin(protocol: Any, behind: bytes) -> None:
    """
    Let a WebSocket begin whose 101 is written. If that fails, it is logged, and the client told with 1011.

    @param protocol: a L{WebSocketConnection}, which provides L{IWebSocket} and C{IProtocol}.
    @param behind: as returned by L{IExchange.takeOver}.
    """
    try:
        # The channel stops reading while a request is being answered. Before anything is sent: what is may stop it
        # again.
        if IPushProducer.providedBy(protocol.transport):
            protocol.transport.resumeProducing()
        protocol.receiver.opened(protocol)
        if behind:
            protocol.dataReceived(behind)
    except BaseException:
        if protocol.counters.throttle.allows("WebSockets that failed as they began"):
            protocol._log.failure("A WebSocket failed as it began")
        protocol.setDeadline()
        protocol.close(INTERNAL_ERROR)
