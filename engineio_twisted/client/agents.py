"""
What sends the requests of polling: an agent with connections of its own, or that of the application's.

Each session has its own connections, at most two at a time, so that nothing of one is left when it is over.
"""

from __future__ import annotations

from collections.abc import Hashable
from socket import MSG_PEEK, socket
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamClientEndpoint, ISystemHandle
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from ..clock import cancel
from ..ends import CLOSE_TIMEOUT, attempt
from .connecting import Connecting
from .errors import ConnectionFailed, FailureType

WITHOUT_TLS = 'https: needs TLS, which is not installed: pip install "engineio_twisted[tls]"'
"""The description of the failure if pyOpenSSL is missing."""

IDLE_TIMEOUT = 3
"""
Seconds for which a connection is kept that nothing is sent on.

Many servers close one after five. No request is repeated, as it may have reached the server: one that is sent at that
moment would be lost, and its session with it.
"""

HEAD_SIZE = 65_536
"""Bytes that the head of a response may have, and what is before it."""


def endpointOf(connecting: Connecting) -> IStreamClientEndpoint:
    """
    Return the endpoint by which each connection to the server is made, with TLS if the URL asks for that.

    @raise ConnectionFailed: it does, and there is none.
    """
    opts, address = connecting.opts, connecting.address
    endpoint = opts.endpoint
    if endpoint is None:
        kind = _kindOf(address.host)
        endpoint = kind(connecting.reactor, address.host, address.port, timeout=opts.connectTimeout / 1000)
    if address.isSecure:
        try:
            policy = BrowserLikePolicyForHTTPS() if opts.contextFactory is None else opts.contextFactory
            creator = policy.creatorForNetloc(address.host.encode("ascii"), address.port)
            endpoint = wrapClientTLS(creator, endpoint)
        except NotImplementedError:
            raise ConnectionFailed(FailureType.TLS, WITHOUT_TLS) from None
    return endpoint  # type: ignore[no-any-return]


def _kindOf(host: str) -> Any:
    """Return the class of the endpoint for a host. That for names looks up IP addresses too, in a thread."""
    if isIPAddress(host):
        return TCP4ClientEndpoint
    return TCP6ClientEndpoint if isIPv6Address(host) else HostnameEndpoint


@implementer(IBodyProducer)
class BytesProducer:
    """The body of a request: bytes that are there."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: all was written."""

    def resumeProducing(self) -> None:
        """Do nothing: all was written."""

    def stopProducing(self) -> None:
        """Do nothing: all was written."""


