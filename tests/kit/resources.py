"""A resource on a site, in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from engineio_twisted import Site

from .memory import Connection, Memory

HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"


class Rig(Memory):
    """A server on our site, whose application remembers what comes; its clients take no more than they have to."""

    def __init__(self, site: Callable[..., Site] = Site, **options: Any) -> None:
        root = Resource()
        root.putChild(b"form", Form())
        self.messages: list[Any] = []
        self.closes: list[tuple[str, str]] = []
        super().__init__(site, root, **options)

    def _opened(self, socket: Any) -> None:
        socket.on("message", self.messages.append)
        socket.on("close", lambda *args: self.closes.append(args))

    def connect(self, *pieces: bytes) -> Connection:
        connection = super().connect()
        connection.holds()
        connection.say(*pieces)
        return connection

    def open(self) -> str:
        body = (
            self.connect(b"GET /engine.io/?EIO=4&transport=polling " + HEAD + b"\r\n").value().partition(b"\r\n\r\n")[2]
        )
        sid: str = json.loads(body[1:])["sid"]
        return sid

    def post(self, sid: str, headers: bytes = b"") -> bytes:
        """The head of a POST on a session."""
        return b"POST /engine.io/?EIO=4&transport=polling&sid=%b " % sid.encode() + HEAD + headers + b"\r\n"


class Form(Resource):
    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())


class Late(Resource):
    """A resource that answers when it is told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render_GET(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET

    render_POST = render_GET


def status(connection: Connection) -> int:
    return int(connection.value().split(b" ", 2)[1])
