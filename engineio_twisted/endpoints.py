"""
Any Twisted protocol over Engine.IO: an endpoint whose connections are sessions.

A protocol gets a stream of bytes, as over TCP, whether a session is on polling or on WebSocket, and while it moves from
one to the other. docs/protocols.md; `twisted/plugins/engineio_plugin.py` makes the description C{engineio:} known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from .listening import listen
from .operation.settings import describedSessions, optionsFromText
from .protocol.errors import OptionError
from .protocol.options import OptionKeywords, ServerOptions
from .protocol.proxies import plainAddress
from .server import Server
from .session.socket import Socket
from .session.states import ReadyState
from .session.streams import MESSAGE_SIZE as MESSAGE_SIZE
from .session.streams import StreamTransport
from .web.descriptions import describedEndpoint


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


@implementer(ITransport)
class SessionTransport(StreamTransport):
    """
    A session of a server as the transport of a protocol.

    @ivar socket: the L{Socket}.
    """

    socket: Socket

    def begin(self, protocol: IProtocol) -> None:
        """Connect a protocol. Its server's end waits until the protocol was told of its own."""
        self.socket.server._streams.add(self)
        super().begin(protocol)

    def _lost(self, failure: Failure) -> None:
        try:
            super()._lost(failure)
        finally:
            self.socket.server._streams.remove(self)

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


def parse(reactor: Any, *args: str, **keywords: str) -> SessionEndpoint:
    r"""
    Return the endpoint of a description: C{engineio:tcp\:3000\:interface=127.0.0.1:path=/chat:pingInterval=5000}.

    @param args: the description of the endpoint on which the server listens, with its colons escaped.
    @param keywords: options of the server, as text; settings of an option with a dot, such as C{cookie.name=io}.
    @raise ValueError: there isn't one such description, or an option is wrong.
    """
    inner, isText, options = describedSessions(args, keywords)
    if len(inner) != 1:
        raise ValueError(r"expected engineio:tcp\:3000, with the colons of the other endpoint escaped")
    endpoint = describedEndpoint(reactor, inner[0])
    return SessionEndpoint(endpoint, text=isText, reactor=reactor, **optionsFromText(options))
