"""Connections through an HTTP proxy, by CONNECT (RFC 9110, 9.3.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import cancel, steadyClock
from ..ends import CLOSE_TIMEOUT
from ..protocol.errors import OptionError
from ..protocol.packet import excerpt
from ..transports.engine_opening import ResponseHead, bodyOf, readHead
from .errors import MAX_BODY, ConnectionFailed, FailureType
from .failures import failureOfResponse

HEAD_SIZE = 16_384
"""Bytes that the head of a proxy's response may have, and what is before it."""

_HOST = re.compile(r"[0-9A-Za-z.:_-]+")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def _failed(description: str, type_: FailureType = FailureType.PROXY) -> ConnectionFailed:
    return ConnectionFailed(type_, description)


class _Tunnel(Protocol):
    """
    A connection to a proxy, and then through it.

    @ivar opened: fires with the protocol at its end.
    """

    transport: Any
    # That protocol, and what waits for the rest of a refusal's body.
    _inner: Any = None
    _patience: IDelayedCall | None = None
    _refusal: ResponseHead | None = None

    def __init__(self, factory: _TunnelFactory) -> None:
        self._factory = factory
        self._received = bytearray()
        self.opened: Deferred[Any] = Deferred(self._cancelled)

    def connectionMade(self) -> None:
        self.transport.write(self._factory.request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.opened.called:
            # It failed, and the connection is being aborted.
            return
        self._received += data
        if self._refusal is None:
            self._readHead()
        if self._refusal is not None and (self._body()[1] or len(self._received) > HEAD_SIZE):
            self._refuse()

    def _readHead(self) -> None:
        status = 100
        # What is informational is followed by another head.
        while 100 <= status < 200:
            if not self._received.startswith(b"HTTP/"[: len(self._received)]):
                self._fail(_failed(f"the proxy's response isn't HTTP: {excerpt(bytes(self._received[:40]))}"))
                return
            raw, end, rest = self._received.partition(b"\r\n\r\n")
            if len(raw) > HEAD_SIZE:
                self._fail(_failed(f"the head of the proxy's response has more than {HEAD_SIZE} bytes"))
                return
            if not end:
                return
            head = readHead(bytes(raw))
            if head is None:
                self._fail(_failed(f"the proxy's response isn't HTTP: {excerpt(bytes(raw[:40]))}"))
                return
            status = head.status
            self._received = rest
        if 200 <= status < 300:
            self._open()
            return
        self._refusal = head
        self._patience = self._factory.clock.callLater(CLOSE_TIMEOUT, self._refuse)

    def _body(self) -> tuple[bytes, bool]:
        """Return what came of the body of a refusal, and whether that is all that is wanted."""
        assert self._refusal is not None
        return bodyOf(self._refusal, self._received, MAX_BODY)

    def _open(self) -> None:
        rest, self._received = bytes(self._received), bytearray()
        inner = self._factory.buildInner()
        if inner is None:
            self._fail(NoProtocol())
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self) -> None:
        assert self._refusal is not None
        failure = failureOfResponse(self._refusal.status, self._refusal.headers, self._body()[0])
        self._fail(ConnectionFailed(FailureType.PROXY, f"the proxy refused: {failure}", None, failure.response))

    def _fail(self, error: Exception) -> None:
        cancel(self._patience)
        if not self.opened.called:
            self.opened.errback(error)
        self.transport.abortConnection()

    def _cancelled(self, _: object) -> None:
        if self._refusal is not None:
            self._refuse()
        else:
            cancel(self._patience)
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        cancel(self._patience)
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif self._refusal is not None and not self.opened.called:
            self._refuse()
        elif not self.opened.called:
            self.opened.errback(_failed("the proxy closed the connection before it answered", FailureType.LOST))


class _TunnelFactory(Factory):
    """
    Makes a tunnel.

    @param factory: makes the protocol at its end.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, address: HostnameAddress, request: bytes, clock: Any) -> None:
        self._inner = factory
        self._address = address
        self.request = request
        self.clock = clock

    def doStart(self) -> None:
        super().doStart()
        self._inner.doStart()

    def doStop(self) -> None:
        super().doStop()
        self._inner.doStop()

    def buildProtocol(self, addr: Any) -> _Tunnel:
        return _Tunnel(self)

    def buildInner(self) -> Any:
        """Return the protocol at the end of the tunnel; None if there is to be none."""
        return self._inner.buildProtocol(self._address)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """
    Connects through an HTTP proxy, by CONNECT: an endpoint for the option C{endpoint} of a L{Client}.

    What the proxy answers otherwise than by a tunnel fails the connection with L{ConnectionFailed}, of the type
    C{proxy}, with the response: a 407 says how to authenticate.

    @param proxy: connects to the proxy; with TLS to it, wrapped by C{wrapClientTLS}.
    @param host: the name or the IP address that the proxy connects to.
    @param port: the port.
    @param headers: of the request, such as C{Proxy-Authorization}.
    @param timeout: milliseconds that it may take, the connection to the proxy included.
    @param reactor: has the time; by default the running reactor.
    @raise OptionError: one of these can't be.
    """

    def __init__(
        self,
        proxy: IStreamClientEndpoint,
        host: str,
        port: int,
        headers: Mapping[str, str] | None = None,
        timeout: int = 20000,
        *,
        reactor: Any = None,
    ) -> None:
        if not IStreamClientEndpoint.providedBy(proxy):
            raise OptionError("proxy", proxy, "expected an IStreamClientEndpoint, such as HostnameEndpoint")
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise OptionError("host", host, "expected a name in ASCII or an IP address without brackets")
        if type(port) is not int or not 0 < port < 65536:
            raise OptionError("port", port, "expected a port from 1 to 65535")
        if type(timeout) is not int or timeout <= 0:
            raise OptionError("timeout", timeout, "expected milliseconds, a whole number above 0")
        given = {} if headers is None else {**headers}
        for name, value in given.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise OptionError("headers", name, "expected the name of a header")
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                # The value may be a secret.
                raise OptionError("headers", name, "expected its value as text of one line in Latin-1")
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1"]
        if "host" not in {name.lower() for name in given}:
            lines.append(f"Host: {where}")
        lines += [f"{name}: {value}" for name, value in given.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._proxy = proxy
        self._address = HostnameAddress(host.encode("ascii"), port)
        self._timeout = timeout
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Open a tunnel.

        @return: a Deferred of the protocol at its end; or of what the proxy's endpoint fails with, or of a
            L{ConnectionFailed}.
        """
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor
        clock = steadyClock(reactor)
        factory = _TunnelFactory(protocolFactory, self._address, self._request, clock)
        tunnel: Deferred[Any] = self._proxy.connect(factory)
        tunnel.addCallback(lambda made: made.opened)
        tunnel.addTimeout(self._timeout / 1000, clock, self._late)
        return tunnel

    def _late(self, result: Any, seconds: float) -> Any:
        if isinstance(result, Failure) and result.check(ConnectionFailed):
            return result
        return Failure(_failed(f"the proxy opened no tunnel within {self._timeout} ms", FailureType.TIMEOUT))
