"""Ways in: a resource tree, a path on a site; over real sockets."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import EngineIOResource, OptionError, Server, Site, attach
from engineio_twisted.web.requests import EngineIORequest

from ..kit.asking import get


def tree() -> Resource:
    root = Resource()
    root.putChild(b"", Data(b"home", "text/plain"))
    root.putChild(b"page", Data(b"a page", "text/plain"))
    return root


class Leaf(Resource):
    """A resource that wants every path itself, as WSGI does."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"/".join([b"leaf", *request.prepath, b"|", *request.postpath])


@pytest_twisted.ensureDeferred
async def test_inAResourceTree(serve: Any, pool: Any, onPort: Any) -> None:
    """`putChild` is all it takes, with and without a slash at the end, also deeper, on anybody's site."""
    server = Server()
    for Class in (StockSite, Site):
        root = tree()
        api = Resource()
        root.putChild(b"api", api)
        api.putChild(b"engine.io", EngineIOResource(server))
        port = await onPort(Class(root))
        for path in ("/api/engine.io/", "/api/engine.io"):
            code, body = await get(pool, port, path)
            assert (code, body[0]) == (200, "0")
        assert await get(pool, port, "/page") == (200, "a page")
    await server.close()


@pytest_twisted.ensureDeferred
async def test_attach(serve: Any, pool: Any, onPort: Any) -> None:
    """The path is the server's, the rest is what the site had; several servers share a site."""
    site = StockSite(tree())
    first = attach(site)
    second = Server(pingInterval=5)
    second.attach(site, path="/other/place", addTrailingSlash=False)
    site.resource.putChild(b"later", Data(b"later", "text/plain"))
    port = await onPort(site)
    for path in ("/engine.io/", "/engine.io", "/engine.io/below"):
        assert (await get(pool, port, path))[1][0] == "0"
    for path in ("/other/place", "/other/place/"):
        assert '"pingInterval":5,' in (await get(pool, port, path))[1]
    assert (await get(pool, port, "/other/place/below"))[0] == 404
    assert (await get(pool, port, "/engine.iox"))[0] == 404
    assert await get(pool, port, "/") == (200, "home")
    assert await get(pool, port, "/page") == (200, "a page")
    assert await get(pool, port, "/later") == (200, "later")
    assert (first.clientsCount, second.clientsCount) == (3, 2)
    assert site.requestFactory is EngineIORequest
    await first.close()
    await second.close()


@pytest_twisted.ensureDeferred
async def test_attachBesideALeaf(serve: Any, pool: Any, onPort: Any) -> None:
    """A site whose root takes every path itself, such as a WSGI application, sees the whole path."""
    site = StockSite(Leaf())
    server = attach(site)
    port = await onPort(site)
    assert (await get(pool, port, "/engine.io/"))[1][0] == "0"
    assert await get(pool, port, "/a/b", "") == (200, "leaf/|/a/b")
    await server.close()


def test_attachKeepsARequestClassOfTheSites() -> None:
    """A site with a request class of its own keeps it."""

    class Mine(Request):
        pass

    site = StockSite(Resource(), requestFactory=Mine, reactor=Clock())
    Server(site, reactor=Clock())
    assert site.requestFactory is Mine


def test_attachTakesItsOwnOptionsOnly() -> None:
    """The others are the server's."""
    with pytest.raises(OptionError, match="pingInterval=5: attach takes addTrailingSlash"):
        Server().attach(StockSite(Resource(), reactor=Clock()), pingInterval=5)
