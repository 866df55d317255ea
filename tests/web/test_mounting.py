"""Ways in: a resource tree, a path on a site; over real sockets."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import EngineIOResource, OptionError, Server, ServerOptions, Site, attach
from engineio_twisted.service import EngineIOService
from engineio_twisted.testing import MemoryServer
from engineio_twisted.web.requests import EngineIORequest

from ..kit.asking import get
from ..kit.mistakes import messageOf


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


class LayerOn:
    """What is on a server, and adapts to it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __conform__(self, interface: Any) -> Any:
        return interface(self.server, None)


def test_aLayerInAResourceTree() -> None:
    """A layer that adapts to its server takes the server's place: in a resource, and in the test kit."""
    server = Server(reactor=(clock := Clock()))
    layer = LayerOn(server)
    root = tree()
    root.putChild(b"engine.io", EngineIOResource(layer))
    with MemoryServer(layer, site=Site(root, reactor=clock)) as kit:
        assert kit.server is server
        assert kit.connect().socket in server.clients.values()
    with pytest.raises(TypeError, match="root of type LayerOn: expected a resource"):
        Site(layer)
    with pytest.raises(OptionError, match="expected none beside a server"):
        MemoryServer(layer, pingInterval=1)


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


SITE = "expected a twisted.web.server.Site"
CHILD = 'call putChild(b"engine.io", EngineIOResource(server)) on it'
BY_NAME = "options are given by name, such as Server(pingInterval=25000) or Server(options=options)"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Resource(), f"site of type Resource: {SITE}; make a site of the resource, Site(Resource(…)), or {CHILD}"),
        (8080, f"site of type int: {SITE}; to listen on a port, call listen(8080)"),
        ("tcp:8080", f"site of type str: {SITE}; to listen on a port, call listen('tcp:8080')"),
        (ServerOptions(), f"site of type ServerOptions: {SITE}; {BY_NAME}"),
        ({"pingInterval": 5000}, f"site of type dict: {SITE}; {BY_NAME}"),
        (Server(), f"site of type Server: {SITE}; a server is attached by server.attach(site)"),
        (
            WrappingFactory(Factory()),
            f"site of type WrappingFactory: {SITE}; attach to the site that is wrapped in it, its wrappedFactory",
        ),
        (object(), f"site of type object: {SITE}; such as Site(resource)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatIsNoSite(given: Any, text: str) -> None:
    """Is an error where a server is attached to it, in each of the three ways, and says what does that."""
    assert messageOf(lambda: attach(given), TypeError) == text
    assert messageOf(lambda: Server(given), TypeError) == text
    assert messageOf(lambda: Server().attach(given), TypeError) == text


SERVER = "expected a Server"
PUT = 'putChild(b"engine.io", EngineIOResource(Server()))'
OF_SERVER = "options are those of the server, such as EngineIOResource(Server(pingInterval=25000))"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            StockSite(Resource(), reactor=Clock()),
            f"server of type Site: {SERVER}; to serve on a site, call attach(site)",
        ),
        (
            Resource(),
            f"server of type Resource: {SERVER}; put this into the resource, {PUT}",
        ),
        (8080, f"server of type int: {SERVER}; to listen on a port, call listen(8080)"),
        (
            ServerOptions(),
            f"server of type ServerOptions: {SERVER}; {OF_SERVER}",
        ),
        (Server, f"server of type type: {SERVER}; such as EngineIOResource(Server())"),
        (None, f"server of type NoneType: {SERVER}; such as EngineIOResource(Server())"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatIsNoServer(given: Any, text: str) -> None:
    """Is an error where a resource is made of it."""
    assert messageOf(lambda: EngineIOResource(given), TypeError) == text


def test_whatIsNoRoot() -> None:
    """A site of ours says so when it is made, not with each request."""
    site: Any = StockSite(Resource(), reactor=Clock())
    for make in (lambda: Site(site, reactor=Clock()), lambda: EngineIOService(3000, root=site, reactor=Clock())):
        text = messageOf(make, TypeError)
        assert text == "root of type Site: expected a resource, such as that of a site, site.resource"
    root: Any = Server()
    assert messageOf(lambda: Site(root, reactor=Clock()), TypeError) == (
        "root of type Server: expected a resource; wrap it, Site(EngineIOResource(server)), or attach it to a site, "
        "server.attach(site)"
    )


def test_optionsThatAreNone() -> None:
    """A mapping isn't taken for options: it would fail somewhere later."""
    options: Any = {"pingInterval": 5000}
    text = messageOf(lambda: Server(options=options), TypeError)
    assert text == "options of type dict: expected ServerOptions; a mapping is given as Server(**options)"


@pytest.mark.parametrize(
    ("first", "second", "isHidden"),
    [
        ({"path": "/a"}, {"path": "/a"}, True),
        ({"path": "/a/b"}, {"path": "/a"}, True),
        ({"path": "/a"}, {"path": "/a", "addTrailingSlash": False}, True),
        ({"path": "/a/b"}, {"path": "/a", "addTrailingSlash": False}, False),
        ({"path": "/a"}, {"path": "/a/b"}, False),
        ({"path": "/a"}, {"path": "/b"}, False),
        ({"path": "/ab"}, {"path": "/a"}, False),
    ],
)
def test_twoServersAtOnePath(first: Any, second: Any, isHidden: bool) -> None:
    """The second would take all requests of the first: an error, and the site is as before; unless that is closed."""
    site = StockSite(Resource(), reactor=Clock())
    hidden = Server(site, reactor=Clock(), **first)
    Server(site, reactor=Clock(), path="/elsewhere")
    before = site.resource
    if not isHidden:
        attach(site, reactor=Clock(), **second)
        return
    cure = "give each server a path of its own, or close that one first"
    text = f"path='{second['path']}': another server of this site has {first['path']}; {cure}"
    assert messageOf(lambda: attach(site, reactor=Clock(), **second), OptionError) == text
    assert messageOf(lambda: Server(reactor=Clock()).attach(site, **second), OptionError) == text
    assert site.resource is before
    # Again the same one takes nothing from anybody.
    hidden.attach(site)
    hidden.close()
    attach(site, reactor=Clock(), **second)
