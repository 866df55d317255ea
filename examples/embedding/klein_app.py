"""
Engine.IO as a route of Klein.

    pip install klein
    python examples/embedding/klein_app.py                              # port 3000, all interfaces
    python examples/embedding/klein_app.py tcp:8080:interface=127.0.0.1 # any endpoint description of Twisted
"""

from __future__ import annotations

from typing import Any

from common import echo, run
from klein import Klein
from twisted.internet.endpoints import serverFromString
from twisted.web.server import Request

from engineio_twisted import EngineIOResource, Server, Site

app = Klein()
server = Server()


@app.route("/")
def home(_request: Request) -> str:
    return f"{server.clientsCount} sessions are open"


@app.route("/say/<text>", methods=["POST"])
def say(_request: Request, text: str) -> str:
    return f"told {server.broadcast(text)}"


@app.route("/engine.io/", branch=True)
def engine(_request: Request) -> EngineIOResource:
    return EngineIOResource(server)


async def start(reactor: Any, endpoint: str) -> Any:
    echo(server)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    # app.run() makes a site of twisted.web, which serves Engine.IO too. On a Site of engineio_twisted, deadlines and
    # limits apply to all requests. To check the size of a POST while it arrives, attach a server to the site instead of
    # using a route: only Klein knows where a route leads.
    return await serverFromString(reactor, endpoint).listen(Site(app.resource()))


if __name__ == "__main__":
    run(start)
