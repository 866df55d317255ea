"""Who a client is behind proxies: what a trusted one says, and nothing that anybody else does."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.task import Clock

from engineio_twisted import Server, listen
from engineio_twisted.protocol.errors import HTTPRefusal
from engineio_twisted.protocol.proxies import Client, TrustedProxies, addressOf, clientOf, networkOf, trustedProxies

from ..kit.fakes import FakeRequest
from ..kit.wire import Wire, connectTo, http, target, upgrade, within

pytestmark = pytest.mark.everySite

PROXY, CDN, VISITOR = "10.0.0.1", "198.51.100.4", "203.0.113.9"
TRUSTED = trustedProxies(("10.0.0.0/8", "2001:db8:1::/48", CDN))
HEADERS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded")


def behind(
    peer: str | None = PROXY, proxies: TrustedProxies = TRUSTED, isUnix: bool = False, **headers: str | list[str]
) -> tuple[str | None, str, str | None]:
    """Who is behind a request that came from `peer` by http for the host `inside`, with headers: `Forwarded=…`."""
    values = {name.lower().replace("_", "-").encode(): value for name, value in headers.items()}

    def find(name: bytes) -> list[bytes]:
        found = values.get(name, [])
        return [each.encode("latin-1") for each in ([found] if isinstance(found, str) else found)]

    client = clientOf(Client(peer, "http", "inside"), find, proxies, isUnix)
    return client.address, client.scheme, client.host


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": VISITOR}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_For": f" {VISITOR}\t,  {PROXY}"}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_For": [VISITOR, f"{CDN}, 10.9.9.9"]}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_For": ["", f",, {VISITOR},"]}, (VISITOR, "http", "inside")),
        # What stands to the left of one that isn't trusted is what that one says.
        ({"X_Forwarded_For": f"192.0.2.1, {VISITOR}, {CDN}"}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_For": f"10.0.0.7, {VISITOR}"}, (VISITOR, "http", "inside")),
        # All are trusted: the first is who asked.
        ({"X_Forwarded_For": f"10.0.0.8, {CDN}"}, ("10.0.0.8", "http", "inside")),
        # Whatever isn't an address ends the way at the last one that is.
        ({"X_Forwarded_For": f"{VISITOR}, unknown, {CDN}"}, (CDN, "http", "inside")),
        ({"X_Forwarded_For": "localhost"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": "\xe9, 1.2.3"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": f"{VISITOR}:4711"}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_For": f"{VISITOR}:port"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": "2001:DB8::1"}, ("2001:db8::1", "http", "inside")),
        ({"X_Forwarded_For": "[2001:db8::1]"}, ("2001:db8::1", "http", "inside")),
        ({"X_Forwarded_For": "[2001:db8::1]:4711, 2001:db8:1::5"}, ("2001:db8::1", "http", "inside")),
        ({"X_Forwarded_For": "[2001:db8::1"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": "[203.0.113.9]"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": "fe80::1%eth0"}, ("fe80::1", "http", "inside")),
        ({"X_Forwarded_For": f"::ffff:{VISITOR}, ::ffff:10.0.0.3"}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_Proto": "https"}, (PROXY, "https", "inside")),
        ({"X_Forwarded_Proto": "WSS", "X_Forwarded_Host": "shop.example:8443"}, (PROXY, "https", "shop.example:8443")),
        ({"X_Forwarded_Proto": "gopher", "X_Forwarded_Host": "a b"}, (PROXY, "http", "inside")),
        # The port is said apart, unless it is said with the host.
        ({"X_Forwarded_Host": "a.example", "X_Forwarded_Port": "8443"}, (PROXY, "http", "a.example:8443")),
        ({"X_Forwarded_Host": "a.example:9000", "X_Forwarded_Port": "8443"}, (PROXY, "http", "a.example:9000")),
        ({"X_Forwarded_Host": "[::1]", "X_Forwarded_Port": "8443"}, (PROXY, "http", "[::1]:8443")),
        ({"X_Forwarded_Host": "[::1]:9000", "X_Forwarded_Port": "8443"}, (PROXY, "http", "[::1]:9000")),
        ({"X_Forwarded_Host": "a.example", "X_Forwarded_Port": " 08443 "}, (PROXY, "http", "a.example:8443")),
        *(
            ({"X_Forwarded_Host": "a.example", "X_Forwarded_Port": wrong}, (PROXY, "http", "a.example"))
            for wrong in ("", "0", "65536", "-1", "+80", "http", "80a", "99999999999", "8\xb2", "_80", ":80")
        ),
        ({"X_Forwarded_Port": "8443"}, (PROXY, "http", "inside")),
        ({"X_Forwarded_For": VISITOR, "X_Forwarded_Port": "8443"}, (VISITOR, "http", "inside")),
        ({"X_Forwarded_Host": "a b", "X_Forwarded_Port": "8443"}, (PROXY, "http", "inside")),
        (
            {"X_Forwarded_For": VISITOR, "X_Forwarded_Host": "evil, a.example", "X_Forwarded_Port": "666, 8443"},
            (VISITOR, "http", "a.example:8443"),
        ),
        (
            {"X_Forwarded_For": f"{VISITOR}, {CDN}", "X_Forwarded_Host": "a, b", "X_Forwarded_Port": ["1", "2", "3"]},
            (VISITOR, "http", "a:2"),
        ),
        ({"Forwarded": "host=a.example", "X_Forwarded_Port": "8443"}, (PROXY, "http", "a.example")),
        # Of several, as many from the right as addresses were believed; further to the left it is the client's word.
        (
            {"X_Forwarded_For": VISITOR, "X_Forwarded_Proto": "http, https", "X_Forwarded_Host": "evil, a.example"},
            (VISITOR, "https", "a.example"),
        ),
        (
            {"X_Forwarded_For": f"{VISITOR}, {CDN}", "X_Forwarded_Proto": "http, https, http"},
            (VISITOR, "https", "inside"),
        ),
        ({"X_Forwarded_For": f"{VISITOR}, {CDN}", "X_Forwarded_Proto": "https"}, (VISITOR, "https", "inside")),
        ({"Forwarded": f"for={VISITOR}"}, (VISITOR, "http", "inside")),
        ({"Forwarded": f'For="{VISITOR}:80" ; PROTO=https;host=a.example;by=_me'}, (VISITOR, "https", "a.example")),
        ({"Forwarded": 'for="[2001:db8::1]:4711";host="a.example:8443"'}, ("2001:db8::1", "http", "a.example:8443")),
        ({"Forwarded": 'for="[2001:db8::1]:_hidden"'}, ("2001:db8::1", "http", "inside")),
        ({"Forwarded": [f"for=192.0.2.1, for={VISITOR};proto=https", f"for={CDN};proto=http"]},
         (VISITOR, "https", "inside")),
        ({"Forwarded": f"for={VISITOR}, for={CDN};proto=https"}, (VISITOR, "https", "inside")),
        ({"Forwarded": f"for={VISITOR}, for=unknown"}, (PROXY, "http", "inside")),
        ({"Forwarded": f"for={VISITOR}, for=_hidden;proto=https"}, (PROXY, "https", "inside")),
        ({"Forwarded": "proto=https"}, (PROXY, "https", "inside")),
        ({"Forwarded": f", ,for={VISITOR};, "}, (VISITOR, "http", "inside")),
        ({"Forwarded": f'for={VISITOR};x="a,b;for=192.0.2.1\\",\\\\"'}, (VISITOR, "http", "inside")),
        ({"Forwarded": f'for="{VISITOR[:-1]}\\{VISITOR[-1]}"'}, (VISITOR, "http", "inside")),
        ({"Forwarded": f"for={VISITOR};for=192.0.2.1"}, (PROXY, "http", "inside")),
        ({"Forwarded": f"for {VISITOR}"}, (PROXY, "http", "inside")),
        # A quote that the client left open doesn't swallow what the proxy wrote.
        ({"Forwarded": f'for="192.0.2.1, for={VISITOR}'}, (VISITOR, "http", "inside")),
        ({"Forwarded": ['for=192.0.2.1;x="', f'for="{VISITOR}";proto="https"']}, (VISITOR, "https", "inside")),
        ({"X_Forwarded_For": VISITOR, "Forwarded": f"for={VISITOR}"}, (VISITOR, "http", "inside")),
        (
            {"X_Forwarded_For": VISITOR, "X_Forwarded_Proto": "https", "Forwarded": f"for={VISITOR};proto=https"},
            (VISITOR, "https", "inside"),
        ),
        # Both kinds say the same, each in its way.
        (
            {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "A.example", "X_Forwarded_Port": "443",
             "Forwarded": "proto=https;host=a.example"},
            (PROXY, "https", "A.example:443"),
        ),
        (
            {"X_Forwarded_Host": "a.example", "X_Forwarded_Port": "8443", "Forwarded": 'host="a.example:8443"'},
            (PROXY, "http", "a.example:8443"),
        ),
    ],
)  # fmt: skip
def test_whatATrustedProxySays(headers: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """The client is the one whom the nearest proxy, or those behind that which are trusted too, name."""
    assert behind(**headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": VISITOR, "Forwarded": "for=192.0.2.1"},
        {"X_Forwarded_For": VISITOR, "Forwarded": f"for={VISITOR};host=evil.example"},
        {"X_Forwarded_For": VISITOR, "Forwarded": f"for={VISITOR};proto=https"},
        {"X_Forwarded_Proto": "https", "Forwarded": f"for={VISITOR}"},
        {"X_Forwarded_For": VISITOR, "Forwarded": "nonsense"},
        {"X_Forwarded_Host": "a.example", "X_Forwarded_Port": "8443", "Forwarded": "host=a.example"},
    ],
)
def test_aProxyThatContradictsItself(headers: dict[str, Any]) -> None:
    """One of the two is the client's own: none is believed, and the text says what to do."""
    with pytest.raises(HTTPRefusal, match="the proxy has to set one of the two and to remove the other") as caught:
        behind(**headers)
    assert (caught.value.status, caught.value.name) == (400, "trustedProxies")
    assert behind(VISITOR, **headers) == (VISITOR, "http", "inside"), "who isn't trusted isn't listened to"


