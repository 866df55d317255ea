"""
The front's side of a relay: requests that came here, and that another worker answers.

docs/architecture/workers.md, "Relaying a request".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from zope.interface import implementer

from ..clock import Cancellable, DeadlineQueue, cancel
from ..ends import CLOSE_TIMEOUT, attempt
from ..interfaces import IPushReceiver
from ..logs import LogThrottle
from ..protocol.errors import HTTPRefusal
from ..web.connections import UNREAD_TIMEOUT, UnreadDeadline, unread, unsent, writeAtOnce
from ..web.passing import PassedRequest, bytesOf, passOn
from .addresses import asTuple
from .frames import MAX_HEAD, Aborted, Facts, FrameReader, Kind, encodeAborted, frame, requestFrame

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from .interfaces import INeighbour

MAX_FREE = 32
"""Links to one owner that are kept for further requests."""

FREE_TIMEOUT = 60.0
"""Seconds that a link is kept for."""


class Front:
    """
    The requests of one worker that others answer, and the links for them.

    @param clock: the time.
    @param maxHttpBufferSize: the option of the server.
    @ivar relayed: requests that were relayed since the beginning.
    @ivar webSockets: WebSockets that are being relayed.
    """

    _log = Logger()

    def __init__(self, clock: Any, maxHttpBufferSize: int) -> None:
        self.clock = clock
        self.limit: int = MAX_HEAD + maxHttpBufferSize
        self.relayed: int = 0
        self.webSockets: int = 0
        self.throttle: LogThrottle = LogThrottle(lambda: clock)
        self._links: dict[int, set[FrontLink]] = {}
        self._free: dict[int, list[FrontLink]] = {}
        self._deadlines = DeadlineQueue(clock, FREE_TIMEOUT, lambda link: link.drop())

    def relay(self, neighbour: INeighbour, exchange: Any, isUpgrade: bool, isNew: bool = False) -> None:
        """
        Have another worker answer a request. If it can't be reached, the request is refused with 503.

        @param neighbour: the worker.
        @param exchange: an L{IExchange} that isn't answered, with its whole body.
        @param isUpgrade: whether it asks for a WebSocket.
        @param isNew: whether it opens a session.
        """
        connection = exchange.connection
        isSecure = ISSLTransport.providedBy(connection)
        peer, host = asTuple(exchange.getClientAddress()), asTuple(exchange.channel.getHost())
        facts = Facts(peer, host, isSecure, isBalanced=isNew)
        request = requestFrame(facts, bytesOf(exchange))
        link = self._linkTo(neighbour) if len(request) <= self.limit else None
        if link is None:
            exchange.channel.persistent = False
            exchange.respond(503, {"Retry-After": "1", "Connection": "close"}, b"", lambda _: None)
            exchange.drop()
            return
        self.relayed += 1
        if isUpgrade:
            # What the client sends behind it, for the WebSocket, is not to be taken for another request.
            exchange.channel.persistent = False
        link.ask(passOn(exchange, link.clientLost), request)

    def pushReceiver(self, neighbour: INeighbour, sid: str, revision: int) -> RemotePush:
        """Return what is told of the body of a request for a session of another worker."""
        return RemotePush(self, neighbour, sid, revision)

    def aborted(self, neighbour: INeighbour, what: Aborted) -> None:
        """Tell the owner of a session that a body for it was not delivered."""
        link = self._linkTo(neighbour)
        if link is not None:
            link.tell(frame(Kind.ABORTED, encodeAborted(what)))

    def _linkTo(self, neighbour: INeighbour) -> FrontLink | None:
        free = self._free.get(neighbour.number)
        if free:
            link = free.pop()
            self._deadlines.remove(link)
            return link
        link = FrontLink(self, neighbour.number)
        try:
            neighbour.openLink("relay", link)
        except OSError as error:
            if self.throttle.allows("links that could not be opened"):
                self._log.warn("A request for another worker was refused: {reason}", reason=error.strerror)
            return None
        self._links.setdefault(neighbour.number, set()).add(link)
        return link

    def isFree(self, link: FrontLink) -> None:
        """Called with a link that has done what it was to do: it is kept for the next request, or closed."""
        free = self._free.setdefault(link.number, [])
        if len(free) < MAX_FREE:
            free.append(link)
            self._deadlines.add(link)
        else:
            link.drop()

    def linkLost(self, link: FrontLink) -> None:
        """Called when a link is lost."""
        self._deadlines.remove(link)
        free = self._free.get(link.number, [])
        if link in free:
            free.remove(link)
        links = self._links.get(link.number)
        if links is not None:
            links.discard(link)
            if not links:
                del self._links[link.number]
                self._free.pop(link.number, None)

    def neighbourLost(self, neighbour: INeighbour) -> None:
        """
        Drop the links to a worker that is gone, but for those on which something is answered.

        They have ended too, behind what it has sent, which a slow client may still read.
        """
        for link in list(self._free.get(neighbour.number, ())):
            attempt(link.drop)

    def dropUnanswered(self, neighbour: INeighbour) -> None:
        """Drop the links to a worker of whose requests no answer has begun to come, and none will."""
        for link in list(self._links.get(neighbour.number, ())):
            if link.isUnanswered:
                attempt(link.drop)

    def stop(self) -> None:
        """Drop all links."""
        for links in list(self._links.values()):
            for link in list(links):
                attempt(link.drop)
        self.throttle.flush()


class FrontLink(Protocol):
    """
    The front's end of a link.

    @param front: the L{Front}.
    @param number: the number of the owner.
    @ivar number: as given.
    """

    _log = Logger()
    transport: Any

    def __init__(self, front: Front, number: int) -> None:
        self.number = number
        self._front = front
        self._reader = FrameReader(front.limit)
        # The request that is being answered; the WebSocket that it has become.
        self._passed: PassedRequest | None = None
        self._pipe: ClientPipe | None = None
        self._deadline: Cancellable | None = None

    @property
    def isUnanswered(self) -> bool:
        """Whether a request waits for the beginning of its response."""
        return self._passed is not None and not self._passed.sentLength

    def ask(self, passed: PassedRequest, request: bytes) -> None:
        """Send the frame of a request, whose response goes to where it came from."""
        self._passed = passed
        writeAtOnce(self.transport, request)

    def tell(self, data: bytes) -> None:
        """Send what gets no answer."""
        writeAtOnce(self.transport, data)
        self._front.isFree(self)

    def drop(self) -> None:
        """Close the link."""
        self.transport.abortConnection()

    def clientLost(self) -> None:
        """Called when the client of the request has gone: so is the request, for its owner."""
        self._passed = None
        if unsent(self.transport):
            # A request that came whole is served, though its client has gone.
            self.transport.loseConnection()
            self._deadline = self._front.clock.callLater(CLOSE_TIMEOUT, self.drop)
        else:
            self.drop()

    def dataReceived(self, data: bytes) -> None:
        if self._pipe is not None:
            self._pipe.write(data)
            return
        self._reader.add(data)
        try:
            while self._pipe is None and (found := self._reader.next()) is not None:
                self._received(*found)
        except ValueError as error:
            if self._front.throttle.allows("frames of workers"):
                self._front._log.error(
                    "A link to worker {number} is dropped: {reason}", number=self.number, reason=error
                )
            self.drop()
            return
        if self._passed is not None and self._passed.sentLength:
            # There is more to come.
            self._passed.registerProducer(self.transport)

    def _received(self, kind: Kind, payload: bytes) -> None:
        passed = self._passed
        if passed is None:
            raise ValueError(f"{kind.name} without a request")
        if kind is Kind.ANSWER:
            passed.write(payload)
        elif kind is Kind.UPGRADED:
            self._passed = None
            self._pipe = pipe = ClientPipe(self, self._front.clock)
            self._front.webSockets += 1
            behind = passed.takeOver(pipe)
            rest = self._reader.rest()
            if rest:
                pipe.transport.write(rest)
            if behind:
                self.transport.write(behind)
            pipe.begin(self.transport)
        elif kind in (Kind.END, Kind.CLOSE):
            # The next request of the connection may need a link within this.
            self._passed = None
            self._front.isFree(self)
            if kind is Kind.END:
                passed.finish()
            else:
                passed.close()
        else:
            raise ValueError(f"{kind.name} from an owner")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._front.linkLost(self)
        cancel(self._deadline)
        passed, self._passed = self._passed, None
        if passed is not None:
            # It may have been served.
            passed.abort()
        if self._pipe is not None:
            self._front.webSockets -= 1
            self._pipe.ownerLost()


@implementer(IPushProducer)
class ClientPipe(Protocol):
    """
    The client's end of a WebSocket that another worker serves.

    @param link: the link to the owner.
    @param clock: the time.
    """

    transport: Any

    def __init__(self, link: FrontLink, clock: Any) -> None:
        self._clock = clock
        self._link = link
        self._isLost = False
        self._deadline: Cancellable | None = None
        self._unread = UnreadDeadline(
            clock.callLater,
            UNREAD_TIMEOUT / 1000,
            lambda: unread(self.transport),
            lambda: self.transport.abortConnection(),
        )

    def begin(self, other: Any) -> None:
        """Have each end go at the pace of the other."""
        self.transport.registerProducer(self, True)
        other.registerProducer(self.transport, True)
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        writeAtOnce(self._link.transport, data)

    def write(self, data: bytes) -> None:
        """Send the client what the owner has written."""
        self._unread.wrote(len(data))
        writeAtOnce(self.transport, data)

    # What the client's connection does when it takes no more for now, and when it has room again

    def pauseProducing(self) -> None:
        self._link.transport.pauseProducing()
        # The end of the link isn't noticed either, as long as nothing is read of it.
        self._unread.begin(isFull=True)

    def resumeProducing(self) -> None:
        self._unread.drained()
        self._link.transport.resumeProducing()

    def stopProducing(self) -> None:
        self._link.transport.stopProducing()

    def ownerLost(self) -> None:
        """Close the connection, as the owner has, or is gone; abort it if the client doesn't take what it was sent."""
        if not self._isLost:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._deadline = self._clock.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._isLost = True
        cancel(self._deadline)
        self._unread.stop()
        # What the client has sent still goes to the owner.
        self._link.transport.unregisterProducer()
        self._link.transport.loseConnection()


@implementer(IPushReceiver)
class RemotePush:
    """
    What is told of the body of a request for a session of another worker, which hears of its end.

    @param front: the L{Front}.
    @param neighbour: the owner.
    @param sid: the id of the session.
    @param revision: the revision of the protocol that the request names.
    """

    isReading = False

    def __init__(self, front: Front, neighbour: INeighbour, sid: str, revision: int) -> None:
        self._front = front
        self._neighbour = neighbour
        self._sid = sid
        self._revision = revision

    def pushStarted(self, request: Any) -> None:
        pass

    def pushEnded(self, request: Any) -> None:
        pass

    def pushRefused(self, request: Any, refusal: HTTPRefusal) -> None:
        what = Aborted(self._sid, self._revision, refusal.status, refusal.name, refusal.message)
        self._front.aborted(self._neighbour, what)

    def pushLost(self, request: Any) -> None:
        self._front.aborted(self._neighbour, Aborted(self._sid, self._revision))
