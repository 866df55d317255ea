"""python-socketio as an ASGI application: `uvicorn asgi_socketio:application`."""

from __future__ import annotations

import os
from typing import Any

import socketio

# Of the environment, as an ASGI server leaves no arguments to the application; in milliseconds.
interval = int(os.environ.get("PING_INTERVAL", "25000")) / 1000
server = socketio.AsyncServer(async_mode="asgi", ping_interval=interval, ping_timeout=20)
application = socketio.ASGIApp(server)


@server.on("m")
async def echo(sid: str, data: Any) -> None:
    await server.emit("m", data, to=sid)


@server.on("a")
def acknowledge(sid: str, data: Any) -> Any:
    return data


@server.on("c")
async def acknowledgeLater(sid: str, data: Any) -> Any:
    return data


@server.on("join")
async def join(sid: str) -> None:
    await server.enter_room(sid, "bench")


@server.on("b")
async def broadcast(sid: str, data: Any) -> None:
    await server.emit("b", data, room="bench")