class _Connection(ProtocolWrapper):
    """
    A connection of an agent: it is known while it is there, and bounded is what comes for one request.

    Twisted bounds the lines of a head, and not their number; chunks have heads, too.
    """

    transport: Any
    # None until something was sent.
    _received: int | None = None
    _reason: Failure | None = None
    # None if it has none, or none that can be looked at without waiting.
    _socket: socket | None = None

    def makeConnection(self, transport: Any) -> None:
        lowest = transport
        while (lower := getattr(lowest, "transport", None)) is not None:
            lowest = lower
        handle = lowest.getHandle() if ISystemHandle.providedBy(lowest) else None
        if isinstance(handle, socket) and not handle.getblocking():
            self._socket = handle
        super().makeConnection(transport)

    @property
    def isOver(self) -> bool:
        """
        Whether there is something to read while nothing was asked: that the server has closed it.

        A proxy that is reloaded does so behind a response that doesn't say it. What a request carries that is sent now
        would be lost.
        """
        # One that is new is none of them: with TLS there may be something to read.
        if self._received is None or self._socket is None:
            return False
        try:
            self._socket.recv(1, MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def write(self, data: bytes) -> None:
        self._received = 0
        self.transport.write(data)

    def writeSequence(self, data: Any) -> None:
        self._received = 0
        self.transport.writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        if self._reason is not None:
            return
        self._received = (self._received or 0) + len(data)
        limit = self.factory.agent.limit
        if self._received > limit:
            failure = ConnectionFailed(FailureType.TOO_LARGE, f"a response of more than {limit} bytes with its head")
            self._reason = Failure(failure)
            self.transport.abortConnection()
        else:
            self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(self._reason or reason)


class _Pool(HTTPConnectionPool):
    """The connections of an agent: none is used again that the server has closed."""

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        return super().getConnection(key, endpoint).addCallback(self._orAnother, key, endpoint)

    def _orAnother(self, connection: Any, key: Hashable, endpoint: IStreamClientEndpoint) -> Any:
        if not connection.transport.isOver:
            return connection
        connection.abort()
        return self.getConnection(key, endpoint)


class _Factory(WrappingFactory[_Connection]):
    """Makes one connection of an agent."""

    noisy = False
    protocol = _Connection

    def __init__(self, factory: IProtocolFactory, agent: SessionAgent) -> None:
        super().__init__(factory)
        self.agent = agent

    def registerProtocol(self, p: _Connection) -> None:
        self.agent.connectionMade(p)

    def unregisterProtocol(self, p: _Connection) -> None:
        self.agent.connectionLost(p)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects, and lets an agent know its connections."""

    def __init__(self, endpoint: IStreamClientEndpoint, agent: SessionAgent) -> None:
        self._endpoint = endpoint
        self._agent = agent

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        # That of Twisted's agent would log each connection.
        factory: Any = protocolFactory
        factory.noisy = False
        connected: Deferred[Any] = self._endpoint.connect(_Factory(factory, self._agent))
        return connected.addCallback(lambda wrapper: wrapper.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class _ForAll:
    """Takes the same endpoint for each request: making one takes time, with TLS a lot."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self._endpoint


class SessionAgent:
    """
    The agent of one session: Twisted's, with a pool of its own. It repeats no request.

    @ivar headers: what it adds to each request.
    @ivar limit: how many bytes a response may have with its head.
    @ivar connections: those that are there.
    @ivar written: the one that was written to last.
    @raise ConnectionFailed: the server is to be reached by TLS, and there is none.
    """

    def __init__(self, connecting: Connecting) -> None:
        self.headers: dict[str, str] = {"Host": connecting.address.netloc}
        self.limit: int = 2 * connecting.opts.maxHttpBufferSize + HEAD_SIZE
        self.connections: dict[_Connection, None] = {}
        self.written: _Connection | None = None
        self._clock = connecting.clock
        self._pool = _Pool(connecting.reactor)
        self._pool.retryAutomatically = False
        self._pool.cachedConnectionTimeout = IDLE_TIMEOUT
        endpoint = _Endpoint(endpointOf(connecting), self)
        self._agent = Agent.usingEndpointFactory(connecting.reactor, _ForAll(endpoint), self._pool)
        self._deadline: IDelayedCall | None = None
        self._isClosed = False
        self._closed: Deferred[None] | None = None

    def request(self, method: bytes, uri: bytes, headers: Headers, body: bytes | None) -> Deferred[IResponse]:
        """Send a request; the Deferred fires with an C{IResponse} or fails, and may be cancelled."""
        producer = None if body is None else BytesProducer(body)
        self.written = None
        result: Deferred[IResponse] = self._agent.request(method, uri, headers, producer)
        if self.written is not None:
            self.written.flush()
        return result

    def connectionMade(self, connection: _Connection) -> None:
        """Called when a connection is made, which may be too late: an endpoint need not be able to stop."""
        self.connections[connection] = None
        if self._isClosed:
            connection.transport.abortConnection()

    def connectionLost(self, connection: _Connection) -> None:
        """Called when a connection is lost."""
        self.connections.pop(connection, None)
        if self._closed is not None and not self.connections:
            self._leave()

    def abort(self) -> None:
        """Abort all connections. Each request that isn't answered fails, if it wasn't cancelled."""
        for each in tuple(self.connections):
            attempt(each.transport.abortConnection)

    def close(self) -> Deferred[None]:
        """
        Close all connections; to be called once, when no request is waited for any more.

        @return: a Deferred that fires when they are gone.
        """
        self._isClosed = True
        closed = self._closed = Deferred()
        self._pool.closeCachedConnections()
        if self.connections:
            # Over TLS the server has to say goodbye too.
            self._deadline = self._clock.callLater(CLOSE_TIMEOUT, self.abort)
        else:
            self._leave()
        return closed

    def _leave(self) -> None:
        # A connection may have come back to the pool as its response was read to the end.
        self._pool.closeCachedConnections()
        cancel(self._deadline)
        assert self._closed is not None
        closed, self._closed = self._closed, None
        closed.callback(None)


class GivenAgent:
    """
    An agent of the application's, used as it is.

    @param agent: an C{IAgent}.
    @ivar headers: what it adds to each request: nothing. One that follows redirects sends requests to other hosts.
    """

    def __init__(self, agent: Any) -> None:
        self.headers: dict[str, str] = {}
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Headers, body: bytes | None) -> Deferred[IResponse]:
        """Send a request; the Deferred fires with an C{IResponse} or fails, and may be cancelled."""
        producer = None if body is None else BytesProducer(body)
        result: Deferred[IResponse] = self._agent.request(method, uri, headers.copy(), producer)
        return result

    def abort(self) -> None:
        """Do nothing: its connections may be those of others."""

    def close(self) -> Deferred[None]:
        """Return a Deferred that has fired: the application closes the connections of its agent."""
        return succeed(None)


def agentFor(connecting: Connecting) -> SessionAgent | GivenAgent:
    """
    Return the agent of a session.

    @raise ConnectionFailed: the server is to be reached by TLS, and there is none.
    """
    agent = connecting.opts.agent
    return SessionAgent(connecting) if agent is None else GivenAgent(agent)
