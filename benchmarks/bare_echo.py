"""
Twisted alone, as the measure of what this package adds.

    python benchmarks/bare_echo.py 3000 tcp     # bytes come back
    python benchmarks/bare_echo.py 3000 http    # a GET of a path is answered with what was posted there
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Site

BACKLOG = 4096


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Pages(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._posted: dict[bytes, bytes] = {}

    def render_GET(self, request: Any) -> bytes:
        return self._posted.get(request.path, b"ok")

    def render_POST(self, request: Any) -> bytes:
        self._posted[request.path] = request.content.read()
        return b"ok"


def main(port: int, kind: str) -> None:
    here: Any = reactor
    factory = Site(Pages()) if kind == "http" else Factory.forProtocol(Echo)
    here.listenTCP(port, factory, backlog=BACKLOG, interface="127.0.0.1")
    here.run()


main(int(sys.argv[1]), sys.argv[2])
