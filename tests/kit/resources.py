"""A resource on a site, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

from engineio_twisted import Server, Site

HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"


class Connection(StringTransport):
    """A connection of a site, from the client's side."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Rig:
    """A server on our site, on a clock and connections in memory."""

    def __init__(self, site: Callable[..., Site] = Site, **options: Any) -> None:
        self.clock = Clock()
        root = Resource()
        root.putChild(b"form", Form())
        self.site = site(root, reactor=self.clock)
        self.server = Server(self.site, reactor=self.clock, **options)
        self.messages: list[Any] = []
        self.closes: list[tuple[str, str]] = []
        self.server.on("connection", self._connected)

    def _connected(self, socket: Any) -> None:
        socket.on("message", self.messages.append)
        socket.on("close", lambda *args: self.closes.append(args))

    def connect(self) -> tuple[Any, Connection]:
        channel, connection = self.site.buildProtocol(None), Connection()
        assert channel is not None
        channel.makeConnection(connection)
        return channel, connection

    def ask(self, *pieces: bytes) -> Connection:
        """Send bytes on a connection of their own."""
        channel, connection = self.connect()
        connection.channel = channel
        for piece in pieces:
            channel.dataReceived(piece)
        return connection

    def open(self) -> str:
        body = self.ask(b"GET /engine.io/?EIO=4&transport=polling " + HEAD + b"\r\n").value().partition(b"\r\n\r\n")[2]
        sid: str = json.loads(body[1:])["sid"]
        return sid

    def post(self, sid: str, headers: bytes = b"") -> bytes:
        """The head of a POST on a session."""
        return b"POST /engine.io/?EIO=4&transport=polling&sid=%b " % sid.encode() + HEAD + headers + b"\r\n"


class Form(Resource):
    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())


def status(connection: Connection) -> int:
    return int(connection.value().split(b" ", 2)[1])