def test_unixSockets() -> None:
    """Whoever connects to a UNIX socket has no address, and is trusted if the option says so."""
    assert behind(None, isUnix=True, X_Forwarded_For=VISITOR) == (None, "http", "inside")
    trusted = trustedProxies(("unix",))
    assert behind(None, trusted, isUnix=True, X_Forwarded_For=VISITOR) == (VISITOR, "http", "inside")
    assert behind(None, trusted, isUnix=True, Forwarded=f"for={VISITOR}") == (VISITOR, "http", "inside")
    assert behind(None, trusted, isUnix=True) == (None, "http", "inside")
    assert behind(None, trusted, isUnix=True, X_Forwarded_For="?") == (None, "http", "inside")
    assert behind(None, trusted, X_Forwarded_For=VISITOR) == (None, "http", "inside"), "it isn't on a UNIX socket"
    assert behind(PROXY, trusted, X_Forwarded_For=VISITOR) == (PROXY, "http", "inside")


@pytest.mark.parametrize(
    ("network", "address", "isIn"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("10.0.0.0/8", "10.255.0.1", True),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "10.0.0.1", False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", True),
        ("::/0", "10.0.0.1", False),
    ],
)
def test_networks(network: str, address: str, isIn: bool) -> None:
    """IPv4 as IPv6 is IPv4, on both sides."""
    found = addressOf(address)
    assert found is not None
    assert (found in networkOf(network)) is isIn


