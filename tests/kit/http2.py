"""A client that speaks HTTP/2, and has a hand on every frame."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol, serverFromString
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.web.resource import Resource
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import EngineIOResource, Server

from .wire import Changing, target, within


class Answer(Changing):
    """
    What comes on one stream.

    @ivar error: of a stream that was reset, the code; -1 where the connection was lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.body = b""
        self.isComplete = False
        self.error: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def text(self) -> str:
        return self.body.decode()

    async def began(self) -> Answer:
        """Wait until its headers are there."""
        await self.until(lambda: self.headers, "the headers of an answer")
        return self

    async def over(self) -> Answer:
        """Wait until it is complete, or was reset."""
        await self.until(lambda: self.isComplete or self.error is not None, "an answer")
        return self


class Client(Protocol):
    """
    A connection.

    @ivar reads: whether what comes is acknowledged; otherwise the server may send no more than fits into the window.
    """

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.answers: dict[int, Answer] = {}
        self._lost: Deferred[None] = Deferred()
        self.isLost = False
        self._isHeldBack = False

    def connectionMade(self) -> None:
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        assert self.transport is not None
        if not self._isHeldBack:
            self.transport.write(self.h2.data_to_send())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send in one write what is said meanwhile."""
        self._isHeldBack = True
        try:
            yield
        finally:
            self._isHeldBack = False
            self.flush()

    def dataReceived(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            answer = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
            if isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                if self.reads:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                answer.isComplete = True
            elif isinstance(event, h2.events.StreamReset):
                answer.error = event.error_code
            answer.changed()
        self.flush()

    def connectionLost(self, reason: Any = None) -> None:
        self.isLost = True
        for each in self.answers.values():
            if not each.isComplete and each.error is None:
                each.error = -1
                each.changed()
        self._lost.callback(None)

    async def lost(self) -> None:
        await within(self._lost, "the end of the connection")

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, *, ends: bool = True, **headers: str
    ) -> tuple[int, Answer]:
        """
        Ask, and return the number of the stream and what comes on it; with `ends=False` a body isn't complete.

        A header whose value has a bar in it is sent twice.
        """
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = answer = Answer()
        fields = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        fields += [(name.replace("_", "-"), each) for name, value in headers.items() for each in value.split("|")]
        self.h2.send_headers(stream, fields, end_stream=ends and body is None)
        if body is not None:
            self.send(stream, body, ends=ends)
        self.flush()
        return stream, answer

    def send(self, stream: int, body: bytes, *, ends: bool = False) -> None:
        """Send of a body what fits into frames."""
        size = self.h2.max_outbound_frame_size
        pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self.h2.send_data(stream, piece, end_stream=ends and number == len(pieces))
        self.flush()

    def reset(self, stream: int) -> None:
        """Give a stream up, as a browser does with a request that a page has aborted."""
        self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self.flush()

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask(path, **headers)[1].over()

    async def post(self, path: str, body: bytes, **headers: str) -> Answer:
        return await self.ask(path, "POST", body, content_length=str(len(body)), **headers)[1].over()

    async def open(self) -> str:
        """Open a session, and return the path of its polls."""
        opened = await self.get(target())
        assert opened.status == 200, opened.text
        return target(sid=json.loads(opened.text[1:])["sid"])


async def connectHTTP2(port: int, reads: bool = True) -> Client:
    """Connect to a port of loopback."""
    from twisted.internet import reactor

    options = CertificateOptions(verify=False, acceptableProtocols=[b"h2"])
    client: Client = await connectProtocol(SSL4ClientEndpoint(reactor, "127.0.0.1", port, options), Client(reads))
    return client


class Here:
    """
    An echo server that is reached by HTTP/2.

    @ivar closed: why sessions have ended.
    """

    def __init__(self, attached: bool, **options: Any) -> None:
        from twisted.internet import reactor

        self.closed: list[tuple[str, str]] = []
        root = Resource()
        root.putChild(b"page", Data(b"a page", "text/plain"))
        self.site = StockSite(root)
        if attached:
            self.server = Server(self.site, reactor=reactor, **options)
        else:
            self.server = Server(reactor=reactor, **options)
            root.putChild(b"engine.io", EngineIOResource(self.server))
        self.server.on("connection", self._connected)
        self._clients: list[Client] = []
        self.port = 0

    def _connected(self, socket: Any) -> None:
        socket.on("message", socket.send)
        socket.on("close", lambda reason, description: self.closed.append((reason, str(description))))

    async def connect(self, reads: bool = True) -> Client:
        client = await connectHTTP2(self.port, reads)
        self._clients.append(client)
        return client

    async def leave(self, *clients: Client) -> None:
        """Cut the connections of some clients, or of all."""
        for each in clients or self._clients:
            if not each.isLost:
                assert each.transport is not None
                each.transport.abortConnection()  # type: ignore[attr-defined]
                await each.lost()

    @property
    def socket(self) -> Any:
        (socket,) = self.server.clients.values()
        return socket


@pytest_twisted.async_yield_fixture
async def listening(serve: Any, certificate: Any) -> AsyncIterator[Callable[..., Awaitable[Here]]]:
    """Starts a server of which all is closed after the test: `here = await listening(pingInterval=300)`."""
    from twisted.internet import reactor

    key, signed = certificate
    description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}"
    started: list[tuple[Here, Any]] = []

    async def start(attached: bool = True, **options: Any) -> Here:
        here = Here(attached, **options)
        port = await serverFromString(reactor, description).listen(here.site)
        here.port = port.getHost().port
        started.append((here, port))
        return here

    yield start
    for here, port in started:
        await within(here.server.close(), "the server to close")
        await here.leave()
        await port.stopListening()
