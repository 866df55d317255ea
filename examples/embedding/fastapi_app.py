"""
Engine.IO beside FastAPI, in one process and on one event loop: endpoints of FastAPI send to the sessions.

    pip install fastapi hypercorn
    python examples/embedding/fastapi_app.py                              # sessions on port 3000, FastAPI on 8000
    API=127.0.0.1:8080 python examples/embedding/fastapi_app.py tcp:3001  # other ports
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from twisted.internet import asyncioreactor

# Before anything imports the reactor.
asyncioreactor.install()

from common import echo, run
from fastapi import FastAPI
from hypercorn.asyncio import serve
from hypercorn.config import Config
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from engineio_twisted import Server, listen

app = FastAPI()


@app.post("/say")
async def say(text: str) -> dict[str, int]:
    # In the thread of the reactor, which runs on the same event loop.
    return {"told": app.state.server.broadcast(text)}


@app.get("/sessions")
async def sessions() -> dict[str, int]:
    return {"open": app.state.server.clientsCount}


def serveFastAPI(reactor: Any, app: Any) -> None:
    """Serve FastAPI by an ASGI server that leaves the signals to Twisted, until the reactor stops."""
    stop = asyncio.Event()
    config = Config.from_mapping(bind=[os.environ.get("API", "127.0.0.1:8000")], accesslog=None, errorlog=None)
    serving = Deferred.fromFuture(asyncio.ensure_future(serve(app, config, shutdown_trigger=stop.wait)))

    def stopped() -> Deferred[None]:
        stop.set()
        return serving

    def failed(failure: Failure) -> None:
        print(f"FastAPI: {failure.getErrorMessage()}", file=sys.stderr)
        if not stop.is_set():
            reactor.stop()

    # Such as a port that is taken.
    serving.addErrback(failed)
    reactor.addSystemEventTrigger("before", "shutdown", stopped)


async def start(reactor: Any, endpoint: str) -> Any:
    # Pages of FastAPI have another port, and so another origin, unless a proxy serves both.
    server: Server = listen(endpoint, reactor=reactor, cors={"origin": "http://127.0.0.1:8000"})
    app.state.server = server
    echo(server)
    port = await server.listening
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    # A tick later, when the event loop runs.
    reactor.callLater(0, serveFastAPI, reactor, app)
    return port


if __name__ == "__main__":
    run(start)
