"""What a session sees of a transport, what a transport sees of its session, and the little that transports share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, AnyStr, ClassVar, Generic, Protocol, TypeVar

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http_headers import Headers
from zope.interface import Attribute, Interface

from .ends import attempt
from .errors import CloseReason
from .observer import Counters
from .packet import Packet
from .payload import Codec

try:
    import fcntl
    import termios
except ImportError:
    # Not on Windows.
    fcntl = None  # type: ignore[assignment]

CLOSE_TIMEOUT = 3.0
"""
Seconds from the end of a connection, as far as we are concerned, until it is cut.

Time for a slow network to carry a last answer or a close frame; a client that has gone, or doesn't read, or, over TLS,
doesn't say goodbye, must not keep a socket open.
"""

UNREAD_TIMEOUT = 60_000
"""
Milliseconds after which a connection, or a stream of HTTP/2, is cut whose client takes nothing of a response, or less
than L{UNREAD_PROGRESS} bytes.

As long as it takes more the response goes on, however slow that is.
"""


SHOWN_OF_ID = 6
"""Characters of a session id that may stand in a log: whoever knows all of it can take the session over."""


def beginningOfId(sid: AnyStr, prefix: AnyStr) -> AnyStr:
    """
    Return what of a session id may stand in a log: its first characters, of a short one the first half.

    @param prefix: what ids begin with that is no secret.
    """
    known = len(prefix) if sid.startswith(prefix) else 0
    return sid[: known + min(SHOWN_OF_ID, (len(sid) - known) // 2)]


class ITransport(Interface):
    """
    How packets get from a session to its client.

    A transport turns packets into bytes with the codec of its client's revision. It knows nothing of sessions but
    what L{ITransportOwner} says, and its owner knows nothing of bytes.
    """

    name = Attribute("Its name, as in the query: polling or websocket.")
    writable = Attribute("Whether it can take packets now.")
    takesAll = Attribute("Whether, where it takes packets, it takes all that there are, and is not writable any more.")
    bufferedAmount = Attribute("How many bytes of what it took its connections have not given to the system.")
    arriving = Attribute("What changes with all that comes of a message that isn't complete; None if there is none.")
    heldBytes = Attribute("How many bytes the client sent that the owner hasn't got, incomplete ones included.")
    isDelivering = Attribute("Whether packets that came wait: for receiving to go on, or for a later turn.")
    owner = Attribute("The L{ITransportOwner} it tells what happens. Set before anything can happen.")

    def send(packets: Sequence[Packet]) -> int:
        """
        Send packets, of at least one, the first of them at least. Only while writable.

        @return: how many were taken: those that come first. It isn't writable any more where that isn't all.
        """

    def sendMessage(data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        """
        Send a message, as L{send} sends a packet with it.

        @param utf8: text beyond ASCII in UTF-8, where that is at hand.
        """

    def close(packets: Sequence[Packet] = (), reason: CloseReason | None = None, deadline: float = 0.0) -> int:
        """
        Send packets as far as writable, tell the client that this is the end, and let go of the client.

        Doing it again does nothing, and the owner isn't told of what it did itself.

        @param reason: why, where it is the session that ends.
        @param deadline: the time by which the client has to take what it is sent, on a connection that is the
            transport's own; it isn't sooner than in L{CLOSE_TIMEOUT} seconds.
        @return: how many of the packets were taken.
        """

    def abandon(reason: CloseReason) -> None:
        """Close, and leave a client that doesn't read no more than L{CLOSE_TIMEOUT} seconds to take what there is."""

    def discard() -> None:
        """Let go of the client without telling it of an end: its session goes on, on another transport."""

    def pauseReceiving() -> None:
        """
        Hold the client back: nothing more is read, and nothing delivered of what was, as far as that can be stopped.

        What has come is kept as it came; so is the end of the client, behind it.
        """

    def resumeReceiving(isDelivered: bool = True) -> None:
        """
        Go on: what is kept is delivered in a later turn of the reactor, and then reading goes on.

        @param isDelivered: whether what was given to the owner meanwhile has reached the application.
        """