@pytest.mark.parametrize(
    ("client", "origin"),
    [
        (Client(None, "http", "A.example"), "http://a.example"),
        (Client(None, "http", "a.example:80"), "http://a.example"),
        (Client(None, "https", "a.example:443"), "https://a.example"),
        (Client(None, "https", "a.example:80"), "https://a.example:80"),
        (Client(None, "http", "[::1]:3000"), "http://[::1]:3000"),
        (Client(None, "http", None), None),
    ],
)
def test_origins(client: Client, origin: str | None) -> None:
    """The origin of the server's own pages has no port that its scheme has anyway."""
    assert client.origin == origin


ANYTHING = st.text(st.characters(max_codepoint=255), max_size=60)
NEARLY = st.text(st.sampled_from('for=proto;host,"\\[]:._ \t1203af%unknow'), max_size=60)
NODES = st.lists(
    st.sampled_from([VISITOR, CDN, PROXY, "[2001:db8::1]:80", "unknown", "_x", '"', "\\", "for=", ";", "", ":", "["]),
    max_size=8,
)
VALUES = st.lists(st.one_of(ANYTHING, NEARLY, NODES.map(", ".join)), max_size=3)


@given(st.fixed_dictionaries(dict.fromkeys(HEADERS, VALUES)))
def test_anyHeaders(headers: dict[str, list[str]]) -> None:
    """Whatever stands in the headers: from a trusted proxy there is an answer or a refusal, from others nothing."""
    said = {name.replace("-", "_"): values for name, values in headers.items()}
    assert behind(VISITOR, **said) == (VISITOR, "http", "inside")
    try:
        address, scheme, host = behind(**said)
    except HTTPRefusal:
        return
    assert address == str(ip_address(address or ""))
    assert scheme in ("http", "https")
    assert host is not None
    assert not set(host) & set(' \t"\\,;')


@given(VALUES, st.sampled_from(["for={}", 'for="{}"', 'for="{}:80"', 'x="\\"";for={}', "for={} ; proto=https"]))
def test_whatTheClientWritesChangesNothing(values: list[str], element: str) -> None:
    """Behind whatever a client sends, the address that the proxy adds is the one that counts."""
    assert behind(Forwarded=[*values, element.format(VISITOR)])[0] == VISITOR
    assert behind(X_Forwarded_For=[*values, VISITOR])[0] == VISITOR


# On a server


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
