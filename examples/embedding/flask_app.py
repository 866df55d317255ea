"""
Engine.IO beside Flask, or any other WSGI application, which runs in threads.

    pip install flask
    python examples/embedding/flask_app.py                              # port 3000, all interfaces
    python examples/embedding/flask_app.py tcp:8080:interface=127.0.0.1 # any endpoint description of Twisted
"""

from __future__ import annotations

from typing import Any

from common import echo, run
from flask import Flask, request
from twisted.internet import reactor as running
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import blockingCallFromThread
from twisted.web.wsgi import WSGIResource

from engineio_twisted import Server, Site

app = Flask(__name__)
server = Server()
reactor: Any = running


@app.post("/say")
def say() -> str:
    # This runs in a thread of the pool. Sessions belong to the reactor's thread, so ask that to send.
    reactor.callFromThread(server.broadcast, request.get_data(as_text=True))
    return "sent"


@app.get("/sessions")
def sessions() -> str:
    # The same, but wait for the result.
    return f"{blockingCallFromThread(reactor, lambda: server.clientsCount)} sessions are open"


async def start(reactor: Any, endpoint: str) -> Any:
    # The server gets the requests to /engine.io/, and Flask all others.
    site = Site(WSGIResource(reactor, reactor.getThreadPool(), app))
    server.attach(site)
    port = await serverFromString(reactor, endpoint).listen(site)
    echo(server)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start)