class ITransportOwner(Interface):
    """What a transport may call on the session it belongs to."""

    logName = Attribute("What the session is called in a log, which its id isn't.")
    refusal = Attribute("Why packets of a POST aren't taken, as an L{HTTPRefusal}; None where the session closes.")

    def transportReady(transport: ITransport) -> None:
        """Learn that the transport has become writable."""

    def transportAnswers(transport: ITransport, request: Any) -> None:
        """Learn that a request is about to be answered: this is the last moment to change the answer's headers."""

    def transportPacket(transport: ITransport, packet: Packet) -> bool:
        """
        Take a packet from the client; never a close packet.

        @return: whether it was taken, which it isn't any more once the session is closing.
        """

    def transportMessage(transport: ITransport, data: str | bytes) -> bool:
        """Take a message from the client, as L{transportPacket} takes a packet with it."""

    def transportDelivered(transport: ITransport) -> None:
        """Called when everything that had to wait was delivered."""

    def transportClosed(transport: ITransport, reason: CloseReason, description: str) -> None:
        """Learn that the client has left, or broke the protocol, and why. The owner closes the transport."""


class Transport:
    """
    The base of the transports.

    @ivar codec: writes and reads packets in the revision of the client.
    @ivar supportsBinary: False where the client wants binary as base64.
    @ivar counters: where its packets and bytes are counted; by default counters of its own.
    """

    name: ClassVar[str]
    owner: Any = None

    def __init__(self, codec: Codec, supportsBinary: bool, counters: Counters | None = None) -> None:
        self.codec = codec
        self.supportsBinary = supportsBinary
        self.counters = Counters() if counters is None else counters


class Response(Protocol):
    """A L{twisted.web.server.Request}, as far as answering it goes."""

    def setResponseCode(self, code: int, message: bytes | None = None) -> None: ...
    def setHeader(self, name: bytes | str, value: bytes | str) -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


class AnswerHeaders(dict[str, str]):
    """
    Headers that many answers have, which nobody changes.

    @ivar lines: as they are written.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        written = Headers()
        for name, value in headers.items():
            written.setRawHeaders(name, [value])
        self.lines = writtenHeaders(written)


def writtenHeaders(headers: Headers) -> bytes:
    """Return the lines of headers."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values])


KNOWN_HEADERS = (b"accept-encoding", b"content-type", b"origin", b"user-agent")
"""Headers that are looked for in nearly each request."""


def headerValues(request: Any, name: bytes) -> Sequence[bytes]:
    """
    Return the values of a header of a request.

    @param name: one of L{KNOWN_HEADERS}.
    """
    # One of ours knows them, until somebody else asks.
    known: Mapping[bytes, Sequence[bytes]] | None = getattr(request, "knownHeaders", None)
    values: Sequence[bytes] = request.requestHeaders.getRawHeaders(name, ()) if known is None else known[name]
    return values


def headerOf(request: Any, name: bytes) -> str | None:
    """
    Return a header of a request, the last where there are several of the name; None without one.

    A client may send any bytes in one: each is a character here, where C{getHeader} expects UTF-8.
    """
    values = request.requestHeaders.getRawHeaders(name)
    return values[-1].decode("latin-1") if values else None


def respond(
    request: Response, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]
) -> None:
    """
    Answer a request.

    Finishing a request may serve the next one of its connection before this returns: callers change their state
    first and answer last.

    @param announce: called with the request when its headers are set, before they are written.
    """
    # One of ours has a shorter way.
    short = getattr(request, "respond", None)
    if short is not None and short(status, headers, body, announce):
        return
    request.setResponseCode(status)
    for name, value in headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(body)))
    announce(request)
    request.write(body)
    request.finish()


class Lazily:
    """
    An attribute of a class that each instance makes for itself, when it is first asked for it.

    C{functools.cached_property} does the same by way of C{__dict__}, which it thereby makes: that takes more time and
    memory than all else of a small object.

    @param make: makes it, of the instance.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        value = self._make(instance)
        setattr(instance, self._name, value)
        return value


class Derived:
    """
    An attribute of a class that is made each time it is asked for, unless an instance has one of its own.

    @param make: makes it, of the instance.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else self._make(instance)


class Watcher(Protocol):
    """Who is told of requests that are lost."""

    def requestLost(self, request: Any) -> None:
        """Learn that the connection of a request was lost before it was answered."""
        ...


def watch(request: Any, watcher: Watcher) -> None:
    """Have somebody told where a request is lost."""
    # One of ours has a shorter way.
    short = getattr(request, "watchedBy", None)
    if short is None:
        request.notifyFinish().addErrback(lambda _: watcher.requestLost(request))
    else:
        short(watcher)


