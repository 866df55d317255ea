"""
The control connection between the parent and a worker: messages of JSON over packets, with descriptors.

Each end of it is a L{Control}. A message has a kind and fields; one that is longer than a packet goes in pieces. A
question is a message that is answered. docs/architecture/workers.md, "Control".
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import cancel
from ..ends import attempt
from .handover import PacketConnection
from .interfaces import IPacketReceiver

PIECE = 64 * 1024
"""Bytes of a message in one packet, at most."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of a message: the connection with one that sends more is closed."""

CONTROL, PAGE, ACCESS_LOG, PORTS = range(3, 7)
"""
Descriptors that a worker inherits behind the three standard ones: the control connection, the shared page, the access
log, and, from the last number on, the listening sockets.
"""

MAX_QUEUED = 4096
"""Packets that wait for the other end, at most. No end sends so many, if it waits with what isn't needed."""

_MORE, _LAST = b"+", b"."


class ControlReceiver(Protocol):
    """What an end of a control connection tells."""

    def messageReceived(self, kind: str, fields: dict[str, Any], descriptors: list[int]) -> object:
        """
        Called with each message.

        @param descriptors: what came with it, which now belongs to the callee.
        @return: of a question the answer, which JSON can carry, or a Deferred of it.
        """
        ...

    def controlLost(self) -> None:
        """Called once when the other end is gone, or this one was closed."""
        ...


def controlPair() -> tuple[socket.socket, socket.socket]:
    """
    Return the sockets of a control connection, which no process inherits by itself.

    @raise OSError: there is no room for them.
    """
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Assembler:
    """Joins the pieces of messages."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, packet: bytes) -> dict[str, Any] | None:
        """
        Take a packet.

        @return: the message that it completes; None while pieces are missing.
        @raise ValueError: it is no piece of a message, or the message is too long.
        """
        mark, piece = packet[:1], packet[1:]
        self._pieces.append(piece)
        self._size += len(piece)
        if mark not in (_MORE, _LAST) or self._size > MAX_MESSAGE:
            raise ValueError("no message")
        if mark == _MORE:
            return None
        whole = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        message = json.loads(whole)
        if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
            raise ValueError("no message")
        return message


def packetsOf(message: dict[str, Any]) -> list[bytes]:
    """Return the packets of a message."""
    data = json.dumps(message, separators=(",", ":")).encode()
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return [*(_MORE + each for each in pieces[:-1]), _LAST + pieces[-1]]


@implementer(IPacketReceiver)
class Control:
    """
    One end of a control connection.

    @param reactor: the reactor.
    @param connection: the socket, which now belongs to this.
    @param receiver: what is told.
    @param clock: the clock for the deadlines of questions.
    @ivar isLost: whether nothing can be sent any more.
    """

    _log = Logger()
    isLost: bool = False

    def __init__(self, reactor: Any, connection: socket.socket, receiver: ControlReceiver, clock: IReactorTime) -> None:
        self._receiver = receiver
        self._clock = clock
        self._assembler = Assembler()
        self._asked = 0
        self._received = 0
        self._questions: dict[int, Deferred[Any]] = {}
        self._packets = PacketConnection(reactor, connection, self, MAX_QUEUED)

    @property
    def isFull(self) -> bool:
        """Whether so much waits to be sent that what isn't needed should not be sent now."""
        return bool(self._packets.isFull)

    def send(
        self,
        kind: str,
        fields: dict[str, Any] | None = None,
        descriptors: Sequence[int] = (),
        sent: Callable[[bool], object] | None = None,
    ) -> None:
        """
        Send a message.

        @param fields: what JSON can carry.
        @param descriptors: what goes with it; they stay the caller's, and have to stay open until C{sent} is called.
        @param sent: called once: whether the kernel has taken it.
        """
        if self.isLost:
            if sent is not None:
                sent(False)
            return
        *first, last = packetsOf({**(fields or {}), "kind": kind})
        for each in first:
            self._packets.send(each)
        self._packets.send(last, descriptors, sent)

    def give(self, kind: str, fields: dict[str, Any], descriptor: int) -> None:
        """Send a message with a descriptor, and close that here, whether or not it could be sent."""
        self.send(kind, fields, [descriptor], lambda _: os.close(descriptor))

    def ask(self, kind: str, fields: dict[str, Any] | None = None, *, timeout: float) -> Deferred[Any]:
        """
        Send a question.

        @param timeout: seconds until the answer has to be there.
        @return: a Deferred of the answer; L{CancelledError} if there is none in time, L{ConnectionDone} if the other
            end is gone.
        """
        if self.isLost:
            return fail(ConnectionDone())
        self._asked += 1
        number = self._asked
        answer: Deferred[Any] = Deferred()
        self._questions[number] = answer
        timer = self._clock.callLater(timeout, answer.cancel)

        def over(result: Any) -> Any:
            self._questions.pop(number, None)
            cancel(timer)
            return result

        answer.addBoth(over)
        self.send(kind, {**(fields or {}), "question": number})
        return answer

    def readAll(self) -> None:
        """Read what has come: of a process that has ended nothing more will."""
        before = -1
        while before != self._received and not self.isLost:
            before = self._received
            self._packets.doRead()

    def close(self) -> None:
        """Close it: the other end sees that, behind what was sent."""
        self._packets.close()
        self.packetsLost()

    def packetReceived(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Called with each packet."""
        self._received += 1
        try:
            message = self._assembler.feed(data)
        except (ValueError, RecursionError):
            _closeAll(descriptors)
            self._log.error("The control connection brought what is no message: it is closed")
            self.close()
            return
        if message is None:
            # Descriptors come with the last piece.
            _closeAll(descriptors)
            return
        kind = message.pop("kind")
        if kind == "answer":
            _closeAll(descriptors)
            self._answered(message)
            return
        question = message.pop("question", None)
        answer = maybeDeferred(self._receiver.messageReceived, kind, message, [*descriptors])
        if question is not None:
            answer.addCallback(lambda value: self.send("answer", {"question": question, "value": value}))
        answer.addErrback(self._failed, kind)

    def _failed(self, failure: Failure, kind: str) -> None:
        self._log.failure("The message {kind} failed", failure, kind=kind)

    def _answered(self, message: dict[str, Any]) -> None:
        waiting = self._questions.get(message.get("question", 0))
        if waiting is not None and not waiting.called:
            waiting.callback(message.get("value"))

    def packetsLost(self) -> None:
        """Called when the other end is gone."""
        if self.isLost:
            return
        self.isLost = True
        for each in [*self._questions.values()]:
            if not each.called:
                each.errback(ConnectionDone())
        attempt(self._receiver.controlLost)


def _closeAll(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        os.close(each)
