"""
Polling over HTTP/2, and WebSocket over HTTP/1.1, at one port with TLS.

    pip install 'engineio_twisted[tls,http2]'
    python examples/embedding/http2.py tls-files:tcp:3443:certificate=fullchain.pem:key=privkey.pem
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import echo, run
from twisted.internet.endpoints import serverFromString
from twisted.web.server import Site
from twisted.web.static import File

from engineio_twisted import attach


async def start(reactor: Any, endpoint: str) -> Any:
    # An HTTP/2 connection closes after `timeout` seconds in which nothing is sent, even if GETs wait on it. So the
    # timeout must be more than pingInterval, which is in milliseconds.
    site = Site(File(str(Path(__file__).parent / "public")), timeout=60)
    server = attach(site, reactor=reactor, pingInterval=25000)
    port = await serverFromString(reactor, endpoint).listen(site)
    echo(server)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start, "https", "tls-files:tcp:3443:certificate=fullchain.pem:key=privkey.pem")
