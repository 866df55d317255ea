"""Connections through an HTTP proxy, in literal bytes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import NoProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from engineio_twisted import OptionError
from engineio_twisted.client import Client, ConnectionFailed, TunnelEndpoint
from engineio_twisted.ends import CLOSE_TIMEOUT

from ..kit.client_servers import OPEN, MemoryServer, ScriptedServer, answer


class Proxy(ScriptedServer):
    """A proxy that says what it is told to, to whatever it is asked; behind its 200 it echoes."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self._said = said
        self.requests: list[bytes] = []

    def buildProtocol(self, addr: object) -> Protocol:
        proxy = self

        class End(Protocol):
            received = b""
            isLost = isOpen = False

            def connectionMade(self) -> None:
                proxy.peers.append(self)  # type: ignore[arg-type]

            def dataReceived(self, data: bytes) -> None:
                if self.isOpen:
                    self.transport.write(data.upper())  # type: ignore[union-attr]
                    return
                self.received += data
                if self.received.endswith(b"\r\n\r\n"):
                    proxy.requests.append(self.received)
                    self.isOpen = True
                    if proxy._said:
                        self.transport.write(proxy._said)  # type: ignore[union-attr]

            def connectionLost(self, reason: object = None) -> None:
                self.isLost = True

        return End()


class Inner(Protocol):
    """What is at the end of a tunnel."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def connectionLost(self, reason: object = None) -> None:
        self.events.append("lost")


class Tunnel:
    """A connection through a proxy."""

    def __init__(self, said: bytes, *, isReachable: bool = True, failure: Exception | None = None, **how: Any) -> None:
        self.proxy = Proxy(said)
        self.clock: Clock = self.proxy.clock
        self.server = MemoryServer(self.proxy)
        self.server.isReachable, self.server.failure = isReachable, failure
        given: Any = {"host": "server.test", "port": 443, **how}
        self.endpoint = TunnelEndpoint(self.server, reactor=self.clock, **given)
        self.inner = Inner()
        self.factory: Any = Factory.forProtocol(lambda: self.inner)  # type: ignore[arg-type]
        self.results: list[Any] = []

    def connect(self) -> Tunnel:
        self.deferred: Deferred[Any] = self.endpoint.connect(self.factory)
        self.deferred.addBoth(self.results.append)
        self.advance()
        return self

    def advance(self, seconds: float = 0.01) -> None:
        self.server.network.advance(seconds)

    @property
    def failure(self) -> Any:
        [result] = self.results
        return result.value

    def assertGone(self) -> None:
        self.advance()
        assert all(each.isLost for each in self.proxy.peers)
        assert self.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("how", "request_"),
    [
        ({}, b"CONNECT server.test:443 HTTP/1.1\r\nHost: server.test:443\r\n\r\n"),
        ({"host": "::1", "port": 80}, b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        (
            {"headers": {"Proxy-Authorization": "Basic é"}},
            b"CONNECT server.test:443 HTTP/1.1\r\nHost: server.test:443\r\nProxy-Authorization: Basic \xe9\r\n\r\n",
        ),
        ({"headers": {"host": "x"}}, b"CONNECT server.test:443 HTTP/1.1\r\nhost: x\r\n\r\n"),
    ],
)
def test_opens(how: dict[str, Any], request_: bytes) -> None:
    """The proxy is asked in the bytes of the protocol; then the connection is the application's, to its end."""
    tunnel = Tunnel(b"HTTP/1.1 200 Connection established\r\n\r\n", **how).connect()
    assert tunnel.proxy.requests == [request_]
    assert tunnel.results == [tunnel.inner]
    tunnel.inner.transport.write(b"hello")
    tunnel.advance()
    assert tunnel.inner.events == ["made", b"HELLO"]
    tunnel.inner.transport.loseConnection()
    tunnel.assertGone()
    assert tunnel.inner.events == ["made", b"HELLO", "lost"]