class ResponseHeaders(MutableMapping[str, Any]):
    """
    The headers of an answer by name, whatever the case: text, or a list of text if there are several of a name.

    To set a name replaces its values. Only cookies stay: to set C{Set-Cookie} replaces cookies of the same name.

    @param headers: those that change with it.
    """

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str | list[str]:
        try:
            values = [each.decode("utf-8", "replace") for each in self._headers.getRawHeaders(name.encode(), ())]
        except ValueError:
            # It can't be a name.
            values = []
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else values

    def __setitem__(self, name: str, value: str | Sequence[str]) -> None:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
            raise TypeError(f"header {name}: {value!r}: expected text, or a list of text")
        if values:
            kept = self._otherCookies(values) if name.lower() == "set-cookie" else []
            self._headers.setRawHeaders(name, [*kept, *values])
        else:
            self._headers.removeHeader(name)

    def _otherCookies(self, cookies: Sequence[str]) -> list[str]:
        """Return the cookies that are set already and whose names none of some cookies has."""
        names = {_cookieName(each) for each in cookies}
        present = [each.decode("utf-8", "replace") for each in self._headers.getRawHeaders(b"set-cookie", ())]
        return [each for each in present if _cookieName(each) not in names]

    def add(self, name: str, value: str) -> None:
        """
        Add a value to those that a name has.

        @raise TypeError: the value isn't text.
        """
        if not isinstance(value, str):
            raise TypeError(f"header {name}: {value!r}: expected text")
        self._headers.addRawHeader(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._headers.removeHeader(name)

    def __iter__(self) -> Iterator[str]:
        return iter([name.decode("latin-1") for name, _ in self._headers.getAllRawHeaders()])

    def __len__(self) -> int:
        return len(list(self._headers.getAllRawHeaders()))

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)})"


def _cookieName(cookie: str) -> str:
    return cookie.partition("=")[0].strip()


def writeAtOnce(connection: Any, data: bytes) -> bool:
    """
    Write to a connection, and let the system have at once what it takes at once.

    Otherwise the reactor is asked to, which costs about twice what it takes to write. Only where that is the same: on
    a plain connection, without TLS, to which nothing is being written and which isn't closing.

    @return: whether the system has all of it.
    """
    if (
        isinstance(connection, tcp.Connection)
        and not connection.TLS
        and not connection.dataBuffer
        and not connection._tempDataBuffer
        and connection.connected
        and not connection.disconnecting
        and not connection._aborting
    ):
        try:
            taken = connection.socket.send(data)
        except OSError:
            # It takes nothing now; if that is because the connection is lost, the reactor is going to find out.
            taken = 0
        if taken == len(data):
            return True
        data = data[taken:]
    connection.write(data)
    return False


def unsent(connection: Any) -> int:
    """
    Return how many bytes that were written to a connection the system hasn't taken.

    What Twisted's own connections keep, with TLS and other wrappers around them, and its streams of HTTP/2; nothing is
    known of others.
    """
    amount = 0
    while isinstance(connection, ProtocolWrapper):
        # Of TLS: what waits for the client's part of a handshake, and what is written together.
        for each in getattr(connection, "_appSendBuffer", ()):
            amount += len(each)
        aggregator: Any = getattr(connection, "_aggregator", None)
        if isinstance(left := getattr(aggregator, "_bufferLeft", None), int):
            amount += aggregator.MAX_BUFFER_SIZE - left
        connection = connection.transport
    if isinstance(connection, FileDescriptor) and connection.connected:
        amount += len(connection.dataBuffer) - connection.offset + connection._tempDataLen
    elif isStream(connection):
        amount += connection.unsent
    return amount


def unread(connection: Any) -> int:
    """
    Return how many bytes that were written to a connection its client hasn't taken, as far as that is known.

    Those are L{unsent} ones, and those that the system has sent and that were not acknowledged, or could not send.
    """
    amount = unsent(connection)
    while isinstance(connection, ProtocolWrapper):
        connection = connection.transport
    if fcntl is not None and isinstance(connection, tcp.Connection) and connection.connected:
        queued = bytearray(4)
        # Not every system knows it of every kind of socket, and one that is closed has no descriptor.
        with suppress(OSError, ValueError):
            fcntl.ioctl(connection.socket, termios.TIOCOUTQ, queued)
        amount += int.from_bytes(queued, sys.byteorder)
    return amount


