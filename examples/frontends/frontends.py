"""
A board of notes that React and Vue show: one server, two pages.

    npm ci && npm run build                                  # once, in this folder: the pages
    python examples/frontends/frontends.py                   # port 3000, all interfaces
    python examples/frontends/frontends.py tcp:8080:interface=127.0.0.1
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.static import File

from engineio_twisted import Server, Site, Socket

PAGES = Path(__file__).resolve().parent / "dist"

NOTES = 50
"""How many notes the board keeps."""

LENGTH = 200
"""Characters of one note."""


def application(server: Server) -> None:
    """Keep one board: each client gets all notes when it connects, and each new note."""
    notes: deque[dict[str, object]] = deque(maxlen=NOTES)
    count = 0

    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.send(json.dumps({"all": [*notes]}))

        @socket.on("message")
        def added(data: str | bytes) -> None:
            nonlocal count
            if isinstance(data, str) and data.strip():
                count += 1
                notes.append({"number": count, "text": data.strip()[:LENGTH]})
                server.broadcast(json.dumps({"note": notes[-1]}))


async def main(reactor: Any, endpoint: str = "tcp:3000") -> None:
    """Serve the pages and the sessions from one port until Ctrl-C."""
    if not PAGES.is_dir():
        sys.exit(f"The pages are missing: run `npm ci && npm run build` in {PAGES.parent}")
    try:
        site = Site(File(str(PAGES)))
        server = Server(site, reactor=reactor, maxHttpBufferSize=4096)
        application(server)
        port = await serverFromString(reactor, endpoint).listen(site)
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    where = f"http://127.0.0.1:{port.getHost().port}"
    print(f"Board: open {where}/react.html and {where}/vue.html", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
