"""Sites of both kinds, and what is asked of them."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.web import server as web

from engineio_twisted import Server
from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.site import Site

from .footprint import footprint
from .memory import Connection, Nothing

SITES: dict[str, Any] = {"FastSite": FastSite, "Site": Site, "of twisted.web": web.Site}


def head(
    *lines: bytes,
    query: bytes = b"",
    path: bytes = b"/engine.io/",
    transport: bytes = b"polling",
    method: bytes = b"GET",
    body: bytes = b"",
) -> bytes:
    if transport == b"websocket":
        lines = (
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
            *lines,
        )
    first = b"%b %b?EIO=4&transport=%b%b HTTP/1.1" % (method, path, transport, query)
    return b"\r\n".join([first, b"Host: localhost", *lines, b"", body])


class Here:
    """A server on a site in memory."""

    def __init__(self, site: str, **options: Any) -> None:
        self.clock = Clock()
        self.server = Server(reactor=self.clock, **options)
        self.site = SITES[site](Nothing(), reactor=self.clock)
        self.server.attach(self.site)
        self.sockets: list[Any] = []
        self.server.on("connection", self.sockets.append)
        self.connections: list[Connection] = []

    def say(self, *pieces: bytes) -> Connection:
        connection = Connection(self.site.buildProtocol(None))
        self.connections.append(connection)
        connection.say(*pieces)
        return connection

    def kept(self, *roots: Any) -> int:
        """How many bytes these have that aren't everybody's."""
        everybodys = [reactor]
        for whose in (self.server, self.site, self.clock):
            everybodys += [whose, *vars(whose).values()]
        # All connections wait in them.
        everybodys += getattr(self.site, "_deadlines", {}).values()
        for each in self.connections:
            each.taken()
        return footprint(*roots, without=everybodys)

    def close(self) -> None:
        for each in self.connections:
            each.lose()
        # Those on polling notice nothing.
        for socket in self.sockets:
            socket.close(discard=True)
        self.clock.advance(40)


def request(transport: bytes, lines: list[bytes] | None = None, **rest: Any) -> bytes:
    return head(*(lines or ()), transport=transport, **rest)
