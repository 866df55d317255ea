"""
Engine.IO over TLS, with a certificate that may be renewed while the server runs.

    pip install 'engineio_twisted[tls]'
    python examples/embedding/tls.py tls-files:tcp:3443:certificate=fullchain.pem:key=privkey.pem
"""

from __future__ import annotations

from typing import Any

from common import echo, run

from engineio_twisted import listen


async def start(reactor: Any, endpoint: str) -> Any:
    # The endpoint has the TLS settings: "tls-files:tcp:443:certificate=fullchain.pem:key=privkey.pem".
    server = listen(endpoint, reactor=reactor)
    port = await server.listening
    echo(server)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start, "https", "tls-files:tcp:3443:certificate=fullchain.pem:key=privkey.pem")
