"""What requests and WebSockets share can't be changed by one of them: each application's changes are its own."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted import FastSite, Site

from ..kit.resources import Rig

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
    connection = rig.connect(OPEN)
    first = connection.value()
    assert b"X-More: changed" in first
    connection.taken()
    connection.say(OPEN)
    second = connection.value()
    assert b"changed" not in second
    assert b"Content-Type: text/plain; charset=UTF-8" in second
    assert seen[0] == seen[1]
