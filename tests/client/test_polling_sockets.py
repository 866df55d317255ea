"""Polling from the client's end over sockets, plain and with TLS, with a server of ours and with literal bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from engineio_twisted import listen
from engineio_twisted.client import Client, ConnectionFailed, TunnelEndpoint
from engineio_twisted.client.trust import AnyCertificate, trusting

from ..kit.client_servers import OPEN, ScriptedServer, Step, answer, chunks, cuts, ends
from ..kit.wire import Changing, within

# What the other ends have to close is waited for.
pytestmark = pytest.mark.usefixtures("serve")


class Session(Changing):
    """A client on polling that can be waited for."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__()
        self.received: list[str | bytes] = []
        self.closed: list[tuple[Any, ...]] = []
        self.client = Client(url, transports=["polling"], **options)
        self.client.on("message", lambda data: self._note(self.received, data))
        self.client.on("close", lambda *args: self._note(self.closed, args))

    def _note(self, where: list[Any], what: Any) -> None:
        where.append(what)
        self.changed()

    async def open(self) -> Session:
        await within(self.client.connect(), "the session opens")
        return self

    async def close(self) -> None:
        await within(self.client.close(), "nothing is left of the client")


async def echoes(url: str, **options: Any) -> None:
    """Messages of several sizes come back in order, and nothing is left of the client."""
    session = await Session(url, **options).open()
    sent: list[str | bytes] = [
        "a",
        b"\x00\xff",
        "€😀" * 100,
        "x" * 300_000,
        bytes(200_000),
        "",
        b"",
        *map(str, range(500)),
    ]
    for each in sent:
        session.client.send(each)
    await session.until(lambda: len(session.received) >= len(sent), "all messages come back")
    assert session.received == sent
    await session.close()
    assert [reason for reason, _ in session.closed] == ["forced close"]


@asynccontextmanager
async def listening(description: str, **options: Any) -> AsyncIterator[Any]:
    server = listen(description, **options)
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data) and None))
    port = await server.listening
    try:
        yield port.getHost()
        assert server.clientsCount == 0
        assert server.stats().closed["transport close"] == server.stats().opened
    finally:
        await within(server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_overSockets(tmp_path: Path) -> None:
    """Each revision, by name and by address, in small payloads and large, compressed, and on a UNIX socket."""
    async with listening("tcp:0:interface=127.0.0.1", allowEIO3=True, maxHttpBufferSize=500_000) as host:
        await echoes(f"http://localhost:{host.port}", withCredentials=True)
        await echoes(f"ws://127.0.0.1:{host.port}", EIO=3)
        await echoes(f"http://127.0.0.1:{host.port}", EIO=3, forceBase64=True, requestTimeout=60_000)
        port = host.port
    with pytest.raises(ConnectionFailed) as caught:
        await Session(f"http://127.0.0.1:{port}").open()
    assert caught.value.type == "connect"
    path = str(tmp_path / "server")
    async with listening(f"unix:{path}"):
        await echoes("http://server.example", endpoint=UNIXClientEndpoint(reactor, path))


class Proxy(Factory):
    """An HTTP proxy that connects all it is asked for to one port."""

    noisy = False

    def __init__(self, port: int) -> None:
        self.endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self.asked: list[bytes] = []

    def buildProtocol(self, addr: object) -> Protocol:
        proxy = self

        class End(Protocol):
            other: Any = None
            waiting = b""

            def dataReceived(self, data: bytes) -> None:
                if self.other is not None:
                    self.other.transport.write(data)
                    return
                self.waiting += data
                head, end, rest = self.waiting.partition(b"\r\n\r\n")
                if end and not self.waiting.startswith(b"+"):
                    proxy.asked.append(head.split(b"\r\n")[0])
                    self.waiting = b"+" + rest
                    proxy.endpoint.connect(Factory.forProtocol(Far)).addCallback(self.reached)

            def reached(self, far: Any) -> None:
                far.near, self.other = self, far
                self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")  # type: ignore[union-attr]
                far.transport.write(self.waiting[1:])

            def connectionLost(self, reason: object = None) -> None:
                if self.other is not None:
                    self.other.transport.loseConnection()

        class Far(Protocol):
            near: Any = None

            def dataReceived(self, data: bytes) -> None:
                self.near.transport.write(data)

            def connectionLost(self, reason: object = None) -> None:
                self.near.transport.loseConnection()

        return End()


@pytest_twisted.ensureDeferred
async def test_overTLS(certificate: tuple[Path, Path]) -> None:
    """With a certificate that is trusted, through a proxy as well; with one that isn't; without TLS on either end."""
    key, signed = certificate
    policy = trusting(str(signed))
    async with listening(f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}") as host:
        await echoes(f"https://localhost:{host.port}", contextFactory=policy)
        await echoes(f"https://127.0.0.1:{host.port}", contextFactory=AnyCertificate())
        proxy = Proxy(host.port)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(proxy)
        tunnel = TunnelEndpoint(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), "localhost", 443)
        await echoes("https://localhost", contextFactory=policy, endpoint=tunnel)
        assert {*proxy.asked} == {b"CONNECT localhost:443 HTTP/1.1"}
        await port.stopListening()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
        for url, options, type_, description in (
            (f"https://localhost:{host.port}", {}, "tls", "certificate verify failed"),
            ("https://other.test", {"contextFactory": policy, "endpoint": endpoint}, "tls", "for another name"),
            (f"http://127.0.0.1:{host.port}", {}, "lost", "closed|lost"),
        ):
            session = Session(url, **options)
            with pytest.raises(ConnectionFailed, match=description) as caught:
                await session.open()
            assert caught.value.type == type_
            await session.close()
    plain = ScriptedServer(first=b"HTTP/1.1 400 Bad Request\r\n\r\n", isDeaf=True)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(plain)
    session = Session(f"https://127.0.0.1:{port.getHost().port}")
    with pytest.raises(ConnectionFailed, match=r"^TLS failed: (wrong version number|packet length too long)") as caught:
        await session.open()
    assert caught.value.type == "tls"
    await session.close()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_inBytes() -> None:
    """What goes over the wire and comes back, with nothing of ours at the other end."""
    pong = Deferred[None]()

    def ponged(peer: Any) -> None:
        peer.say(answer(b"ok"))
        pong.callback(None)

    last: Step = answer(b"1")
    server = ScriptedServer([answer(OPEN), chunks(b"4h\xc3", b"\xa9\x1ebAP8=\x1e2"), last], [ponged])
    server.clock = reactor
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server)
    number = port.getHost().port
    session = await Session(f"http://127.0.0.1:{number}", query={"a": "b"}, extraHeaders={"X-Mine": "é"}).open()
    await session.until(lambda: session.closed != [], "the session ends")
    assert session.received == ["hé", b"\x00\xff"]
    assert session.closed == [("transport close", "close packet")]
    await session.close()
    assert {each.headers["x-mine"] for each in server.asked} == {"é"}
    assert {each.headers["host"] for each in server.asked} == {f"127.0.0.1:{number}"}
    for does, type_ in ((ends(answer(b"4x", length=9)), "lost"), (cuts(answer(b"4x", length=9)), "lost")):
        server.gets.extend([answer(OPEN), does])
        session = await Session(f"http://127.0.0.1:{number}").open()
        await session.until(lambda session=session: session.closed != [], "the session ends")  # type: ignore[misc]
        assert session.client.failure is not None
        assert session.client.failure.type == type_
        assert session.received == []
        await session.close()
    await port.stopListening()
