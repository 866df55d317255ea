"""Sites of both kinds, and what is asked of them."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.web import server as web

from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.site import Site

from .footprint import footprint
from .memory import Memory

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


class Here(Memory):
    """A server on a site in memory, of whose application nothing is kept."""

    def __init__(self, site: str, **options: Any) -> None:
        super().__init__(SITES[site], **options)

    def _opened(self, socket: Any) -> None:
        self.sockets.append(socket)

    def kept(self, *roots: Any) -> int:
        """How many bytes these have that aren't everybody's."""
        everybodys = [reactor]
        for whose in (self.server, self.site, self.clock, self.network):
            everybodys += [whose, *vars(whose).values()]
        # All connections are in it, and wait in them.
        everybodys += self.network.processes
        everybodys += getattr(self.site, "_deadlines", {}).values()
        for each in self.connections:
            each.taken()
            each.toClient.clear()
        # What is on its way is counted by its bytes: in small pieces it is more in memory here than in a system.
        waiting = [each.toServer for each in self.connections]
        everybodys += waiting
        return footprint(*roots, without=everybodys) + sum(each.size for each in waiting)

    def close(self) -> None:
        for each in self.connections:
            each.lose()
        # Those on polling notice nothing.
        for socket in self.sockets:
            socket.close(discard=True)
        self.clock.advance(40)


def request(transport: bytes, lines: list[bytes] | None = None, **rest: Any) -> bytes:
    return head(*(lines or ()), transport=transport, **rest)
