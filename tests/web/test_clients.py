"""Who sent a request, behind proxies and without: on a server without the web, and over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.task import Clock

from engineio_twisted import Server, listen
from engineio_twisted.protocol.proxies import Client

from ..kit.fakes import FakeRequest
from ..kit.wire import Wire, connectTo, http, target, upgrade, within

pytestmark = pytest.mark.everySite

PROXY, VISITOR = "10.0.0.1", "203.0.113.9"


def request(origin: str | None = None, peer: Any = None, **headers: str) -> FakeRequest:
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    found = FakeRequest(headers={"Host": ["inside"], **named, **({} if origin is None else {"Origin": [origin]})})
    found.getClientAddress = lambda: peer or IPv4Address("TCP", PROXY, 1234)  # type: ignore[method-assign]
    return found


def ask(server: Server, request: FakeRequest) -> int:
    server.handleRequest(request)
    return request.status


def test_remoteAddress() -> None:
    """A session's address is the client's, and stays it when the proxy's headers are gone."""
    server = Server(reactor=Clock(), trustedProxies=["10.0.0.0/8"])
    found: list[Any] = []
    server.on("connection", found.append)
    asking = request(X_Forwarded_For=f"192.0.2.1, {VISITOR}", X_Forwarded_Proto="https", X_Forwarded_Host="a.example")
    assert ask(server, asking) == 200
    asking.requestHeaders.removeHeader("x-forwarded-for")
    assert found[0].remoteAddress == VISITOR
    assert server.clientOf(asking) == Client(VISITOR, "https", "a.example")
    server.close()


def test_noProxyIsTrustedByItself() -> None:
    """Without the option, headers say nothing, wherever they come from."""
    for options in ({}, {"trustedProxies": []}, {"trustedProxies": "unix"}, {"trustedProxies": "10.0.0.2"}):
        server = Server(reactor=Clock(), **options)  # type: ignore[arg-type]
        found: list[Any] = []
        server.on("connection", found.append)
        asking = request(X_Forwarded_For=VISITOR, Forwarded="for=192.0.2.1", X_Forwarded_Proto="https")
        assert ask(server, asking) == 200
        assert found[0].remoteAddress == PROXY
        assert server.clientOf(asking) == Client(PROXY, "http", "inside")
        server.close()


def test_contradictionsAreRefused() -> None:
    """Before a session is opened, and before the application is asked."""
    asked: list[Any] = []
    server = Server(reactor=Clock(), trustedProxies=PROXY, allowRequest=asked.append)
    asking = request(X_Forwarded_For=VISITOR, Forwarded="for=192.0.2.1")
    assert ask(server, asking) == 400
    assert json.loads(asking.written)["message"].startswith("Forwarded says something else than X-Forwarded-For")
    assert asked == []


def test_aMiddlewareMayMakeTheHeaders() -> None:
    """Where a proxy uses a header of its own, a middleware translates it."""

    def translate(request: Any) -> None:
        request.requestHeaders.setRawHeaders("X-Forwarded-For", request.requestHeaders.getRawHeaders("CDN-Client"))

    server = Server(reactor=Clock(), trustedProxies=PROXY)
    server.use(translate)
    found: list[Any] = []
    server.on("connection", found.append)
    assert ask(server, request(CDN_Client=VISITOR)) == 200
    assert found[0].remoteAddress == VISITOR
    server.close()


@pytest.mark.parametrize("rule", ["self", ["self"], ["https://other.example", "self"]])
def test_thePagesOfTheServerItself(rule: Any) -> None:
    """`self` is the origin by which the client addressed the server, as a trusted proxy has it."""
    server = Server(reactor=Clock(), trustedProxies=PROXY, allowedOrigins=rule)
    visitor = IPv4Address("TCP", VISITOR, 1234)
    assert ask(server, request("http://inside")) == 200
    assert ask(server, request("http://INSIDE:80")) == 200
    assert ask(server, request()) == 200
    for wrong in ("https://inside", "http://inside:3000", "http://evil.example", "null", "self"):
        assert ask(server, request(wrong)) == 403, wrong
    said = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "shop.example"}
    assert ask(server, request("https://shop.example", **said)) == 200
    assert ask(server, request("https://shop.example:443", **said)) == 200
    assert ask(server, request("http://shop.example", **said)) == 403
    assert ask(server, request("http://inside", **said)) == 403
    assert ask(server, request("https://shop.example:8443", **said, X_Forwarded_Port="8443")) == 200
    assert ask(server, request("https://shop.example", **said, X_Forwarded_Port="8443")) == 403
    assert ask(server, request("https://shop.example", **said, X_Forwarded_Port="443")) == 200
    # Some clients name the address of the WebSocket, which no page does.
    assert ask(server, request("ws://inside")) == 200
    assert ask(server, request("wss://shop.example", **said)) == 200
    assert ask(server, request("ws://shop.example", **said)) == 403
    # From anybody else they mean nothing.
    assert ask(server, request("https://shop.example:8443", visitor, X_Forwarded_Port="8443")) == 403
    assert ask(server, request("https://shop.example", visitor, **said)) == 403
    assert ask(server, request("http://inside", visitor, **said)) == 200
    assert ask(server, request("https://other.example")) == (200 if "https://other.example" in rule else 403)
    server.close()


