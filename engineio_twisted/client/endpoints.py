"""
Any Twisted protocol over a session with a server: an endpoint whose connections are sessions.

The other half of L{engineio_twisted.endpoints.SessionEndpoint}. docs/protocols.md;
`twisted/plugins/engineio_plugin.py` makes the description C{engineio:} known to C{clientFromString}.
"""

from __future__ import annotations

from typing import Any, Unpack

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from ..protocol.errors import OptionError
from ..session.streams import MESSAGE_SIZE, StreamTransport
from .address import Address, addressOf
from .client import Client
from .options import ClientKeywords, ClientOptions


@implementer(IAddress)
@attrs.frozen
class ChangingAddress:
    """The address of a client's own end: a session has several connections, one after the other."""


@implementer(IStreamClientEndpoint)
class ClientSessionEndpoint:
    """
    An endpoint by which any Twisted factory can connect. Each of its connections is a session, with a L{Client}.

    @param url: the URL of the server, as for L{Client}.
    @param text: whether what the protocol writes is sent as text, and so has to be UTF-8; else it is binary. What comes
        is taken either way.
    @param reactor: the reactor; by default the running one.
    @param options: of each client, as in L{ClientOptions}.
    @raise OptionError: the URL is wrong; an option is unknown, of a wrong type or out of range; or
        C{bufferLimitAction} isn't C{close}: a stream can't go on when something of it was left out.
    """

    def __init__(self, url: str, *, text: bool = False, reactor: Any = None, **options: Unpack[ClientKeywords]) -> None:
        if not isinstance(text, bool):
            raise OptionError("text", text, "expected True or False")
        known = ClientOptions(**options)
        if known.bufferLimitAction != "close":
            raise OptionError(
                "bufferLimitAction",
                known.bufferLimitAction,
                "expected close: a stream can't go on when something of it was left out",
            )
        self._address = addressOf(url, known.path, known.addTrailingSlash, known.query)
        self._url = url
        self._isText = text
        self._reactor = reactor
        self._options = options

    def __repr__(self) -> str:
        # ClientService logs it, and a query may hold a secret.
        return f"<ClientSessionEndpoint {self._address.origin}{self._address.path}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a session, and connect a protocol of a factory to it.

        @return: a Deferred of the protocol; of a L{ConnectionFailed}; or of what the factory, or C{makeConnection} of
            the protocol, raised, C{NoProtocol} if the factory returned None. Cancelling it closes what was begun.
        """
        client = Client(self._url, reactor=self._reactor, **self._options)
        protocolFactory.doStart()

        def build(_: Client) -> tuple[ClientSessionTransport, IProtocol]:
            transport = ClientSessionTransport(client, self._isText, self._address, protocolFactory)
            protocol = protocolFactory.buildProtocol(transport.getPeer())
            if protocol is None:
                raise NoProtocol
            return transport, protocol

        def giveUp(failure: Failure) -> Failure:
            client.close(discard=True)
            protocolFactory.doStop()
            return failure

        def begin(built: tuple[ClientSessionTransport, IProtocol]) -> IProtocol:
            transport, protocol = built
            transport.begin(protocol)
            return protocol

        return client.connect().addCallback(build).addErrback(giveUp).addCallback(begin)


@implementer(ITransport)
class ClientSessionTransport(StreamTransport):
    """
    A session of a client as the transport of a protocol.

    @ivar socket: the L{Client}.
    """

    socket: Client

    def __init__(self, socket: Client, isText: bool, address: Address, factory: IProtocolFactory) -> None:
        super().__init__(socket, isText)
        handshake = socket.handshake
        if handshake is not None and handshake.maxPayload is not None:
            # By polling base64 makes four bytes of three.
            self._messageSize = min(MESSAGE_SIZE, max(1, handshake.maxPayload // 4 * 3 - 3))
        self._address = address
        self._factory = factory

    def begin(self, protocol: IProtocol) -> None:
        """
        Connect a protocol.

        @raise Exception: what C{makeConnection} of the protocol raised. The session has ended.
        """
        super().begin(protocol)
        if self._failure is not None:
            self._failure.raiseException()

    def _lost(self, failure: Failure) -> None:
        try:
            super()._lost(failure)
        finally:
            self._factory.doStop()

    def getPeer(self) -> IAddress:
        """Return the address of the server, as the URL has it: an IP address, or the name of a host."""
        host, port = self._address.host, self._address.port
        if isIPAddress(host):
            return IPv4Address("TCP", host, port)
        if isIPv6Address(host):
            return IPv6Address("TCP", host, port)
        return HostnameAddress(host.encode(), port)

    def getHost(self) -> IAddress:
        """Return a L{ChangingAddress}, which says nothing."""
        return ChangingAddress()
