"""Ways in: a resource tree, a path on a site, a port of its own; over real sockets."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import pytest_twisted
import treq
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from incremental import Version
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.web.client import HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

import twisted
from engineio_twisted import EngineIOResource, OptionError, Server, Site, attach, listen
from engineio_twisted.web.requests import EngineIORequest

from ..kit.fakes import FakeRequest
from ..kit.wire import Wire, connectTo, http, upgrade, within


@pytest.fixture
def pool() -> Any:
    pool = HTTPConnectionPool(reactor, persistent=False)
    yield pool
    pytest_twisted.blockon(pool.closeCachedConnections())


@pytest.fixture
def onPort() -> Any:
    """Listens with a site, and stops after the test."""
    ports: list[Any] = []

    async def start(site: Any) -> int:
        ports.append(await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site))
        port: int = ports[-1].getHost().port
        return port

    yield start
    for port in ports:
        pytest_twisted.blockon(port.stopListening())


async def get(
    pool: HTTPConnectionPool, port: int, path: str, query: str = "?EIO=4&transport=polling"
) -> tuple[int, str]:
    response = await treq.get(f"http://127.0.0.1:{port}{path}{query}", pool=pool)
    return response.code, await response.text()


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
    assert len(server.foreignUpgrades) == 0
    client.drop()
    await client.lost()


# Listening


@pytest_twisted.ensureDeferred
async def test_listen(serve: Any, pool: Any) -> None:
    """`callback` runs, requests outside the path get 501."""
    called: list[Any] = []
    server = listen("tcp:0:interface=127.0.0.1", lambda: called.append(True))
    port = (await server.listening).getHost().port
    assert called == [True]
    assert (await get(pool, port, "/engine.io/"))[0] == 200
    code, body = await get(pool, port, "/elsewhere")
    assert (code, "Not Implemented" in body) == (501, True)
    await server.close()


@pytest_twisted.ensureDeferred
async def test_listenOnANumber(serve: Any, pool: Any) -> None:
    """A number listens on all interfaces, by IPv4 and, where there is one, IPv6."""
    server = listen(0)
    addresses: list[Any] = []
    server.on("connection", lambda socket: addresses.append(socket.remoteAddress))
    port = (await server.listening).getHost()
    assert (await get(pool, port.port, "/engine.io/"))[0] == 200
    assert addresses == ["127.0.0.1"]
    await server.close()


@pytest.mark.filterwarnings(
    # Before 26.10 Twisted itself leaves a socket behind that it couldn't bind.
    "error" if twisted.version >= Version("Twisted", 26, 10, 0) else "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest_twisted.ensureDeferred
async def test_listenOnATakenPort(serve: Any) -> None:
    """`listening` fails with the reason; `callback` doesn't run; closing is possible."""
    first = await serve()
    called: list[Any] = []
    second = listen(f"tcp:{first.port}:interface=127.0.0.1", lambda: called.append(True))
    with pytest.raises(CannotListenError):
        await second.listening
    assert called == []
    await second.close()
    third = listen(first.port)
    with pytest.raises(CannotListenError):
        await third.listening


@pytest.mark.parametrize("endpoint", ["nonsense:1", "tcp:abc", "", -1, 65536, 3.5, None, True])
def test_listenOnNonsense(endpoint: Any) -> None:
    """What is no endpoint is refused at once, by value."""
    with pytest.raises(ValueError, match=r"endpoint .*: expected"):
        listen(endpoint, reactor=Clock())


def test_listenWithoutIPv6() -> None:
    """A number is enough on a system that has IPv4 alone."""

    class Reactor(MemoryReactorClock):
        def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            if ":" in interface:
                raise CannotListenError(interface, port, OSError(errno.EAFNOSUPPORT, "no IPv6"))
            return super().listenTCP(port, factory, backlog, interface)

    reactor = Reactor()
    server = listen(3000, reactor=reactor)
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(3000, "")]
    assert server.listening.called


@pytest_twisted.ensureDeferred
async def test_listenOnAUnixSocket(serve: Any, tmp_path: Any) -> None:
    """A client on a UNIX socket has no address, and is served like any other."""
    path = tmp_path / "socket"
    server = listen(f"unix:{path}")
    addresses: list[Any] = []
    server.on("connection", lambda socket: addresses.append(socket.remoteAddress))
    await server.listening
    for request in (http("GET", "/engine.io/?EIO=4&transport=polling"), upgrade()):
        client: Wire = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Wire())
        client.send(request)
        assert (await client.head()).status in (200, 101)
        client.drop()
        await client.lost()
    assert addresses == [None, None]
    await within(server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_closeBeforeListening(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server closed while its endpoint takes its time never listens, and says so to who waits for that."""

    class Slow:
        """An endpoint that never has a port."""

        def listen(self, factory: Any) -> Deferred[Any]:
            return Deferred()

    monkeypatch.setattr("engineio_twisted.web.descriptions.serverFromString", lambda reactor, description: Slow())
    called: list[bool] = []
    server = listen("slow:1", lambda: called.append(True))
    await server.close()
    with pytest.raises(CancelledError):
        await server.listening
    assert called == []