UNREAD_PROGRESS = 1024
"""Bytes that a client has to take, of what it was sent, in the time of an L{UnreadDeadline}; or all that there is."""

UNREAD_CHECKS = 4
"""How often an L{UnreadDeadline} looks in its time."""


class UnreadDeadline:
    """
    The deadline of a client that doesn't read what it is sent. What it takes moves the deadline.

    A timer looks L{UNREAD_CHECKS} times in the time, so the end may come up to one of these intervals later.

    @param callLater: of a reactor.
    @param seconds: the time without progress after which C{cut} is called.
    @param left: returns how many bytes the client hasn't taken, such as L{unread} of a connection.
    @param cut: called once, when the client has taken less than L{UNREAD_PROGRESS} bytes in the time.
    """

    def __init__(
        self,
        callLater: Callable[..., Cancellable],
        seconds: float,
        left: Callable[[], int],
        cut: Callable[[], object],
    ) -> None:
        self._callLater = callLater
        self._interval = seconds / UNREAD_CHECKS
        self._left = left
        self._cut = cut
        self._isFull = False
        self._written = 0
        self._taken = 0
        self._checks = 0
        self._call: Cancellable | None = None

    def begin(self, isFull: bool) -> None:
        """
        Begin to watch the client, unless that goes on.

        @param isFull: whether it goes on until L{drained} says otherwise, and not only until nothing is left.
        """
        self._isFull = isFull
        if self._call is None:
            self._written = 0
            self._progress(-self._left())
            self._call = self._callLater(self._interval, self._check)

    def wrote(self, size: int) -> None:
        """Count bytes that are written meanwhile: the client may take as many and leave the same amount."""
        self._written += size

    def drained(self) -> None:
        """Called when the connection has room again."""
        self._isFull = False
        self._checks = 0

    def stop(self) -> None:
        """Stop to watch."""
        cancel(self._call)
        self._call = None

    def _progress(self, taken: int) -> None:
        self._taken = taken
        self._checks = 0

    def _check(self) -> None:
        self._call = None
        left = self._left()
        if not self._isFull and not left:
            return
        taken = self._written - left
        if not self._taken <= taken < self._taken + UNREAD_PROGRESS:
            # Less than before is no progress, but nothing that can be compared: something else has written.
            self._progress(taken)
        else:
            self._checks += 1
        if self._checks >= UNREAD_CHECKS:
            self._cut()
            return
        self._call = self._callLater(self._interval, self._check)


def forgetUnsent(connection: Any) -> None:
    """Let go of what was written to a connection that is lost: a session keeps that with its first request."""
    while isinstance(connection, ProtocolWrapper):
        connection = connection.transport
    if isinstance(connection, FileDescriptor):
        connection.dataBuffer = b""
        connection._tempDataBuffer.clear()


def connectionOf(request: Any) -> Any:
    """Return what an answer to a request is written to: a connection, or a stream of HTTP/2."""
    connection = getattr(request.channel, "transport", None)
    return request.channel if connection is None else connection


def isStream(channel: Any) -> bool:
    """Tell whether what a request came on is a stream of HTTP/2, which shares its connection with others."""
    return getattr(channel, "streamID", None) is not None


class Cancellable(Protocol):
    """A timer."""

    def active(self) -> bool: ...
    def cancel(self) -> None: ...


def cancel(call: Cancellable | None) -> None:
    """Cancel a timer, if there is one and it hasn't run."""
    if call is not None and call.active():
        call.cancel()


ConnectionT = TypeVar("ConnectionT")


class Connections(Generic[ConnectionT]):
    """The connections of one kind that are open, and a way to wait until none is."""

    def __init__(self) -> None:
        self._open: set[ConnectionT] = set()
        self._waiting: list[Deferred[None]] = []

    def __iter__(self) -> Iterator[ConnectionT]:
        # A copy: whoever goes through them may close them.
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: ConnectionT) -> None:
        """Count a connection in."""
        self._open.add(connection)

    def remove(self, connection: ConnectionT) -> None:
        """Count a connection out; one that isn't in is no error."""
        self._open.discard(connection)
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def abort(self) -> None:
        """Abort every connection: each has an C{abort}."""
        for each in self:
            attempt(each.abort)  # type: ignore[attr-defined]

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when no connection is open."""
        deferred: Deferred[None] = Deferred()
        if self._open:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred
