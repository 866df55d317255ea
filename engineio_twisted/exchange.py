"""
What one process says to the others of the same application: nothing if it is the only one, and otherwise what its
server does with sessions that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from .clock import DeadlineQueue
from .interfaces import IServerExchange
from .observer import Counters
from .protocol.errors import DecodeError
from .protocol.remote_calls import Flags, Kind, RemoteCall, decodeCall, encodeCall
from .session.factory import SocketFactory
from .session.outbox import messagesOf

CHANNEL = "engineio"
"""The channel of a server's own frames."""

ANSWER_TIMEOUT = 10.0
"""Seconds until a call to a session of another process is taken for lost."""


def checkChannel(channel: str) -> None:
    """
    Make sure that text is the name of a channel.

    @raise ValueError: it isn't.
    """
    if not (isinstance(channel, str) and 1 <= len(channel) <= 255 and channel.isascii()):
        raise ValueError(f"channel {channel!r:.100}: expected 1 to 255 characters of ASCII")


@implementer(IServerExchange)
class LocalExchange:
    """The exchange of the only process there is: nobody else hears or says anything."""

    isConnected: bool = True
    number: int = 0
    peers: tuple[int, ...] = ()
    dropped: int = 0

    def __init__(self) -> None:
        self._channels: set[str] = set()

    def subscribe(self, channel: str, deliver: Callable[[int, bytes], object]) -> Callable[[], None]:
        checkChannel(channel)
        if channel in self._channels:
            raise ValueError(f"channel {channel!r} has a subscriber")
        self._channels.add(channel)
        return lambda: self._channels.discard(channel)

    def send(self, targets: Iterable[int] | None, channel: str, frame: bytes) -> None:
        pass

    def whenPeersChange(self, function: Callable[[], object]) -> Callable[[], None]:
        return lambda: None

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class RemoteSessions:
    """
    The sessions of a server in other processes, as far as this one sends to them and closes them, and what others want
    of those that are here.

    @param sessions: those that are here.
    @param exchange: what connects the processes, an L{IServerExchange}.
    @param ownerOf: returns the number of the process whose session an id is; None if it is nobody's.
    @ivar ignored: how many frames came that say nothing.
    """

    _log = Logger()
    ignored: int = 0

    def __init__(self, sessions: SocketFactory, exchange: Any, ownerOf: Callable[[str], int | None]) -> None:
        self._sessions = sessions
        self._counters: Counters = sessions.counters
        self._exchange = exchange
        self._ownerOf = ownerOf
        self._number = 0
        # The calls that aren't answered, each with the number of the process that has to.
        self._calls: dict[int, tuple[int, Deferred[bool]]] = {}
        self._deadlines = DeadlineQueue(sessions.clock, ANSWER_TIMEOUT, lambda number: self._over(number, False))
        exchange.subscribe(CHANNEL, self._received)
        exchange.whenPeersChange(self._peersChanged)

    def broadcast(
        self, messages: Sequence[str | bytes], exclude: Sequence[str], isCompressed: bool, isVolatile: bool
    ) -> None:
        """
        Send messages that belong together to every session elsewhere.

        @param exclude: ids of those that don't get them.
        @raise ValueError: they are too large. Nothing was sent.
        """
        flags = _flags(COMPRESSED=isCompressed, VOLATILE=isVolatile)
        peers = self._exchange.peers
        sids = tuple([each for each in exclude if self._ownerOf(each) in peers])
        call = RemoteCall(Kind.BROADCAST, flags, 0, sids, tuple(messages))
        self._exchange.send(None, CHANNEL, encodeCall(call))

    def sendTo(self, sid: str, data: object, isCompressed: bool) -> Deferred[bool]:
        """
        Send a message, or several, to a session that isn't here, as L{Server.sendTo} says.

        @raise ValueError: they are too large, or can't be encoded. Nothing was sent.
        @raise TypeError: one can't be sent.
        """
        messages = messagesOf(data if isinstance(data, list | tuple) else (data,))
        return self._call(Kind.SEND, _flags(COMPRESSED=isCompressed), sid, tuple([each for each, _ in messages]))

    def close(self, sid: str, discard: bool) -> Deferred[bool]:
        """Close a session that isn't here, as L{Server.closeSession} says."""
        return self._call(Kind.CLOSE, _flags(DISCARDED=discard), sid)

    def _call(self, kind: Kind, flags: Flags, sid: str, messages: tuple[str | bytes, ...] = ()) -> Deferred[bool]:
        owner = self._ownerOf(sid)
        if owner is None or owner not in self._exchange.peers:
            return succeed(False)
        self._number += 1
        number = self._number
        self._exchange.send((owner,), CHANNEL, encodeCall(RemoteCall(kind, flags, number, (sid,), messages)))
        result: Deferred[bool] = Deferred(lambda _: self._over(number, False))
        self._calls[number] = (owner, result)
        self._deadlines.add(number)
        return result

    def _over(self, number: int, isDone: bool) -> None:
        self._deadlines.remove(number)
        _, result = self._calls.pop(number)
        result.callback(isDone)

    def _peersChanged(self) -> None:
        peers = self._exchange.peers
        for number, (owner, _) in list(self._calls.items()):
            # One whose result is waited for may cancel another.
            if owner not in peers and number in self._calls:
                self._over(number, False)

    def _received(self, origin: int, frame: bytes) -> None:
        sessions = self._sessions
        try:
            call = decodeCall(frame)
        except DecodeError as error:
            self._ignore(origin, str(error))
            return
        isCompressed = Flags.COMPRESSED in call.flags
        match call.kind:
            case Kind.BROADCAST:
                messages = list(call.messages)
                sessions.broadcast(messages, call.sids, None, isCompressed, Flags.VOLATILE in call.flags)
            case Kind.SEND:
                self._answer(origin, call.number, sessions.sendTo(call.sids[0], list(call.messages), isCompressed))
            case Kind.CLOSE:
                isDone = sessions.closeSession(call.sids[0], Flags.DISCARDED in call.flags)
                self._answer(origin, call.number, isDone)
            case Kind.ANSWER:
                owner, _ = self._calls.get(call.number, (None, None))
                if owner == origin:
                    self._over(call.number, Flags.DONE in call.flags)
                elif owner is not None or not 1 <= call.number <= self._number:
                    self._ignore(origin, "an answer to what it wasn't asked")

    def _answer(self, origin: int, number: int, isDone: bool) -> None:
        answer = RemoteCall(Kind.ANSWER, _flags(DONE=isDone), number)
        self._exchange.send((origin,), CHANNEL, encodeCall(answer))

    def _ignore(self, origin: int, reason: str) -> None:
        self.ignored += 1
        if self._counters.throttle.allows("exchange"):
            self._log.warn("Process {number} sent what is ignored: {reason}", number=origin, reason=reason)


def _flags(**flags: object) -> Flags:
    """Return those flags whose values are true."""
    wanted = Flags(0)
    for name, value in flags.items():
        if value:
            wanted |= Flags[name]
    return wanted
