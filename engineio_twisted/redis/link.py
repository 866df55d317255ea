"""One connection to a Redis server that is made again whenever it is lost."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..clock import Timeout, cancel

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..clock import AfterReading

FIRST_DELAY = 0.1
"""Seconds before the first attempt to connect again; twice as long before each further one."""

MAX_DELAY = 5.0
"""Seconds between two attempts at most."""

MAX_REPLY_BYTES = 16 * 2**20
"""Bytes of one message from Redis at most: what anybody publishes is read into memory whole."""


class Link:
    """
    One connection, kept. Its owner calls it; txredisapi's protocol calls C{heard}, C{replied}, C{lost} and C{broken}.

    Replies that don't come end the connection: a server that hangs leaves it open.

    @param endpoint: connects to the server.
    @param clock: an C{IReactorTime}.
    @param reading: for deadlines, which leave what has come time to be read.
    @param connectTimeout: seconds to connect, and for the replies that make the connection ready.
    @param pingInterval: seconds between two C{PING}.
    @param pingTimeout: seconds without a byte after a C{PING} that end the connection.
    @param prepare: called with this, sends what makes a connection ready, and waits for the replies.
    @param ready: called when that is done.
    @param away: called with a text when the connection is lost, or could not be made.
    @param received: called with the channel and the payload of each message. It doesn't raise.
    @ivar isReady: whether there is a connection, and the server has confirmed all that prepares it.
    """

    _log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        clock: Any,
        reading: AfterReading,
        *,
        connectTimeout: float,
        pingInterval: float,
        pingTimeout: float,
        prepare: Callable[[Link], Awaitable[None]],
        ready: Callable[[], object],
        away: Callable[[str], object],
        received: Callable[[bytes, bytes], object],
    ) -> None:
        self._endpoint = endpoint
        self.clock = clock
        self._reading = reading
        self._connectTimeout = connectTimeout
        self._pingInterval, self._pingTimeout = pingInterval, pingTimeout
        self._prepare, self._ready, self._away = prepare, ready, away
        self.received = received
        self.isReady = False
        self._isClosed = False
        # txredisapi's protocol.
        self._protocol: Any = None
        self._attempt: Deferred[Any] | None = None
        # What waits: for the time of an attempt or of a PING, for the next attempt, for the next PING.
        self._deadline: Timeout | None = None
        self._next: IDelayedCall | None = None
        self._delay = FIRST_DELAY
        self._problem = ""
        # Bytes that have come since the last whole reply; whether any have since the last PING.
        self._unread = 0
        self._isHeard = False
        self._gone: list[Deferred[None]] = []

    def connect(self) -> None:
        """Begin to connect."""
        self._next = None
        self._problem = ""
        self._deadline = self._reading.callLater(self._connectTimeout, self.abort, "no answer in time")
        self._attempt = attempt = self._endpoint.connect(_Connections(self))
        attempt.addCallbacks(self._connected, self._failed)

    def request(self, *command: str | bytes) -> Deferred[Any]:
        """
        Send a command.

        @return: a Deferred of the reply. It fails if the server refuses or the connection is lost.
        """
        reply: Deferred[Any] = self._protocol.execute_command(*command)
        return reply

    def abort(self, problem: str) -> None:
        """End the connection, or the attempt, now. Another one follows, unless this is closed."""
        self._problem = self._problem or problem
        if self._protocol is not None:
            self._protocol.transport.abortConnection()
        elif self._attempt is not None:
            self._attempt.cancel()

    def close(self) -> Deferred[None]:
        """
        End the connection when what was written has gone out, and make no other.

        @return: a Deferred that fires when there is none.
        """
        self._isClosed = True
        cancel(self._next)
        over: Deferred[None] = Deferred()
        if self._protocol is None and self._attempt is None:
            over.callback(None)
            return over
        self._gone.append(over)
        if self._protocol is not None:
            self._protocol.transport.loseConnection()
        elif self._attempt is not None:
            self._attempt.cancel()
        return over

    # Called by the protocol.

    def opened(self, protocol: Any) -> None:
        """Called when a connection is there."""
        self._protocol = protocol
        self._unread = 0

    def heard(self, count: int) -> None:
        """Called with the number of bytes that have come."""
        self._isHeard = True
        self._unread += count
        if self._unread > MAX_REPLY_BYTES:
            self.abort(f"a message of more than {MAX_REPLY_BYTES} bytes")

    def replied(self) -> None:
        """Called when a reply, or a message, is whole."""
        self._unread = 0

    def broken(self) -> None:
        """Called when what came is no reply of Redis."""
        self.abort("what answers there is no Redis server")

    def lost(self, reason: Failure) -> None:
        """Called when the connection is lost."""
        self._protocol = None
        self._over(self._problem or reason.getErrorMessage())

    # An attempt

    def _connected(self, protocol: Any) -> None:
        self._attempt = None
        Deferred.fromCoroutine(self._preparing()).addErrback(self._unprepared)

    async def _preparing(self) -> None:
        await self._prepare(self)
        if self._isClosed:
            return
        cancel(self._deadline)
        self.isReady = True
        self._next = self.clock.callLater(self._pingInterval, self._ping)
        self._ready()

    def _unprepared(self, failure: Failure) -> None:
        # One that was lost has said so.
        self.abort(failure.getErrorMessage())

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        self._over(self._problem or failure.getErrorMessage())

    def _over(self, problem: str) -> None:
        cancel(self._deadline)
        cancel(self._next)
        self._next = None
        self.isReady = False
        if not self._isClosed:
            # Those of many processes don't all come in the same moment.
            self._next = self.clock.callLater(self._delay * random.uniform(0.8, 1.2), self.connect)  # noqa: S311
            self._delay = min(2 * self._delay, MAX_DELAY)
        gone, self._gone = self._gone, []
        self._away(problem)
        for each in gone:
            each.callback(None)

    # Silence

    def _ping(self) -> None:
        self._next = None
        self._listen()
        # An error is an answer too.
        self.request("PING").addBoth(self._ponged)

    def _listen(self) -> None:
        self._isHeard = False
        self._deadline = self._reading.callLater(self._pingTimeout, self._look)

    def _look(self) -> None:
        if self._isHeard:
            # The answer is behind a message that comes slowly, or behind many.
            self._listen()
        else:
            self.abort("no answer to PING in time")

    def _ponged(self, _: object) -> None:
        if self.isReady and not self._isClosed:
            cancel(self._deadline)
            # A server that ends each connection before is not asked again at once.
            self._delay = FIRST_DELAY
            self._next = self.clock.callLater(self._pingInterval, self._ping)


class _Connections(Factory):
    """Makes the protocol of a connection."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return protocolClass()(self._link)


@cache
def protocolClass() -> Any:
    """Return the class of the protocol. Only here is txredisapi imported, as it imports the reactor."""
    import txredisapi

    class Protocol(txredisapi.SubscriberProtocol):  # type: ignore[misc]
        """txredisapi's protocol: neither decodes text nor makes numbers of digits."""

        def __init__(self, link: Link) -> None:
            super().__init__(charset=None, convertNumbers=False)
            self._link = link
            # In place of the reactor's.
            self.callLater = link.clock.callLater

        def connectionMade(self) -> None:
            self._link.opened(self)
            super().connectionMade()

        def dataReceived(self, data: bytes, unpause: bool = False) -> None:
            self._link.heard(len(data))
            try:
                super().dataReceived(data, unpause)
            except Exception:
                # What a parser raises, for both don't agree on it.
                self._link.broken()

        def replyReceived(self, reply: Any) -> None:
            self._link.replied()
            super().replyReceived(reply)

        def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
            self._link.received(channel, message)

        def connectionLost(self, why: Failure) -> None:
            # First: the replies that are waited for fail in the next line, for want of a connection.
            self._link.lost(why)
            super().connectionLost(why)

    return Protocol
