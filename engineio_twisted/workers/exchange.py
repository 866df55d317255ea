"""
What workers say to each other: the exchange over one stream link to each neighbour.

docs/architecture/workers.md, "Sending to sessions that are elsewhere".
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from zope.interface import implementer

from ..clock import cancel
from ..ends import Connections, attempt
from ..exchange import checkChannel
from ..interfaces import IServerExchange
from ..logs import LogThrottle
from .interfaces import INeighbour

KIND = "exchange"
"""What the links are for, as a neighbour is told."""

MAX_QUEUED = 16 * 2**20
"""Bytes that wait for a worker that does not read, at most; also the most that a frame may have, its head included."""

LINGER = 1.0
"""Seconds in which a link is to end by itself: what a worker that is gone has sent is read first."""

REOPEN = 1.0
"""Seconds from the loss of a link to a worker that lives until there is another."""

_HEAD = struct.Struct("!IB")
# Bytes of a length, which doesn't count itself.
_LENGTH = 4


def encodeFrame(channel: str, payload: bytes) -> bytes:
    """
    Return the bytes of a frame: the length of all that follows in 4 bytes, that of the name in one, the name, and the
    payload.

    @raise ValueError: it is too large, or the name is none.
    """
    checkChannel(channel)
    size = _HEAD.size + len(channel) + len(payload)
    if size > MAX_QUEUED:
        raise ValueError(f"{size} bytes for another worker: expected {MAX_QUEUED} at most")
    return b"".join([_HEAD.pack(size - _LENGTH, len(channel)), channel.encode("ascii"), payload])


class FrameReader:
    """Reads the frames of one link, which come in pieces of any size."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = _HEAD.size

    def frames(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """
        Take bytes as they come, and return the frames that are complete now: channels and payloads.

        @raise ValueError: one is too large, or has no channel. Nothing can be read after it.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return
        data, position = b"".join(self._pieces), 0
        self._wanted = _HEAD.size
        while len(data) - position >= _HEAD.size:
            length, nameSize = _HEAD.unpack_from(data, position)
            # The length counts the byte before the name.
            if not 1 <= nameSize < length <= MAX_QUEUED - _LENGTH:
                raise ValueError(f"a frame of {length} bytes with a name of {nameSize}")
            end = position + _LENGTH + length
            if end > len(data):
                self._wanted = end - position
                break
            start = position + _HEAD.size + nameSize
            yield data[position + _HEAD.size : start].decode("ascii"), data[start:end]
            position = end
        self._pieces = [data[position:]]
        self._size = len(data) - position


class _Peer:
    """
    Another worker.

    @ivar neighbour: what it is reached by; None once it is gone, while what it sent is still read.
    @ivar link: the link to it, while there is one.
    @ivar queue: frames that wait for the link.
    @ivar queued: their bytes.
    @ivar timer: opens another link, or ends the one to a worker that is gone.
    """

    def __init__(self, neighbour: INeighbour) -> None:
        self.number: int = neighbour.number
        self.neighbour: INeighbour | None = neighbour
        self.link: ExchangeLink | None = None
        self.queue: deque[bytes] = deque()
        self.queued: int = 0
        self.timer: IDelayedCall | None = None


@implementer(IPushProducer)
class ExchangeLink(Protocol):
    """
    One end of a link.

    @param exchange: whose it is.
    @param peer: to whom.
    @ivar isPaused: whether the other end does not read.
    """

    isPaused: bool = False

    def __init__(self, exchange: LinkExchange, peer: _Peer) -> None:
        self._exchange = exchange
        self._peer = peer
        self._reader = FrameReader()

    def connectionMade(self) -> None:
        self._transport.registerProducer(self, True)
        self._exchange.linkMade(self._peer, self)

    @property
    def _transport(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        try:
            for channel, payload in self._reader.frames(data):
                # What a frame caused may have ended this.
                if self._peer.link is not self:
                    return
                self._exchange.delivered(self._peer.number, channel, payload)
        except ValueError as error:
            self._exchange.linkFailed(self._peer.number, str(error))
            self.abort()

    def connectionLost(self, reason: Any = None) -> None:
        self._exchange.linkLost(self._peer, self)

    def pauseProducing(self) -> None:
        self.isPaused = True

    def resumeProducing(self) -> None:
        self.isPaused = False
        self.flush()

    def stopProducing(self) -> None:
        self.isPaused = True

    def flush(self) -> None:
        """Write what waits, as far as the other end reads."""
        peer = self._peer
        while peer.queue and not self.isPaused:
            frame = peer.queue.popleft()
            peer.queued -= len(frame)
            self.write(frame)

    def write(self, frame: bytes) -> None:
        """Send a frame."""
        self._transport.write(frame)

    def finish(self) -> None:
        """Write what waits, whether or not it is read, and end."""
        self.isPaused = False
        self._transport.unregisterProducer()
        self.flush()
        self._transport.loseConnection()

    def abort(self) -> None:
        """End now."""
        self._transport.abortConnection()


@implementer(IServerExchange)
class LinkExchange:
    """
    The exchange of workers on one machine.

    Of two workers the one with the lower number opens the link between them. What is sent before it is there waits.
    A link that fails is replaced, and what was under way on it is lost.

    @param number: the number of this worker.
    @param clock: the time of its server, an C{IReactorTime}.
    """

    _log = Logger()

    def __init__(self, number: int, clock: Any) -> None:
        self.isConnected: bool = False
        self.number: int = number
        self.dropped: int = 0
        self._clock = clock
        self._throttle = LogThrottle(lambda: clock)
        self._peers: dict[int, _Peer] = {}
        self._channels: dict[str, Callable[[int, bytes], object]] = {}
        self._watchers: list[Callable[[], object]] = []
        self._links: Connections[ExchangeLink] = Connections()

    # IServerExchange

    @property
    def peers(self) -> Collection[int]:
        return self._peers.keys()

    def subscribe(self, channel: str, deliver: Callable[[int, bytes], object]) -> Callable[[], None]:
        checkChannel(channel)
        if channel in self._channels:
            raise ValueError(f"channel {channel!r} has a subscriber")
        self._channels[channel] = deliver

        def unsubscribe() -> None:
            if self._channels.get(channel) is deliver:
                del self._channels[channel]

        return unsubscribe

    def send(self, targets: Iterable[int] | None, channel: str, frame: bytes) -> None:
        data = encodeFrame(channel, frame)
        peers = self._peers
        for number in list(peers if targets is None else dict.fromkeys(targets)):
            if number in peers:
                self._send(peers[number], data)

    def _send(self, peer: _Peer, data: bytes) -> None:
        link = peer.link
        if link is not None and not link.isPaused and not peer.queue:
            link.write(data)
        elif peer.queued + len(data) <= MAX_QUEUED:
            peer.queue.append(data)
            peer.queued += len(data)
        else:
            self.dropped += 1
            if self._throttle.allows("exchange queue"):
                self._log.warn("Worker {number} does not read: a frame for it was dropped", number=peer.number)

    def whenPeersChange(self, function: Callable[[], object]) -> Callable[[], None]:
        self._watchers.append(function)

        def end() -> None:
            if function in self._watchers:
                self._watchers.remove(function)

        return end

    def start(self) -> None:
        self.isConnected = True

    def stop(self) -> Deferred[None]:
        self.isConnected = False
        peers, self._peers = self._peers, {}
        for each in peers.values():
            cancel(each.timer)
            link, each.link = each.link, None
            if link is not None:
                attempt(link.finish)
        if peers:
            self._peersChanged()
        timer = self._clock.callLater(LINGER, self._links.abort)
        attempt(self._throttle.flush)
        return self._links.whenEmpty().addCallback(lambda _: cancel(timer))

    # The neighbours

    def addNeighbour(self, neighbour: INeighbour) -> None:
        """Know another worker from here on, which knows this one."""
        peer = self._peers[neighbour.number] = _Peer(neighbour)
        self._peersChanged()
        if self.number < peer.number:
            self._open(peer)

    def neighbourLost(self, number: int) -> None:
        """Called when a worker is gone. It is a peer until all that it sent is read."""
        peer = self._peers.get(number)
        if peer is None:
            return
        peer.neighbour = None
        cancel(peer.timer)
        if peer.link is None:
            self._remove(peer)
        else:
            peer.timer = self._clock.callLater(LINGER, peer.link.abort)

    def linkFor(self, number: int) -> Protocol | None:
        """Return the protocol for a link that a worker opens; None refuses it."""
        peer = self._peers.get(number)
        return None if peer is None else ExchangeLink(self, peer)

    def _open(self, peer: _Peer) -> None:
        if peer.neighbour is None or self._peers.get(peer.number) is not peer:
            return
        try:
            peer.neighbour.openLink(KIND, ExchangeLink(self, peer))
        except OSError as error:
            self.linkFailed(peer.number, str(error))
            peer.timer = self._clock.callLater(REOPEN, self._open, peer)

    def _remove(self, peer: _Peer) -> None:
        del self._peers[peer.number]
        self._peersChanged()

    def _peersChanged(self) -> None:
        for each in list(self._watchers):
            self._call(each)

    # The links

    def linkMade(self, peer: _Peer, link: ExchangeLink) -> None:
        """Called with a link that is connected. The one before it has failed, if there was one."""
        self._links.add(link)
        if self._peers.get(peer.number) is not peer:
            link.abort()
            return
        before, peer.link = peer.link, link
        if before is not None:
            before.abort()
        link.flush()

    def linkLost(self, peer: _Peer, link: ExchangeLink) -> None:
        """Called when a link is lost."""
        self._links.remove(link)
        if peer.link is not link:
            return
        peer.link = None
        cancel(peer.timer)
        if peer.neighbour is None:
            self._remove(peer)
        elif self.number < peer.number:
            peer.timer = self._clock.callLater(REOPEN, self._open, peer)

    def linkFailed(self, number: int, reason: str) -> None:
        """Log why there is no link."""
        if self._throttle.allows("exchange links"):
            self._log.error("The link to worker {number} failed: {reason}", number=number, reason=reason)

    def delivered(self, origin: int, channel: str, payload: bytes) -> None:
        """Give a frame to the subscriber of its channel. Without one it is dropped."""
        deliver = self._channels.get(channel)
        if deliver is not None:
            self._call(deliver, origin, payload)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        try:
            function(*args)
        except BaseException:
            # Whatever it is, what comes behind it is to be delivered.
            if self._throttle.allows("exchange subscribers"):
                self._log.failure("What a subscriber of the exchange did failed")
