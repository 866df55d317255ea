"""What passes between the workers of a cluster in memory: streams, and whole messages with connections in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.address import UNIXAddress

from .ends import LinkWay, MemoryTransport, Process
from .network import MemoryNetwork

IN_FLIGHT = 167
"""Messages that a worker that reads none may have before it, as many as a Linux system takes."""

MAX_QUEUED = 512
"""Messages that wait for those to be read, at most."""

_NO_NAME = UNIXAddress(None)


class LinkEnd(MemoryTransport):
    """
    One end of a link.

    @param link: the link.
    """

    def __init__(self, link: MemoryLink, process: Process, incoming: LinkWay, outgoing: LinkWay) -> None:
        super().__init__(process, incoming, outgoing, (_NO_NAME, _NO_NAME))
        self._link = link

    def wake(self) -> None:
        self._link.network.wake(self._link)

    def takeTurn(self) -> bool:
        # The other one may be read from before the link has reached its process.
        return self.protocol is not None and super().takeTurn()


class MemoryLink:
    """
    A stream of bytes between two processes.

    @param network: that of the processes.
    @param first: one process.
    @param second: the other one.
    @ivar ends: the ends, in this order. Each is connected to a protocol by its C{begin}.
    @ivar ways: both directions.
    """

    def __init__(self, network: MemoryNetwork, first: Process, second: Process) -> None:
        self.network = network
        there, back = LinkWay(network.clock), LinkWay(network.clock)
        self.ways = there, back
        self.ends: tuple[LinkEnd, LinkEnd] = LinkEnd(self, first, back, there), LinkEnd(self, second, there, back)

    @property
    def isOver(self) -> bool:
        """Whether it is closed, at both ends."""
        return all(each.disconnected for each in self.ends)

    @property
    def due(self) -> list[float]:
        """The times at which something arrives next, in each direction in which something is under way."""
        return [] if self.isOver else [each.due for each in self.ways if each.due is not None]

    def turn(self) -> bool:
        """Let each end read one piece; return whether anything happened."""
        first, second = self.ends
        happened = first.takeTurn()
        return second.takeTurn() or happened


@attrs.frozen
class Message:
    """
    What a worker sends to another one, whole.

    @ivar deliver: called at the other worker.
    @ivar discard: called in its place if that is gone.
    @ivar sent: called once, with whether the message is out of the sender's hands. If not, it never will be.
    """

    deliver: Callable[[], object]
    discard: Callable[[], object]
    sent: Callable[[bool], object]


class Messages:
    """
    The messages of one worker for another one, in order, as far as it reads them.

    @param network: that of the processes.
    @param receiver: the process that reads them.
    @param links: what becomes of them on their way.
    @ivar isOver: whether none is read any more.
    """

    isOver: bool = False
    _hasEnd = False

    def __init__(self, network: MemoryNetwork, receiver: Process, links: Links) -> None:
        self._network = network
        self._receiver = receiver
        self._links = links
        self._inFlight: deque[tuple[float, Message]] = deque()
        self._queue: deque[Message] = deque()

    @property
    def isFull(self) -> bool:
        """Whether no further message is taken."""
        return self.isOver or len(self._queue) >= MAX_QUEUED

    @property
    def queued(self) -> int:
        """How many messages wait for others to be read."""
        return len(self._queue)

    @property
    def isEmpty(self) -> bool:
        """Whether all that was sent is read."""
        return not self._inFlight

    def send(self, message: Message) -> None:
        """Send a message, now or when the others before it are read."""
        if self.isFull or self._hasEnd:
            message.sent(False)
            return
        self._queue.append(message)
        self._fill()

    def _fill(self) -> None:
        while self._queue and len(self._inFlight) < IN_FLIGHT and not self.isOver:
            message = self._queue.popleft()
            due = self._network.clock.seconds() + self._links.seconds
            self._inFlight.append((max(due, self._inFlight[-1][0]) if self._inFlight else due, message))
            message.sent(True)
        self._network.wake(self)

    def end(self, gone: Callable[[], object]) -> None:
        """Let nothing come any more after what is in flight: C{gone} is called then. What waits is never sent."""
        if not self._hasEnd:
            self._hasEnd = True
            self._fail()
            self._inFlight.append((self._network.clock.seconds(), Message(gone, _nothing, _nothing)))
            self._network.wake(self)

    def close(self) -> None:
        """Read nothing any more: what is in flight is lost, and what waits is never sent."""
        self.isOver = True
        self._network.wake(self)
        while self._inFlight:
            self._inFlight.popleft()[1].discard()
        self._fail()

    def _fail(self) -> None:
        while self._queue:
            self._queue.popleft().sent(False)

    @property
    def due(self) -> list[float]:
        """The time at which the next message arrives."""
        return [self._inFlight[0][0]] if self._inFlight and not self._links.isPaused else []

    def turn(self) -> bool:
        """Let the receiver read one message; return whether there was one."""
        if self._receiver.isStalled or not self.due or self.due[0] > self._network.clock.seconds():
            return False
        _, message = self._inFlight.popleft()
        message.deliver()
        self._fill()
        return True


def _nothing(*_: object) -> None:
    pass


class Links:
    """
    What becomes of what passes between workers: requests that are relayed, messages to other workers' sessions, and
    connections that move.

    @param network: that of the workers.
    @ivar seconds: what it takes in each direction.
    @ivar pieceSize: bytes of the pieces in which it arrives, of a stream; None for pieces as they are written.
    @ivar isPaused: whether nothing arrives.
    """

    seconds: float = 0.0
    pieceSize: int | None = None
    isPaused: bool = False

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._links: list[MemoryLink] = []
        self._messages: list[Messages] = []

    @property
    def open(self) -> list[MemoryLink]:
        """The links that are open."""
        self._links = [each for each in self._links if not each.isOver]
        return list(self._links)

    def connect(self, first: Process, second: Process) -> MemoryLink:
        """Make a link between two processes."""
        link = MemoryLink(self._network, first, second)
        self._links = [*self.open, link]
        self._arrange(link)
        return link

    def messages(self, receiver: Process) -> Messages:
        """Return a way for messages to a process."""
        messages = Messages(self._network, receiver, self)
        self._messages = [*[each for each in self._messages if not each.isOver], messages]
        return messages

    def delay(self, seconds: float) -> None:
        """Delay what is sent from now on, in both directions; L{MemoryCluster.advance} lets it arrive."""
        self.seconds = seconds
        self._arrangeAll()

    def split(self, size: int | None) -> None:
        """
        Split what is sent on streams from now on into pieces.

        @param size: the bytes of a piece, at least 1; None for pieces as they are written.
        @raise ValueError: it is less.
        """
        if size is not None and size < 1:
            raise ValueError(f"pieces of {size} bytes: expected at least 1, or None")
        self.pieceSize = size
        self._arrangeAll()

    def pause(self) -> None:
        """Let nothing arrive any more, for now."""
        self.isPaused = True
        self._arrangeAll()

    def resume(self) -> None:
        """Let arrive again what is sent, what was sent meanwhile first."""
        self.isPaused = False
        self._arrangeAll()
        self._network.settle()

    def drop(self) -> None:
        """Lose all links that are open; connections that are moving aren't."""
        for each in self.open:
            for end in each.ends:
                if end.protocol is not None:
                    end.abortConnection()
        self._network.settle()

    def _arrangeAll(self) -> None:
        for link in self.open:
            self._arrange(link)
        for each in self._messages:
            self._network.wake(each)

    def _arrange(self, link: MemoryLink) -> None:
        for way in link.ways:
            way.delay, way.pieceSize, way.isHeld = self.seconds, self.pieceSize, self.isPaused
        self._network.wake(link)
