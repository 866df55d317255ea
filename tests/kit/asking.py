"""Asking a server for something, with a fake request, over a socket, or with a client."""

from __future__ import annotations

import json
from typing import Any

import treq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.client import HTTPConnectionPool

from engineio_twisted import Server

from .fakes import FakeRequest
from .wire import Response, Wire, connectTo

OPEN = b"/engine.io/?EIO=4&transport=polling"


def make(**options: Any) -> tuple[Server, Clock]:
    clock = Clock()
    return Server(reactor=clock, **options), clock


def opened(request: FakeRequest) -> str:
    """The id of the session that a request opened."""
    assert (request.status, request.written[:1]) == (200, b"0")
    sid: str = json.loads(request.written[1:])["sid"]
    return sid


def refusal(request: FakeRequest) -> tuple[int, Any]:
    return request.status, json.loads(request.written)


async def coroutineOf(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def deferredOf(value: Any) -> Deferred[Any]:
    return succeed(value)


async def said(wire: Wire) -> Response:
    """The head of an answer, which for a 101 is all of it."""
    answer = await wire.head()
    wire.drop()
    await wire.lost()
    return answer


async def ask(running: Any, request: bytes) -> Response:
    wire = await connectTo(running.port)
    wire.send(request)
    return await said(wire)


async def get(
    pool: HTTPConnectionPool, port: int, path: str, query: str = "?EIO=4&transport=polling"
) -> tuple[int, str]:
    response = await treq.get(f"http://127.0.0.1:{port}{path}{query}", pool=pool)
    return response.code, await response.text()
