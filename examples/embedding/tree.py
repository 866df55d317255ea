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
    # A site of twisted.web's own stores a body whole, however large, before a resource is asked. With
    # engineio_twisted.Site in its place, or attach(site), it is counted as it comes.
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start)
