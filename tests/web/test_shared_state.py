"""What requests and WebSockets share can't be changed by one of them: each application's changes are its own."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted import FastSite, Site
from engineio_twisted.testing import MemoryServer
from engineio_twisted.transports.engine_autobahn import AutobahnEngine, FastWebSocket

from .test_resource import Rig

HEAD = b"HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nOrigin: https://a.example\r\nCookie: a=b\r\nX-Own: 1\r\n\r\n"
OPEN = b"GET /engine.io/?EIO=4&transport=polling&t=1 " + HEAD


@pytest.mark.parametrize("site", [Site, FastSite])
def test_whatAnApplicationChanges(site: Any) -> None:
    """Changed headers, cookies and arguments of a request, and headers of a response, are those of that request."""
    rig = Rig(site, cors={"origin": "*"})
    seen: list[tuple[Any, ...]] = []

    def change(request: Any) -> None:
        headers = request.requestHeaders
        seen.append((list(headers.getAllRawHeaders()), dict(request.received_cookies), dict(request.args), request.uri))
        for name, values in list(headers.getAllRawHeaders()):
            values.append(b"more")
            headers.setRawHeaders(name, [b"changed"])
        request.received_cookies[b"a"] = b"changed"
        request.args.clear()
        request.responseHeaders.setRawHeaders(b"Content-Type", [b"changed"])

    def changeResponse(headers: Any, request: Any) -> None:
        for name in list(headers):
            if name != "Content-Length":
                headers[name] = "changed"
        headers["X-More"] = "changed"

    rig.server.use(change)
    rig.server.once("headers", changeResponse)
    connection = rig.ask(OPEN)
    first = connection.value()
    assert b"X-More: changed" in first
    connection.clear()
    connection.channel.dataReceived(OPEN)
    second = connection.value()
    assert b"changed" not in second
    assert b"Content-Type: text/plain; charset=UTF-8" in second
    assert seen[0] == seen[1]


def test_whatIsKnownOfAHead() -> None:
    """What was found out about headers that came before can't be changed by a request that has them."""
    rig = Rig(FastSite)
    known: list[Any] = []
    rig.server.use(lambda request: known.append(getattr(request, "knownHeaders", None)))
    rig.ask(OPEN).channel.dataReceived(OPEN)
    for each in known:
        if each is not None:
            with pytest.raises(TypeError):
                each[b"origin"] = (b"https://b.example",)
            assert all(isinstance(values, tuple) for values in each.values())


def test_whatWebSocketsShare() -> None:
    """What Autobahn sets on each WebSocket is said once of the class only if nothing can change it."""
    with MemoryServer(lambda server: None, wsEngine=AutobahnEngine) as kit:
        kit.connect("websocket")
        kit.connect("websocket")
        one, other = kit.server.webSockets.connections
        if not isinstance(one, FastWebSocket):
            return
        shared = {name: value for name, value in vars(type(one)).items() if not name.startswith("__")}
        assert {type(each) for each in shared.values()} <= {bool, int, float, str, bytes, type(None)}
        for name in ("is_open", "is_closed", "send_queue", "trafficStats", "utf8validator"):
            assert getattr(one, name) is getattr(one, name)
            assert getattr(one, name) is not getattr(other, name)
