"""Who a client is behind proxies: what a trusted one says, and nothing that anybody else does."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import HTTPRefusal
from engineio_twisted.protocol.proxies import Client, TrustedProxies, addressOf, clientOf, networkOf, trustedProxies

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
