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
    # In a thread of the pool: sessions belong to the thread of the reactor, which is asked to send.
    reactor.callFromThread(server.broadcast, request.get_data(as_text=True))
    return "it is on its way"


@app.get("/sessions")
def sessions() -> str:
    # The same, and waits for what it returns.
    return f"{blockingCallFromThread(reactor, lambda: server.clientsCount)} sessions are open"


async def start(reactor: Any, endpoint: str) -> Any:
    # From here on the site passes what is for /engine.io/ to the server, and everything else to Flask.
    site = Site(WSGIResource(reactor, reactor.getThreadPool(), app))
    server.attach(site)
    port = await serverFromString(reactor, endpoint).listen(site)
    echo(server)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return port


if __name__ == "__main__":
    run(start)
