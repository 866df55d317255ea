"""Requests for a WebSocket outside the path: closed, unless somebody serves them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.server import Site as StockSite

from engineio_twisted import Site, attach

from ..kit.fakes import FakeRequest
from ..kit.wire import connectTo, http, upgrade


class NeverAnswers(Resource):
    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


@pytest.mark.parametrize("served", [False, True])
@pytest_twisted.ensureDeferred
async def test_destroyUpgrade(serve: Any, onPort: Any, served: bool) -> None:
    """An upgrade request outside the path is closed when nobody answers it, and left alone when somebody does."""
    root = Resource()
    root.putChild(b"silent", NeverAnswers())
    site = Site(root)
    outer = attach(site, destroyUpgradeTimeout=50)
    # Another server, attached later and so asked first, makes no difference.
    inner = attach(site, path="/inner", destroyUpgradeTimeout=50)
    client = await connectTo(await onPort(site))
    where = "/engine.io/?EIO=4&transport=websocket" if served else "/silent"
    client.send(upgrade(where))
    if served:
        assert (await client.head()).status == 101
        socket = next(iter(outer.clients.values()))
        await deferLater(reactor, 0.2)
        assert socket.readyState == "open"
    else:
        assert await client.lost() == b""
    await outer.close()
    await inner.close()
    client.drop()
    await client.lost()


@pytest.mark.parametrize("when", ["at once", "late"])
@pytest_twisted.ensureDeferred
async def test_aWebSocketOfTheSitesOwn(serve: Any, onPort: Any, when: str) -> None:
    """A WebSocket that another resource of the site serves is left alone; one it serves too late is not."""

    class Own(WebSocketResource):
        def render(self, request: Any) -> Any:
            if when == "at once":
                return super().render(request)
            return NOT_DONE_YET

    factory = WebSocketServerFactory()
    factory.protocol = WebSocketServerProtocol
    root = Resource()
    root.putChild(b"own", Own(factory))
    site = StockSite(root)
    server = attach(site, destroyUpgradeTimeout=50)
    client = await connectTo(await onPort(site))
    client.send(upgrade("/own"))
    if when == "late":
        assert await client.lost() == b""
    else:
        assert (await client.head()).status == 101
        await deferLater(reactor, 0.2)
        assert not client.isLost
        client.drop()
        await client.lost()
    await server.close()


def test_closeForgetsForeignUpgrades() -> None:
    """A closed server has no timer, also where somebody's upgrade request is still unanswered."""
    clock = Clock()
    site = Site(Resource(), reactor=clock)
    server = attach(site, reactor=clock)
    request = FakeRequest(uri=b"/silent", headers={"upgrade": ["websocket"], "connection": ["upgrade"]})
    request.channel.transport = type("Connection", (), {"protocol": None})()
    site.resource.getChildWithDefault(b"silent", request)
    assert len(clock.getDelayedCalls()) == 1
    server.close()
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_destroyUpgradeOff(serve: Any, onPort: Any) -> None:
    """Switched off, such requests are the site's own affair; plain requests are anyway."""
    root = Resource()
    root.putChild(b"silent", NeverAnswers())
    site = Site(root)
    server = attach(site, destroyUpgrade=False)
    client = await connectTo(await onPort(site))
    client.send(upgrade("/silent"))
    client.send(http("GET", "/silent"))
    await deferLater(reactor, 0.05)
    assert not client.isLost
    await server.close()
    assert len(server._foreignUpgrades) == 0
    client.drop()
    await client.lost()


def test_foreignUpgradesAfterTheEnd() -> None:
    """Are no longer watched."""
    clock = Clock()
    site = Site(Resource(), reactor=clock)
    attach(site, reactor=clock).close()
    request = FakeRequest(uri=b"/silent", headers={"upgrade": ["websocket"], "connection": ["upgrade"]})
    site.resource.getChildWithDefault(b"silent", request)
    assert clock.getDelayedCalls() == []