@pytest.mark.parametrize("status", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 299 Whatever"])
def test_behindTheHead(status: bytes) -> None:
    """What comes behind the head, whatever headers that has, isn't lost, nor is the end."""
    tunnel = Tunnel(b"HTTP/1.1 100 Continue\r\n\r\n" + status + b"\r\nX: y\r\nContent-Length: 3\r\n\r\nfirst").connect()
    assert tunnel.inner.events == ["made", b"first"]
    tunnel.proxy.peer.transport.loseConnection()
    tunnel.assertGone()
    assert tunnel.inner.events == ["made", b"first", "lost"]


def test_headInPieces() -> None:
    """However the head comes."""
    tunnel = Tunnel(b"").connect()
    for each in b"HTTP/1.1 200 OK\r\nVia: me\r\n\r\nx":
        tunnel.proxy.peer.transport.write(bytes([each]))
        tunnel.advance()
    assert tunnel.inner.events == ["made", b"x"]
    tunnel.inner.transport.abortConnection()
    tunnel.assertGone()


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (
            answer(b"who are you?", "407 Proxy Authentication Required", "Proxy-Authenticate: Basic"),
            407,
            b"who are you?",
        ),
        (answer(b"x" * 10_000, "403 Forbidden"), 403, b"x" * 4096),
        (answer(b"", "502 Bad Gateway"), 502, b""),
        (b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nRetry-After: 7\r\n\r\n1\r\nx\r\n0\r\n\r\n", 503, b"x"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.test/\r\nContent-Length: 0\r\n\r\n", 302, b""),
    ],
)
def test_refused(said: bytes, status: int, body: bytes) -> None:
    """Another status is a failure of the proxy, with its response, as much of it as is kept."""
    tunnel = Tunnel(said).connect()
    failure = tunnel.failure
    assert isinstance(failure, ConnectionFailed)
    assert failure.type == "proxy"
    assert str(status) in failure.description
    assert failure.response is not None
    assert (failure.response.status, failure.response.body) == (status, body)
    if status == 407:
        assert failure.response.headers.getRawHeaders("proxy-authenticate") == ["Basic"]
    if status == 503:
        assert failure.response.retryAfter == 7
    assert tunnel.inner.events == []
    tunnel.assertGone()


@pytest.mark.parametrize("isClosed", [True, False])
def test_refusedWithoutLength(isClosed: bool) -> None:
    """A body that says no length is read until the connection is closed, or for a moment."""
    tunnel = Tunnel(b"HTTP/1.1 403 Forbidden\r\n\r\nno").connect()
    assert tunnel.results == []
    if isClosed:
        tunnel.proxy.peer.transport.loseConnection()
        tunnel.advance()
    else:
        tunnel.advance(CLOSE_TIMEOUT)
    assert (tunnel.failure.type, tunnel.failure.response.body) == ("proxy", b"no")
    tunnel.assertGone()


@pytest.mark.parametrize(
    ("said", "description"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "isn't HTTP: b'SSH-2.0-OpenSSH"),
        (b"HTTP/2 200 OK\r\n\r\n", "isn't HTTP"),
        (b"\r\n\r\n", "isn't HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000, "more than 16384 bytes"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", "more than 16384 bytes"),
    ],
)
def test_noResponse(said: bytes, description: str) -> None:
    """What isn't a response of a proxy, or has no end, is told as such."""
    tunnel = Tunnel(said).connect()
    assert tunnel.failure.type == "proxy"
    assert description in tunnel.failure.description
    tunnel.assertGone()


def test_closedBefore() -> None:
    """A proxy that closes the connection before it has answered."""
    tunnel = Tunnel(b"HTTP/1.1 20").connect()
    tunnel.proxy.peer.transport.loseConnection()
    tunnel.advance()
    assert (tunnel.failure.type, "before it answered" in tunnel.failure.description) == ("lost", True)
    tunnel.assertGone()


@pytest.mark.parametrize("isReachable", [True, False])
def test_deadline(isReachable: bool) -> None:
    """One deadline for all: the connection to the proxy, and its response, however slowly that comes."""
    tunnel = Tunnel(b"", isReachable=isReachable, timeout=1500).connect()
    for each in b"HTTP/1.1 100":
        if isReachable:
            tunnel.proxy.peer.transport.write(bytes([each]))
        tunnel.advance(0.12)
    assert tunnel.results == []
    tunnel.advance(0.1)
    failure = tunnel.failure
    assert (failure.type, failure.description) == ("timeout", "the proxy opened no tunnel within 1500 ms")
    assert tunnel.server.waiting == 0
    tunnel.assertGone()


