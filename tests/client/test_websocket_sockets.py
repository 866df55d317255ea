"""The WebSocket transport of a client over sockets, plain and with TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, serverFromString

from engineio_twisted import PacketType, listen
from engineio_twisted.client import ClientOptions, FailureType
from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.trust import AnyCertificate, trusting
from engineio_twisted.client.websocket import ClientWebSocketTransport
from engineio_twisted.interfaces import LEFT

from ..kit.client_servers import ScriptedServer
from ..kit.fakes import FakeOwner
from ..kit.wire import Changing, within


class Owner(FakeOwner, Changing):
    """Can be waited for."""

    def __init__(self) -> None:
        FakeOwner.__init__(self)
        Changing.__init__(self)

    def transportReady(self, transport: Any) -> None:
        super().transportReady(transport)
        self.changed()

    def transportPacket(self, transport: Any, packet: Any) -> Any:
        super().transportPacket(transport, packet)
        self.changed()

    def transportClosed(self, transport: Any, closing: Any) -> None:
        super().transportClosed(transport, closing)
        self.changed()


def opened(url: str, **options: Any) -> tuple[ClientWebSocketTransport, Owner]:
    connecting = Connecting(url, ClientOptions(**options), reactor)
    transport = ClientWebSocketTransport(connecting.codec, connecting)
    transport.owner = owner = Owner()
    transport.open()
    return transport, owner


async def failed(url: str, **options: Any) -> Any:
    """What a transport fails with, when nothing is left of it."""
    transport, owner = opened(url, **options)
    await within(transport.whenGone(), "a transport that fails is gone")
    assert len(owner.closes) == 1
    return transport.failure


async def echoes(url: str, **options: Any) -> None:
    """Messages of several sizes come back in order, and nothing is left of a transport that is closed."""
    transport, owner = opened(url, **options)
    await owner.until(lambda: owner.readies, "the WebSocket is open")
    sent: list[str | bytes] = ["a", b"\x00", "€" * 100, b"x" * 500_000, "y" * 70_000, ""]
    for each in sent:
        transport.sendMessage(each, None, True)
    await owner.until(lambda: len(owner.packets) > len(sent), "all messages come back")
    assert owner.packets[0].type is PacketType.OPEN
    assert [each.data for each in owner.packets[1:]] == sent
    transport.close(LEFT)
    await within(transport.whenGone(), "a transport that is closed is gone")
    assert (transport.failure, owner.closes) == (None, [])


@asynccontextmanager
async def listening(description: str, **options: Any) -> AsyncIterator[Any]:
    server = listen(description, maxHttpBufferSize=1_000_000, **options)
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data) and None))
    port = await server.listening
    try:
        yield port.getHost()
    finally:
        await within(server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_overSockets(tmp_path: Path) -> None:
    """A name that is resolved, an address, compression, and a UNIX socket."""
    async with listening("tcp:0:interface=127.0.0.1", perMessageDeflate=True) as host:
        await echoes(f"ws://localhost:{host.port}")
        await echoes(f"http://127.0.0.1:{host.port}", perMessageDeflate=True)
        port = host.port
    assert (await failed(f"ws://127.0.0.1:{port}")).type is FailureType.CONNECT
    path = str(tmp_path / "server")
    async with listening(f"unix:{path}"):
        await echoes("ws://server.example", endpoint=UNIXClientEndpoint(reactor, path))
    failure = await failed("ws://server.example", endpoint=UNIXClientEndpoint(reactor, path))
    assert failure.type is FailureType.CONNECT


@pytest_twisted.ensureDeferred
async def test_overTLS(certificate: tuple[Path, Path]) -> None:
    """With a certificate that is trusted, one that isn't, and one for another name; and where plain HTTP is spoken."""
    key, signed = certificate
    policy = trusting(str(signed))
    async with listening(f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}") as host:
        await echoes(f"wss://localhost:{host.port}", contextFactory=policy)
        await echoes(f"https://127.0.0.1:{host.port}", contextFactory=AnyCertificate())
        failure = await failed(f"wss://localhost:{host.port}")
        assert (failure.type, failure.description) == (FailureType.TLS, "TLS failed: certificate verify failed")
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", host.port)
        failure = await failed("wss://other.example", endpoint=endpoint, contextFactory=policy)
        words = "TLS failed: the certificate is for another name"
        assert (failure.type, failure.description) == (FailureType.TLS, words)
        # The port listens with TLS alone.
        assert (await failed(f"ws://127.0.0.1:{host.port}")).type in (FailureType.LOST, FailureType.NOT_ENGINEIO)


@pytest_twisted.ensureDeferred
async def test_aServerThatKeepsSilent() -> None:
    """Neither a connection nor TLS on which nothing is said is waited for longer than connectTimeout."""
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(ScriptedServer(isDeaf=True))
    try:
        for scheme in ("ws", "wss"):
            failure = await failed(f"{scheme}://127.0.0.1:{port.getHost().port}", connectTimeout=50)
            assert failure.type is FailureType.TIMEOUT
    finally:
        await within(port.stopListening(), "the port closing")
