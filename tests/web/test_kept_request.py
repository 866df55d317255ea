"""The request of a session on WebSocket: what it keeps, and what an application still finds in it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.interfaces import ISSLTransport
from zope.interface import alsoProvides

from engineio_twisted import FastSite, Site

from ..kit.memory import Memory
from ..kit.wire import makeFrame, upgrade


@pytest.mark.parametrize("isSecure", [True, False])
@pytest.mark.parametrize("asks", ["middleware", "handler", "nobody"])
@pytest.mark.parametrize("siteClass", [FastSite, Site])
def test_theChannelIsLetGoOf(siteClass: type[Site], asks: str, isSecure: bool) -> None:
    """The HTTP side of the connection is freed once it is a WebSocket; the request says what it said before."""
    memory = Memory(siteClass)
    seen: list[Any] = []
    if asks == "middleware":
        memory.server.use(seen.append)
    elif asks == "handler":
        memory.server.on("connection", lambda socket: seen.append(socket.request))
    connection = memory.connect()
    if isSecure:
        alsoProvides(connection, ISSLTransport)
    channel = weakref.ref(connection.protocol)
    connection.say(upgrade())
    gc.collect()
    assert channel() is None
    connection.say(makeFrame("4hello"))
    assert connection.taken().endswith(b"\x81\x064hello")
    (socket,) = memory.server.clients.values()
    request = socket.request
    assert seen == ([] if asks == "nobody" else [request])
    assert (request.method, request.path, request.isSecure()) == (b"GET", b"/engine.io/", isSecure)
    assert request.getHeader("upgrade") == "websocket"
    assert request.getClientAddress() == connection.getPeer()
    memory.end()
