"""
Engine.IO in a tree of twisted.web resources, on twisted.web's own site, beside files.

    python examples/embedding/tree.py                                   # port 3000, all interfaces
    python examples/embedding/tree.py tcp:8080:interface=127.0.0.1      # any endpoint description of Twisted
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import echo, run
from twisted.internet.endpoints import serverFromString
from twisted.web.server import Site
from twisted.web.static import File

from engineio_twisted import EngineIOResource, Server


async def start(reactor: Any, endpoint: str) -> Any:
    root = File(str(Path(__file__).parent / "public"))
    server = Server(reactor=reactor)
    root.putChild(b"engine.io", EngineIOResource(server))
    port = await serverFromString(reactor, endpoint).listen(Site(root))
    echo(server)
    # The Site of twisted.web stores a whole body before it asks a resource. With engineio_twisted.Site instead, or with
    # attach(site), the size of a body is checked while it arrives.
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start)
