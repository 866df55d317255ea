"""python-engineio as an echo, for whichever framework it runs on."""

from __future__ import annotations

import os

import engineio


def echo(mode: str) -> engineio.AsyncServer:
    """
    Return the server.

    @param mode: C{aiohttp} or C{asgi}.
    """
    # Of the environment, as an ASGI server leaves no arguments to the application; in milliseconds.
    interval = int(os.environ.get("PING_INTERVAL", "25000")) / 1000
    server = engineio.AsyncServer(async_mode=mode, ping_interval=interval, ping_timeout=20)

    @server.on("message")
    async def message(sid: str, data: str | bytes) -> None:
        if isinstance(data, str) and data.startswith("broadcast:"):
            for each in list(server.sockets):
                await server.send(each, data)
        else:
            await server.send(sid, data)

    return server