def test_withoutAHostNothingIsTheServersOwn() -> None:
    """A request whose Host is missing, twice there or no host at all is from no page of the server's."""
    server = Server(reactor=Clock(), allowedOrigins="self")
    for hosts in ([], ["inside", "inside"], ["in side"]):
        asking = request("http://inside")
        asking.requestHeaders.setRawHeaders("Host", hosts)
        assert ask(server, asking) == 403, hosts


def test_noOtherAddressIsAUnixSockets() -> None:
    """What has no address for another reason isn't taken for a proxy on a UNIX socket."""
    server = Server(reactor=Clock(), trustedProxies="unix")
    assert server.clientOf(request(peer=UNIXAddress(b"/x"), X_Forwarded_For=VISITOR)).address == VISITOR
    assert server.clientOf(request(peer=object(), X_Forwarded_For=VISITOR)).address is None


# Over real sockets


async def addresses(wire: Wire, server: Any, *headers: tuple[str, str], before: bytes = b"") -> list[str | None]:
    """Open a session on polling, then one on WebSocket, on one connection; the addresses they have."""
    found: list[str | None] = []
    sockets: list[Any] = []

    @server.on("connection")
    def connected(socket: Any) -> None:
        found.append(socket.remoteAddress)
        sockets.append(socket)

    wire.send(before + http("GET", target(), headers))
    assert (await wire.response()).status == 200
    wire.send(upgrade(extra="".join(f"{name}: {value}\r\n" for name, value in headers)))
    assert (await wire.head()).status == 101
    server.removeListener("connection", connected)
    assert [each.remoteAddress for each in sockets] == found, "it stays the same"
    wire.drop()
    await wire.lost()
    return found


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-For", f"192.0.2.1, {VISITOR}")],
        [("X-Forwarded-For", "192.0.2.1"), ("x-forwarded-for", VISITOR)],
        [("Forwarded", f"for=192.0.2.1, for={VISITOR};proto=https")],
    ],
)
@pytest_twisted.ensureDeferred
async def test_addressOverTheWire(serve: Any, headers: list[tuple[str, str]]) -> None:
    """The address of both kinds of session is the one that the proxy names; without trust it is the proxy's."""
    trusting = await serve(trustedProxies=["127.0.0.1"])
    assert await addresses(await connectTo(trusting.port), trusting.server, *headers) == [VISITOR, VISITOR]
    plain = await serve()
    assert await addresses(await connectTo(plain.port), plain.server, *headers) == ["127.0.0.1", "127.0.0.1"]


@pytest_twisted.ensureDeferred
async def test_unixSocketOverTheWire(serve: Any, tmp_path: Any) -> None:
    """A proxy on a UNIX socket names its clients."""
    path = str(tmp_path / "socket")
    server = listen(f"unix:{path}", trustedProxies="unix")
    await server.listening
    wire: Wire = await connectProtocol(UNIXClientEndpoint(reactor, path), Wire())
    assert await addresses(wire, server, ("X-Forwarded-For", VISITOR)) == [VISITOR, VISITOR]
    await within(server.close(), "the server closing")


@pytest.mark.parametrize(("proxies", "expected"), [(None, VISITOR), (["127.0.0.1"], VISITOR), ([VISITOR], "192.0.2.1")])
@pytest_twisted.ensureDeferred
async def test_proxyProtocol(serve: Any, proxies: Any, expected: str) -> None:
    """Behind the PROXY protocol a connection is the client's; who that is may be a trusted proxy itself."""
    server = listen("haproxy:tcp:0:interface=127.0.0.1", trustedProxies=proxies)
    port = (await server.listening).getHost().port
    line = f"PROXY TCP4 {VISITOR} 127.0.0.1 5000 {port}\r\n".encode()
    found = await addresses(await connectTo(port), server, ("X-Forwarded-For", "192.0.2.1"), before=line)
    assert found == [expected, expected]
    await within(server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_aPageBehindATLSProxy(serve: Any) -> None:
    """The server's own page, which a proxy serves by TLS, may open a WebSocket; another page may not."""
    running = await serve(trustedProxies=["127.0.0.1"], allowedOrigins="self")
    for origin, status in (("https://localhost", 101), ("http://localhost", 403), ("https://evil.example", 403)):
        wire = await connectTo(running.port)
        wire.send(upgrade(extra=f"Origin: {origin}\r\nX-Forwarded-Proto: https\r\n"))
        assert (await wire.head()).status == status, origin
        wire.drop()
        await wire.lost()


@pytest_twisted.ensureDeferred
async def test_askingForTheClientKeepsNothing(serve: Any) -> None:
    """Without trusted proxies, what was looked at to find out a session's address isn't kept with it."""
    running = await serve()
    before: list[set[str]] = []

    @running.server.on("connection")
    def connected(socket: Any) -> None:
        before.append(set(vars(socket.request)))
        assert socket.remoteAddress == "127.0.0.1"
        before.append(set(vars(socket.request)))

    wire = await connectTo(running.port)
    wire.send(http("GET", target()))
    await wire.response()
    assert before[0] == before[1]
    wire.drop()
    await wire.lost()
