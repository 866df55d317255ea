"""
Any Twisted protocol over Engine.IO: an endpoint whose connections are sessions.

A protocol gets a stream of bytes, as over TCP, whether a session is on polling or on WebSocket, and while it moves from
one to the other. docs/protocols.md; `twisted/plugins/engineio_plugin.py` makes the description C{engineio:} known.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Any, Unpack

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from .clock import cancel
from .listening import listen
from .operation.settings import optionsFromText
from .protocol.errors import CloseReason, OptionError
from .protocol.options import OptionKeywords, ServerOptions
from .protocol.proxies import plainAddress
from .server import Server
from .session.socket import Socket
from .session.states import ReadyState
from .web.descriptions import describedEndpoint

MESSAGE_SIZE = 65536
"""
Bytes of a message at most: what is written at once beyond that goes out as several.

That is as much as waits on a connection before a producer is paused. A client reads the next one only when it has all
of one, and may have a limit.
"""

_ORDERLY_ENDS = frozenset({CloseReason.FORCED_CLOSE, CloseReason.SERVER_SHUTTING_DOWN})


@implementer(IAddress)
@attrs.frozen
class PathAddress:
    """
    The address of sessions on a site of the application's: only their path is known.

    @ivar path: the path.
    """

    path: str


@implementer(IStreamServerEndpoint)
class SessionEndpoint:
    """
    An endpoint on which any Twisted factory can listen. Each of its connections is a session.

    @param endpoint: as for L{listen}, for a server of its own; or a L{Server}, of which all sessions are taken.
    @param text: whether what protocols write is sent as text, and so has to be UTF-8; else it is binary. What comes is
        taken either way.
    @param reactor: for a server of its own.
    @param options: of a server of its own, as in L{ServerOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range; or C{bufferLimitAction} isn't C{close}: a
        stream can't go on when something of it was left out.
    @raise TypeError: options are given with a server, which has its own.
    """

    def __init__(
        self,
        endpoint: int | str | IStreamServerEndpoint | Server,
        *,
        text: bool = False,
        reactor: Any = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        if isinstance(endpoint, Server) and (options or reactor is not None):
            given = [*options, *(() if reactor is None else ("reactor",))]
            raise TypeError(f"{', '.join(given)} given with a Server: expected them to be given to that")
        if not isinstance(text, bool):
            raise OptionError("text", text, "expected True or False")
        known = endpoint.opts if isinstance(endpoint, Server) else ServerOptions(**options)
        if known.bufferLimitAction != "close":
            raise OptionError(
                "bufferLimitAction",
                known.bufferLimitAction,
                "expected close: a stream can't go on when something of it was left out",
            )
        self._endpoint = endpoint
        self._isText = text
        self._reactor = reactor
        self._options = options

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Listen, and build a protocol of a factory for each session.

        @return: a Deferred of a L{SessionPort}; or of the reason why there is none, such as
            L{twisted.internet.error.CannotListenError}. Cancelling it closes what was begun.
        """
        if isinstance(self._endpoint, Server):
            port = SessionPort(self._endpoint, protocolFactory, self._isText)
            return maybeDeferred(_begun, port)
        try:
            server = listen(self._endpoint, reactor=self._reactor, **self._options)
        except ValueError:
            return fail()
        own = SessionPort(server, protocolFactory, self._isText, server.close)

        def giveUp(_: object) -> None:
            server.close()

        listening: Deferred[IListeningPort] = Deferred(giveUp)

        def begin(_: object) -> IListeningPort:
            try:
                return _begun(own)
            except BaseException:
                server.close()
                raise

        server.listening.addCallback(begin).chainDeferred(listening)
        return listening


@implementer(IListeningPort)
class SessionPort:
    """
    What sessions come in by, from its L{startListening} to its L{stopListening}; made by L{SessionEndpoint.listen}.

    @ivar server: the L{Server}.
    """

    def __init__(
        self,
        server: Server,
        factory: IProtocolFactory,
        isText: bool,
        close: Callable[..., Deferred[None]] | None = None,
    ) -> None:
        self.server = server
        self._factory = factory
        self._isText = isText
        self._close = close
        self._isListening = False
        self._stopped: Deferred[None] = succeed(None)
        # None if the server wasn't made by L{listen}.
        listening: Deferred[IListeningPort] | None = getattr(server, "listening", None)
        self._port: IListeningPort | None = None
        if listening is not None:
            listening.addCallback(self._foundPort)

    def _foundPort(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        return port

    def startListening(self) -> None:
        """
        Take the sessions of the server.

        @raise CannotListenError: somebody does already, or the server opens no sessions any more.
        """
        if any(
            isinstance(getattr(each, "__self__", None), SessionPort) for each in self.server.listeners("connection")
        ):
            raise CannotListenError(
                "engineio", self.server.opts.path, "another factory has the sessions of this server"
            )
        if self.server.whyNotReady in ("draining", "closing"):
            raise CannotListenError("engineio", self.server.opts.path, "the server is closing")
        self._factory.doStart()
        self.server.on("connection", self._connected)
        self._isListening = True

    def stopListening(self) -> Deferred[None]:
        """
        Take no more sessions.

        Those of a server of its own end, since polling needs the port: as by C{server.close(drain=True)} what was
        written goes out first. Those of another server go on, as connections do whose port is closed.

        @return: a Deferred that fires when that is done; each call gets one.
        """
        if self._isListening:
            self._isListening = False
            self.server.removeListener("connection", self._connected)
            stopped = succeed(None) if self._close is None else self._close(drain=True)
            self._stopped = stopped.addCallback(lambda _: self._factory.doStop())
        waiting: Deferred[None] = Deferred()
        # A failure goes to the first Deferred alone.
        self._stopped.addBoth(waiting.callback)
        return waiting

    def getHost(self) -> IAddress:
        """Return the address that is listened on; of a server on a site of the application's a L{PathAddress}."""
        if self._port is None:
            return PathAddress(self.server.opts.path)
        address: IAddress = self._port.getHost()
        return address

    def _connected(self, socket: Socket) -> None:
        if socket.readyState is not ReadyState.OPEN:
            # Another handler has closed it, and its end may have been announced already.
            return
        transport = SessionTransport(socket, self._isText)
        try:
            protocol = self._factory.buildProtocol(transport.getPeer())
        except BaseException:
            socket.handlerFailed("buildProtocol", (), Failure())
            transport.abortConnection()
            return
        if protocol is None:
            transport.loseConnection()
        else:
            transport.begin(protocol)


def _begun(port: SessionPort) -> IListeningPort:
    port.startListening()
    return port


@implementer(ITransport, IConsumer, IPushProducer)
class SessionTransport:
    """
    A session as the transport of a protocol.

    Its protocol calls this, and so do producers; its session does, with messages and with its end. Half of it can't be
    closed (C{IHalfCloseableProtocol}): a session has no end of one direction.

    @ivar socket: the L{Socket}.
    @ivar connected: whether the session lasts.
    @ivar disconnecting: whether it was to end, or has ended.
    """

    connected: bool = True
    disconnecting: bool = False
    _isAborted = False
    # There is a producer, which may write after loseConnection; it is one that is asked for more.
    _isProducing = False
    _isPulling = False
    _failure: Failure | None = None
    _resumption: IDelayedCall | None = None
    _closeCall: IDelayedCall | None = None
    _protocol: IProtocol

    def __init__(self, socket: Socket, isText: bool = False) -> None:
        self.socket = socket
        # A write may end in the middle of a character.
        self._decoder = getincrementaldecoder("utf-8")() if isText else None

    def begin(self, protocol: IProtocol) -> None:
        """Connect a protocol."""
        self._protocol = protocol
        self.socket.server._streams.add(self)
        self.socket.on("message", self._received)
        self.socket.on("close", self._closed)
        try:
            protocol.makeConnection(self)
        except BaseException:
            self._failed("makeConnection")

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send bytes: as one message, or, above 64 KiB, as several.

        After L{loseConnection}, and when the session has ended, this does nothing.

        @raise TypeError: it isn't bytes.
        @raise ValueError: it isn't UTF-8, although it is sent as text. That ends the session, as its stream has a gap.
        """
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        if not isinstance(data, bytes):
            raise TypeError(f"{type(data).__name__} can't be written: expected bytes")
        if self.disconnecting:
            if not self._isProducing:
                return
            self._closeSoon()
        size = MESSAGE_SIZE
        message: str | bytes = data
        if self._decoder is not None:
            try:
                message = self._decoder.decode(data)
            except ValueError:
                self._failed("write")
                raise
            if not message.isascii():
                # No character takes more than four bytes.
                size //= 4
        if len(data) <= MESSAGE_SIZE:
            # An empty message would be one.
            if message:
                self.socket.send(message)
            return
        for start in range(0, len(message), size):
            self.socket.send(message[start : start + size])

    def writeSequence(self, iovec: Any) -> None:
        """Send the bytes of several pieces, as L{write} does with one."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """
        End the session when what was written has gone out: what comes from here on isn't delivered.

        A producer is let finish first: it may write until it is unregistered. A pull producer may take as long as it
        likes; of a push producer, which may be one that never says that it is done, such as a connection that is lost
        itself, the end is also when all that it has written is taken, and it has written nothing more in a turn of the
        reactor.
        """
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self._isProducing:
                self._close()
            elif not self._isPulling:
                self.socket.on("drain", self._closeSoon)
                self._closeSoon()

    def _closeSoon(self) -> None:
        if self._isProducing and not self._isPulling:
            cancel(self._closeCall)
            # A producer that writes turn by turn may come behind this in each of them.
            self._closeCall = self.socket.callLater(0, self._closeInATurn)

    def _closeInATurn(self) -> None:
        self._closeCall = self.socket.callLater(0, self._closeIfDrained)

    def _closeIfDrained(self) -> None:
        # Asked so, the socket says when it is.
        if self.socket.writable:
            self._close()

    def _close(self) -> None:
        # It isn't cut short, whether it knows that or not.
        self._isProducing = self._isPulling = False
        if self._decoder is not None:
            try:
                self._decoder.decode(b"", True)
            except ValueError:
                # Of the last character there is only a part. What is before that goes out.
                self._failure = Failure()
                self.socket.handlerFailed("loseConnection", (), self._failure)
        self.socket.close()

    def abortConnection(self) -> None:
        """End the session at once; what hasn't gone out is dropped."""
        if self.connected:
            self.disconnecting = self._isAborted = True
            self.socket.close(discard=True)

    abort = abortConnection

    def getPeer(self) -> IAddress:
        """Return the address of the client; behind a trusted proxy it has the port 0, as nobody knows it."""
        request = self.socket.request
        connection: IAddress = request.getClientAddress()
        address = self.socket.remoteAddress
        if address is None or address == plainAddress(connection):
            return connection
        return (IPv6Address if ":" in address else IPv4Address)("TCP", address, 0)

    def getHost(self) -> IAddress:
        """Return the address that the client connected to."""
        host: IAddress = self.socket.request.getHost()
        return host

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let a producer write at the pace of the client (L{Socket.registerProducer}).

        @raise RuntimeError: there is one already.
        """
        self.socket.registerProducer(producer, streaming)
        self._isProducing = self.socket.readyState is ReadyState.OPEN
        self._isPulling = self._isProducing and not streaming

    def unregisterProducer(self) -> None:
        """Unregister the producer. A L{loseConnection} that waited for it goes on."""
        self._isProducing = self._isPulling = False
        self.socket.unregisterProducer()
        if self.disconnecting and self.connected:
            self._close()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Hold the client back: nothing is delivered until L{resumeProducing} (L{Socket.pauseReceiving})."""
        cancel(self._resumption)
        self.socket.pauseReceiving()

    def resumeProducing(self) -> None:
        """Deliver again what the client sends, in a turn of the reactor."""
        cancel(self._resumption)
        # Not at once: protocols that go on in the middle of what they do with a message count on not getting the next.
        self._resumption = self.socket.callLater(0, self.socket.resumeReceiving)

    def stopProducing(self) -> None:
        """Call L{loseConnection}."""
        self.loseConnection()

    # From the session

    def _received(self, data: str | bytes) -> None:
        if self.disconnecting:
            return
        try:
            self._protocol.dataReceived(data.encode() if isinstance(data, str) else data)
        except BaseException:
            self._failed("dataReceived")

    def _failed(self, method: str) -> None:
        self._failure = Failure()
        self.socket.handlerFailed(method, (), self._failure)
        self.abortConnection()

    def _closed(self, reason: CloseReason, description: str) -> None:
        self.connected, self.disconnecting = False, True
        failure = self._failure or Failure(self._endOf(reason, description))
        self._isProducing = self._isPulling = False
        # Never inside of what the protocol does, such as a write that is too much: no reactor calls back in there.
        self.socket.server.reactor.callLater(0, self._lost, failure)

    def _lost(self, failure: Failure) -> None:
        try:
            self._protocol.connectionLost(failure)
        except BaseException:
            self.socket.handlerFailed("connectionLost", (), Failure())
        finally:
            self.socket.server._streams.remove(self)

    def _endOf(self, reason: CloseReason, description: str) -> Exception:
        if self._isAborted:
            return ConnectionAborted()
        isOrderly = (
            # What a client that has gone left in the buffer never arrived; nor did what a producer was stopped in.
            not self.socket.writeBuffer and not self._isProducing
            if reason in _ORDERLY_ENDS
            else reason is CloseReason.TRANSPORT_CLOSE and description.startswith(("close packet", "close frame"))
        )
        return ConnectionDone() if isOrderly else ConnectionLost(f"{reason}: {description}")


def parse(reactor: Any, *args: str, text: str = "false", **keywords: str) -> SessionEndpoint:
    r"""
    Return the endpoint of a description: C{engineio:tcp\:3000\:interface=127.0.0.1:path=/chat:pingInterval=5000}.

    @param args: the description of the endpoint on which the server listens, with its colons escaped.
    @param keywords: options of the server, as text; settings of an option with a dot, such as C{cookie.name=io}.
    @raise ValueError: there isn't one such description, or an option is wrong.
    """
    # `quoteStringArgument` escapes only colons, so a description with an equals sign was split there.
    inner = [*args, *(f"{name}={value}" for name, value in keywords.items() if ":" in name)]
    if len(inner) != 1:
        raise ValueError(r"expected engineio:tcp\:3000, with the colons of the other endpoint escaped")
    if text not in ("true", "false"):
        raise OptionError("text", text, "expected true or false")
    options = optionsFromText({name: value for name, value in keywords.items() if ":" not in name})
    return SessionEndpoint(describedEndpoint(reactor, inner[0]), text=text == "true", reactor=reactor, **options)