def test_deadlineOfARefusal() -> None:
    """A refusal whose body is late is still told as one."""
    tunnel = Tunnel(b"HTTP/1.1 407 No\r\nContent-Length: 100\r\n\r\nbut", timeout=1000).connect()
    tunnel.advance(1)
    assert (tunnel.failure.type, tunnel.failure.response.body) == ("proxy", b"but")
    tunnel.assertGone()


def test_cancelled() -> None:
    """The Deferred of a tunnel can be cancelled in each phase."""
    for isReachable in (True, False):
        tunnel = Tunnel(b"", isReachable=isReachable).connect()
        tunnel.deferred.cancel()
        assert isinstance(tunnel.failure, CancelledError)
        tunnel.assertGone()


def test_unreachable() -> None:
    """What the endpoint of the proxy fails with."""
    tunnel = Tunnel(b"", failure=Refused()).connect()
    assert isinstance(tunnel.failure, Refused)
    tunnel.assertGone()


def test_noProtocol() -> None:
    """A factory that wants no connection gets none."""
    tunnel = Tunnel(b"HTTP/1.1 200 OK\r\n\r\n")
    tunnel.factory.buildProtocol = lambda address: None
    tunnel.connect()
    assert isinstance(tunnel.failure, NoProtocol)
    tunnel.assertGone()


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"proxy": "proxy.test:8080"}, "IStreamClientEndpoint"),
        ({"host": "a\r\nb"}, "a name in ASCII"),
        ({"host": b"server.test"}, "a name in ASCII"),
        ({"host": ""}, "a name in ASCII"),
        ({"port": 0}, "1 to 65535"),
        ({"port": True}, "1 to 65535"),
        ({"timeout": 0}, "milliseconds"),
        ({"timeout": 1.5}, "milliseconds"),
        ({"headers": {"a b": "c"}}, "name of a header"),
        ({"headers": {"Proxy-Authorization": "secret\r\n"}}, "text of one line"),
    ],
)
def test_mistakes(wrong: dict[str, Any], cure: str) -> None:
    """Each wrong argument is an error that says what is expected, and shows no secret."""
    given: dict[str, Any] = {"proxy": MemoryServer(Proxy(b"")), "host": "server.test", "port": 443, **wrong}
    with pytest.raises(OptionError, match=cure) as caught:
        TunnelEndpoint(**given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_ofAClient(transport: str) -> None:
    """A client whose proxy refuses says so, on either transport."""
    tunnel = Tunnel(answer(b"who are you?", "407 Proxy Authentication Required"))
    client = Client("http://server.test", reactor=tunnel.clock, endpoint=tunnel.endpoint, transports=[transport])
    client.connect().addBoth(tunnel.results.append)
    tunnel.advance()
    assert (tunnel.failure.type, tunnel.failure.transport) == ("proxy", transport)
    assert tunnel.failure.response.text == "who are you?"
    assert client.failure is tunnel.failure
    tunnel.assertGone()


def test_sessionThroughATunnel() -> None:
    """A session opens behind the proxy's 200."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    server = ScriptedServer(gets=[answer(OPEN)])
    server.next = lambda asked: head if asked.method == "CONNECT" else ScriptedServer.next(server, asked)  # type: ignore[method-assign]
    memory = MemoryServer(server)
    endpoint = TunnelEndpoint(memory, "server.test", 80, reactor=server.clock)
    client = Client("http://server.test", reactor=server.clock, endpoint=endpoint, transports=["polling"])
    opened: list[Any] = []
    client.connect().addBoth(opened.append)
    memory.network.advance(0.01)
    assert opened == [client]
    closed: list[Any] = []
    client.close().addBoth(closed.append)
    memory.network.advance(1)
    assert closed == [None]
    assert {each.method for each in server.asked} == {"CONNECT", "GET", "POST"}
    assert server.bodies() == [b"1"]
    assert server.clock.getDelayedCalls() == []
