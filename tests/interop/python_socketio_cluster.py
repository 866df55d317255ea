"""
A server of python-socketio, an emitter of it without clients, and clients of several servers, joined by Redis.

usage: python python_socketio_cluster.py < {"redis": url of Redis, "servers": {name: url of a server}}

It prints what happens, one JSON object a line: the port of its own server, which clients have connected, and what each
gets. A client that gets `do` with a list of words and arguments does what they say.
"""

import asyncio
import json
import sys

import socketio
from aiohttp import web


def report(event, **details):
    def default(value):
        return {"bytes": value.hex()}

    print(json.dumps({"event": event, **details}, default=default), flush=True)  # noqa: T201 (what it is for)


async def main():
    given = json.load(sys.stdin)
    server = socketio.AsyncServer(
        async_mode="aiohttp", client_manager=socketio.AsyncRedisManager(given["redis"]), namespaces=["/", "/admin"]
    )
    emitter = socketio.RedisManager(given["redis"], write_only=True)

    @server.event
    async def connect(sid, environ):
        await server.enter_room(sid, "red")

    @server.on("connect", namespace="/admin")
    async def connectAdmin(sid, environ):
        pass

    application = web.Application()
    server.attach(application)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]

    async def do(what, *arguments):
        if what == "emitter":
            emitter.emit(arguments[0], *arguments[1:2], **arguments[2])
        elif what == "bytes of emitter":
            emitter.emit("bytes", {"data": [b"\x00\xff"]})
        elif what == "tuple of emitter":
            emitter.emit("tuple", (1, b"2"))
        elif what == "call":
            report("called", answer=await server.call("ask", {"n": 1}, to=arguments[0], timeout=20))
        else:
            await getattr(server, what)(*arguments[:-1], **arguments[-1])

    clients = []
    for name, url in {**given["servers"], "python": f"http://127.0.0.1:{port}"}.items():
        client = socketio.AsyncClient()
        clients.append(client)

        def heard(namespace, name=name):
            async def catchAll(event, *arguments):
                report("got", by=name, namespace=namespace, name=event, args=arguments)
                if event == "do":
                    await do(*arguments[0])
                if event == "ask":
                    return name, b"ok".hex()
                return None

            return catchAll

        for namespace in ("/", "/admin"):
            client.on("*", heard(namespace), namespace=namespace)

        @client.on("disconnect")
        async def disconnect(reason, name=name):
            report("disconnected", by=name, reason=reason)

        await client.connect(url, namespaces=["/", "/admin"], transports=["websocket"])
        report("connected", by=name, sid=client.get_sid("/"))
    report("ready", port=port)
    await asyncio.Event().wait()


asyncio.run(main())
