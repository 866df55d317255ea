"""
One session, as the application at either end of it sees it. docs/sessions.md.

No name without an underscore is here that isn't for applications; what else a session does is in L{TransportOwner}.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self

from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..ends import hasRoom, needRoom
from ..interfaces import Closing
from ..protocol.errors import CloseReason
from ..protocol.packet import Packet, PacketType
from .ending import Ending, closingFor
from .outbox import Message, Outbox, SendCallback, messageOf, messagesOf
from .producing import Pace
from .receiving import Inbox
from .resumption import Resumption
from .states import Input, ReadyState, UpgradeState, change
from .suspension import isSuspended
from .work import WorkOwner

if TYPE_CHECKING:
    from ..transport import Transport

# Asked for with each message, which this makes a little shorter.
_OPEN, _CLOSED = ReadyState.OPEN, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE


def _beginEnding(session: Any) -> None:
    session._ending.begin()


def checkCallback(callback: object) -> None:
    """
    Refuse a callback of L{Socket.send} that can't be called.

    @raise TypeError: it can't.
    """
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback of type {type(callback).__name__}: expected something to call; a message is one argument, so"
            " encode what belongs to it together, for example with json.dumps()"
        )


@implementer(IConsumer)
class BaseSocket(WorkOwner):
    """
    What a session is at either end: a L{Socket} of a server, or a client.

    It is an C{IConsumer}: a producer may write to it, at the pace of the peer.

    @ivar id: the session id, which is a secret of the two ends.
    @ivar protocol: the revision of the protocol.
    @ivar transport: the transport it is on.
    """

    # What this is and what is at the other end, in words; and why a session ends if who closes it doesn't say why.
    _kind: ClassVar[str]
    _peer: ClassVar[str]
    _closedHere: ClassVar[Closing]
    _log = Logger()
    _readyState = ReadyState.OPENING
    _upgradeState = UpgradeState.NONE
    # While something waits for the transport.
    _outbox: Outbox | None = None
    # While what the client sent is held.
    _inbox: Inbox | None = None
    # While there is a producer.
    _pace: Pace | None = None
    # While a WebSocket tries to replace polling: an L{Upgrade}, or what a client has in its place.
    _upgrade: Any = None
    # From its closing on.
    _ending: Ending | None = None
    # If it goes on after its connection was lost.
    _resumption: Resumption | None = None

    def __init__(self, sid: str, host: Any, transport: Any, protocol: int) -> None:
        self.id = sid
        self._host = host
        self.transport: Transport = transport
        self.protocol = protocol
        transport.owner = self

    def __repr__(self) -> str:
        return f"<{self._kind} {self.logName} {self._readyState} on {self.transport.name}>"

    @property
    def logName(self) -> str:
        """The session as it may stand in a log, where its id may not: anyone who knows that can take it over."""
        raise NotImplementedError

    @property
    def readyState(self) -> ReadyState:
        """C{opening}, C{open}, C{closing} or C{closed}."""
        return self._readyState

    @property
    def upgrading(self) -> bool:
        """Whether a WebSocket is trying to replace polling."""
        return self._upgradeState in (UpgradeState.PROBING, UpgradeState.PROBED)

    @property
    def upgraded(self) -> bool:
        """Whether the session has moved from polling to WebSocket."""
        return self._upgradeState is UpgradeState.DONE

    @property
    def writeBuffer(self) -> list[Packet]:
        """Packets that the transport hasn't taken yet; on C{close}, those that it never will. To be read only."""
        return [] if self._outbox is None else self._outbox.packets

    @property
    def bufferedAmount(self) -> int:
        """How many bytes wait for the client: of messages in the buffer, and those that its connection hasn't taken."""
        transport: Any = self.transport
        amount: int = transport.bufferedAmount
        return amount if self._outbox is None else amount + self._outbox.size

    @property
    def heldBytes(self) -> int:
        """
        How many bytes the client sent that the application hasn't got yet.

        They are of a message or a POST that isn't complete, wait for their turn, or are held while receiving is paused.
        What is compressed counts as it came.
        """
        transport: Any = self.transport
        amount: int = transport.heldBytes
        if self._inbox is not None:
            amount += self._inbox.heldBytes
        if self._upgrade is not None:
            amount += self._upgrade.candidate.heldBytes
        return amount

    @property
    def writable(self) -> bool:
        """
        Whether a message sent now goes out without waiting for the client.

        Once this was False, the event C{drain} says when it is True again.
        """
        isWritable = self.isDrained
        if not isWritable and self._readyState is not _CLOSED:
            self._neededOutbox().isAwaited = True
        return isWritable

    @property
    def isDrained(self) -> bool:
        """Whether a message sent now goes out without waiting for the client. Unlike L{writable} this only looks."""
        isEmpty = self._outbox is None or not self._outbox.packets
        transport: Any = self.transport
        return self._readyState is _OPEN and isEmpty and bool(transport.writable)

    def send(  # type: ignore[override]
        self, data: Message, callback: SendCallback | None = None, *, compress: bool = True
    ) -> Self:
        """
        Send a message. It waits in the buffer until the transport can take it. After L{Socket.close} this does nothing.

        Causes the events C{packetCreate}, and then or later C{flush} and C{drain}. A message that would have to wait
        with more than C{maxBufferedPackets} and C{maxBufferedBytes} allow isn't sent: by C{bufferLimitAction} the
        session ends with C{buffer limit exceeded}, or the callback is told, or this raises.

        @param data: text as str; binary as bytes, bytearray, memoryview or array, copied at once. Numbers, and objects
            of classes with a C{__str__} of their own, are sent as text.
        @param callback: called with the transport when it has taken the message, in the order of sending; or at once
            with a L{BufferLimitExceeded}, if the message is dropped; otherwise never for one that wasn't sent.
        @param compress: whether the message may be compressed.
        @return: this socket.
        @raise TypeError: the data is something else, such as None, a bool or a dict; or the callback can't be called.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
        @raise BufferLimitExceeded: more is buffered than may be, and C{bufferLimitAction} is C{"raise"}.
        """
        message, utf8 = messageOf(data)
        if self._readyState is _OPEN:
            transport: Any = self.transport
            if (
                self._outbox is None
                and callback is None
                and not self._hasSendListeners
                and not self._host.server._hasSendListeners
                and transport.writable
            ):
                # Nearly always. By the outbox it comes to the same, as nobody is told anything.
                transport.sendMessage(message, utf8, compress)
            else:
                checkCallback(callback)
                self._neededOutbox().send((Packet(_MESSAGE, message, compress),), callback)
        if self._pace is not None:
            self._pace.wrote()
        return self

    write = send

    def sendAll(
        self, messages: Sequence[Message], callback: SendCallback | None = None, *, compress: bool = True
    ) -> Self:
        """
        Send several messages that belong together: all of them or none, with no other message in between.

        As L{send} otherwise. If they have to wait, and would exceed C{maxBufferedPackets} or C{maxBufferedBytes}
        together, all are refused, once.

        @param messages: a list or tuple; each as for L{send}. Of none nothing is sent, and the callback isn't called.
        @param callback: called when the transport has taken all of them, or with why none is sent.
        @param compress: whether they may be compressed.
        @return: this socket.
        @raise TypeError: one can't be sent; what is given is no list or tuple; or the callback can't be called.
        @raise ValueError: a text holds a lone surrogate, which no encoding can carry.
        @raise BufferLimitExceeded: as for L{send}. None is sent.
        """
        made = messagesOf(messages)
        if made and self._readyState is _OPEN:
            transport: Any = self.transport
            if (
                self._outbox is None
                and callback is None
                and not self._hasSendListeners
                and not self._host.server._hasSendListeners
                and transport.writable
                and not transport.isPolled
                and self._resumption is None
            ):
                for index, (message, utf8) in enumerate(made):
                    if index and not transport.writable:
                        # No limit parts them.
                        self._neededOutbox().put([Packet(_MESSAGE, each, compress) for each, _ in made[index:]])
                        break
                    transport.sendMessage(message, utf8, compress)
            else:
                checkCallback(callback)
                self._neededOutbox().send([Packet(_MESSAGE, each, compress) for each, _ in made], callback)
        if self._pace is not None:
            self._pace.wrote()
        return self

    def _closeBy(self, discard: bool, reason: CloseReason, description: str | None) -> None:
        """Close the session, as L{Socket.close} says."""
        closing = self._closedHere
        if reason is not CloseReason.FORCED_CLOSE or description is not None:
            closing = closingFor(reason, closing.description if description is None else description)
        if not discard:
            self._close(closing)
            return
        needRoom()
        if self._outbox is not None:
            self._outbox.clear()
        self._end(closing)

    def pauseReceiving(self) -> None:
        """
        Hold the client back: nothing that it sends is read, and no message is emitted, until L{resumeReceiving}.

        What has come already is held as it came, neither inflated nor decoded: the rest of what was read at once, or of
        one POST, whose answer waits too. L{heldBytes} counts it. It is delivered in order when receiving goes on, even
        if the client has left meanwhile. It is dropped if the server ends the session. Heartbeats go on, but no pong is
        expected: C{pingTimeout} counts the time in which receiving goes on.

        If a handler of a message calls this, the other events of that message are still emitted, and no other message.
        Does nothing a second time, and on a session that isn't open.
        """
        inbox = self._inbox
        if not self._isReceiving or (inbox is not None and inbox.isPaused):
            return
        if inbox is None:
            self._inbox = Inbox(self, isPaused=True)
            self._host.heartbeats.pause(self)
            transport: Any = self.transport
            transport.pauseReceiving()
        else:
            self._host.heartbeats.pause(self)
            inbox.pause()

    @property
    def _isReceiving(self) -> bool:
        """Whether what the client sends reaches the application; while the server is drained it still does."""
        if self._readyState is _OPEN:
            return True
        return self._readyState is ReadyState.CLOSING and self._ending is not None and self._ending.isDrain

    def resumeReceiving(self) -> None:
        """
        Go on after L{pauseReceiving}: deliver what is held, in the next turns of the reactor, and read more.

        Without a pause this does nothing.
        """
        if self._inbox is not None:
            self._inbox.resume()

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write to this socket at the pace of the client: each C{write} is a message.

        A push producer is paused while more than 64 KiB are buffered that the client doesn't take, and resumed when
        nothing is. A pull producer is asked for more in a turn of the reactor after it has written, while there is
        room. When the session ends, or begins to close, the producer is told to stop.

        @param producer: an C{IPushProducer}, or, if not C{streaming}, an C{IPullProducer} such as
            L{twisted.protocols.basic.FileSender}.
        @raise RuntimeError: there is one already.
        """
        if self._pace is not None:
            known = self._pace.producer
            raise RuntimeError(f"{producer!r} can't be registered: {known!r} is, and never was unregistered")
        if self._readyState is not _OPEN:
            self._callHandler("producer", producer.stopProducing)
            return
        self._pace = Pace(self, producer, streaming)
        self._pace.wrote()

    def unregisterProducer(self) -> None:
        """Let go of the producer, if there is one. The session goes on."""
        pace, self._pace = self._pace, None
        if pace is not None:
            pace.leave()

    def _neededOutbox(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self)
        return self._outbox

    # The end

    def _close(self, closing: Closing, isDrain: bool = False) -> None:
        """
        Begin to close an open session.

        @param isDrain: as of L{Ending}.
        """
        needRoom()
        if isSuspended(self):
            # Nobody is there who could take anything.
            self._end(closing)
        elif self._step(Input.CLOSE):
            ending = self._endingFor(closing)
            ending.isDrain = isDrain
            if hasRoom():
                ending.begin()
            else:
                ends = self._host.ends
                ends.add(self, (_beginEnding,))
                ends.run()

    def _end(self, closing: Closing) -> None:
        """
        End the session, whatever the reason: the one place that does.

        The session is closed, and out of the table, when this returns. The steps that are left follow at once, or, if
        another session is ending, behind the end of that.

        @raise RecursionError: the stack is full. The session is as before.
        """
        needRoom()
        if self._step(Input.END):
            self._endingFor(closing).run()

    def _endingFor(self, closing: Closing) -> Ending:
        if self._ending is None:
            self._ending = Ending(self, closing)
        else:
            self._ending.closing = closing
        return self._ending

    def _step(self, given: Input) -> bool:
        return change(self, "_readyState", given)

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, and emit it as C{error}."""
        with suppress(BaseException):
            self._log.failure(
                "Handler of {event} of session {session} failed", failure, event=event, session=self.logName
            )
        if event != "error":
            self.emit("error", failure.value)
