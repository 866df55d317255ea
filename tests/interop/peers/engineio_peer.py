"""
The server of python-engineio, for the tests of our client: `python engineio_peer.py aiohttp|uvicorn PORT`.

It does what node.mjs does, but tells nothing of upgrades and packets, for which it has no events.
"""

import asyncio
import json
import socket
import sys
from urllib.parse import parse_qsl

import engineio

framework, port = sys.argv[1:]


def report(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)  # noqa: T201 (what it is for)


def queryOf(text):
    return dict(parse_qsl(text, keep_blank_values=True))


server = engineio.AsyncServer(
    async_mode="aiohttp" if framework == "aiohttp" else "asgi",
    ping_interval=1,
    ping_timeout=20,
    cookie="peer",
)


@server.on("connect")
async def connect(sid, environ):
    query = queryOf(environ["QUERY_STRING"])
    if "refuse" in query:
        return "not today"
    report("open", sid=sid, transport=server.transport(sid), query=query)
    return True


@server.on("disconnect")
async def disconnect(sid, reason):
    report("close", sid=sid, reason=reason)


async def close(sid):
    await server.send(sid, "goodbye")
    # Not now, as a request is being answered.
    server.start_background_task(closeWaiting, sid)


async def closeWaiting(sid):
    # A GET that comes behind the end gets 400, and nothing of what was to be sent.
    queue = server.sockets[sid].queue
    while not queue.empty() or not queue._getters:
        await asyncio.sleep(0.01)
    await server.disconnect(sid)


async def count(sid, number):
    for each in range(int(number)):
        text = f"server {each}"
        await server.send(sid, text if each % 3 else text.encode())


async def transport(sid):
    await server.send(sid, server.transport(sid))


COMMANDS = {"close": close, "count": count, "transport": transport}


@server.on("message")
async def message(sid, data):
    if isinstance(data, str) and data.startswith("!"):
        name, *given = data[1:].split(" ")
        await COMMANDS[name](sid, *given)
    else:
        await server.send(sid, data)


def bound():
    # That of create_server() doesn't say that it is of TCP, and asyncio then leaves Nagle's algorithm on.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(port)))
    listening.listen()
    return listening, listening.getsockname()[1]


async def serveAiohttp():
    from aiohttp import web

    class Body:
        """The body of a request, all of it: the driver reads once, and takes what has come by then for the whole."""

        def __init__(self, request):
            self.request = request

        async def read(self, length):
            return await self.request.read()

    driver = dict(server._async)
    server._async = {
        **driver,
        "translate_request": lambda request: {**driver["translate_request"](request), "wsgi.input": Body(request)},
    }

    @web.middleware
    async def seen(request, handler):
        headers = {name.lower(): value for name, value in request.headers.items()}
        report("request", method=request.method, headers=headers, query=queryOf(request.query_string))
        return await handler(request)

    site = web.Application(middlewares=[seen])
    server.attach(site)
    runner = web.AppRunner(site)
    await runner.setup()
    listening, number = bound()
    await web.SockSite(runner, listening).start()
    report("listening", port=number)
    await asyncio.Event().wait()


async def serveUvicorn():
    import uvicorn

    application = engineio.ASGIApp(server)

    async def seen(scope, receive, send):
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            query = queryOf(scope["query_string"].decode())
            report("request", method=scope.get("method", "GET"), headers=headers, query=query)
        await application(scope, receive, send)

    listening, number = bound()
    report("listening", port=number)
    await uvicorn.Server(uvicorn.Config(seen, log_level="error")).serve(sockets=[listening])


asyncio.run(serveAiohttp() if framework == "aiohttp" else serveUvicorn())
