"""What a request wants, or why it is refused: decided from plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol import handshake
from engineio_twisted.protocol.errors import ConnectionRefusal, ErrorCode, HTTPRefusal, MethodNotAllowed
from engineio_twisted.protocol.handshake import (
    Want,
    asksForWebSocket,
    checkWebSocketHeaders,
    classify,
    openPacket,
    parseQuery,
    upgradesOf,
)
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import PacketType


@attrs.define
class Named:
    name: str


@attrs.define
class Session:
    protocol: int
    transport: Named
    _resumption: Any = None


SESSIONS = {
    "poll": Session(4, Named("polling")),
    "ws": Session(4, Named("websocket")),
    "old": Session(3, Named("polling")),
}


def wanted(query: str, method: str = "GET", upgrade: bool = False, origin: bytes = b"", **options: Any) -> Any:
    return classify(
        method,
        b"/engine.io/?" + query.encode(),
        [origin] if origin else [],
        upgrade,
        ServerOptions(**options),
        SESSIONS.get,
    )


def refused(*args: Any, **keywords: Any) -> tuple[int, dict[str, object]]:
    with pytest.raises(ConnectionRefusal) as caught:
        wanted(*args, **keywords)
    return caught.value.code, dict(caught.value.context)


@pytest.mark.parametrize(
    ("query", "method", "upgrade", "want"),
    [
        ("EIO=4&transport=polling", "GET", False, Want.OPEN),
        ("EIO=4&transport=polling&sid=", "GET", False, Want.OPEN),
        ("EIO=4&transport=websocket", "GET", True, Want.WEBSOCKET),
        ("EIO=4&transport=polling&sid=poll", "GET", False, Want.POLL),
        ("EIO=4&transport=polling&sid=poll&t=abc&foo=bar", "GET", False, Want.POLL),
        ("EIO=4&transport=polling&sid=poll", "POST", False, Want.PUSH),
        ("EIO=4&transport=websocket&sid=poll", "GET", True, Want.UPGRADE),
        ("EIO=4&transport=websocket&sid=ws", "GET", True, Want.UPGRADE),
    ],
)
def test_whatRequestsWant(query: str, method: str, upgrade: bool, want: Want) -> None:
    """Each kind of request is known for what it is."""
    request = wanted(query, method, upgrade)
    assert request.want is want
    assert request.revision == 4
    assert request.session is (SESSIONS.get(parseQuery(b"?" + query.encode()).get("sid", "")))


def test_binarySupport() -> None:
    """A client may ask for binary as base64."""
    assert wanted("EIO=4&transport=polling").supportsBinary is True
    assert wanted("EIO=4&transport=polling&b64=1").supportsBinary is False


@pytest.mark.parametrize(
    "transport", ["", "transport=", "transport=constructor", "transport=__proto__", "transport=webtransport"]
)
def test_unknownTransport(transport: str) -> None:
    """Only a transport that is enabled is one."""
    code, context = refused(f"EIO=4&{transport}")
    assert code == ErrorCode.UNKNOWN_TRANSPORT
    assert context["transport"] in (None, transport.partition("=")[2])
    assert refused("EIO=4&transport=websocket", upgrade=True, transports=["polling"])[0] == 0


@pytest.mark.parametrize("sid", ["nobody", "__proto__", "%00", "%FF%FE", "a" * 10_000])
@pytest.mark.parametrize("upgrade", [False, True])
def test_unknownSession(sid: str, upgrade: bool) -> None:
    """An id that no live session has is refused, plain and for an upgrade."""
    transport = "websocket" if upgrade else "polling"
    code, context = refused(f"EIO=4&transport={transport}&sid={sid}", upgrade=upgrade)
    assert (code, set(context)) == (ErrorCode.UNKNOWN_SID, {"sid"})


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "DELETE", "get"])
def test_handshakesAreByGet(method: str) -> None:
    """Nothing but a GET opens a session."""
    assert refused("EIO=4&transport=polling", method) == (ErrorCode.BAD_HANDSHAKE_METHOD, {"method": method})


@pytest.mark.parametrize("origin", [b"http://a\x00b", b"http://a\x0b", b"\x7f", b"a\x1f"])
def test_invalidOrigin(origin: bytes) -> None:
    """An Origin with a control character is refused."""
    code, context = refused("EIO=4&transport=polling", origin=origin)
    assert (code, context["name"]) == (ErrorCode.BAD_REQUEST, "INVALID_ORIGIN")


@pytest.mark.parametrize("origin", [b"http://example.com", b"null", b"a\tb", b"http://\xc3\xa4"])
def test_validOrigin(origin: bytes) -> None:
    """Every other Origin is none of the handshake's business."""
    assert wanted("EIO=4&transport=polling", origin=origin).want is Want.OPEN


@pytest.mark.parametrize(
    ("query", "upgrade", "previous"),
    [
        ("EIO=4&transport=websocket&sid=poll", False, "polling"),
        ("EIO=4&transport=polling&sid=ws", False, "websocket"),
    ],
)
def test_transportMismatch(query: str, upgrade: bool, previous: str) -> None:
    """A session is served on its own transport; the refusal names both."""
    other = {"polling": "websocket", "websocket": "polling"}[previous]
    assert refused(query, upgrade=upgrade) == (
        ErrorCode.BAD_REQUEST,
        {"name": "TRANSPORT_MISMATCH", "transport": other, "previousTransport": previous},
    )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("EIO=3&transport=websocket&sid=poll", {}),
        ("EIO=3&transport=polling&sid=ws", {}),
        ("EIO=4&transport=websocket&sid=old", {"allowEIO3": True}),
    ],
)
def test_transportMismatchComesFirst(query: str, options: dict[str, Any]) -> None:
    """A request with the wrong transport and the wrong revision is refused for its transport."""
    assert refused(query, **options)[1]["name"] == "TRANSPORT_MISMATCH"


def test_protocolMismatchOfAnUpgrade() -> None:
    """An upgrade may have another transport; what is wrong with this one is the revision."""
    code, context = refused("EIO=3&transport=websocket&sid=poll", upgrade=True)
    assert (code, context["name"]) == (ErrorCode.BAD_REQUEST, "PROTOCOL_MISMATCH")
    code, context = refused("EIO=3&transport=websocket&sid=poll", upgrade=True, allowUpgrades=False)
    assert (code, context["name"]) == (ErrorCode.BAD_REQUEST, "TRANSPORT_MISMATCH")


def test_noUpgradesWhereTheyAreOff() -> None:
    """With allowUpgrades off a WebSocket for a polling session is just the wrong transport."""
    code, context = refused("EIO=4&transport=websocket&sid=poll", upgrade=True, allowUpgrades=False)
    assert (code, context["name"]) == (ErrorCode.BAD_REQUEST, "TRANSPORT_MISMATCH")


@pytest.mark.parametrize(
    ("query", "upgrade"),
    [
        ("EIO=4&transport=websocket", False),
        ("EIO=4&transport=websocket&sid=ws", False),
        ("EIO=4&transport=polling", True),
        ("EIO=4&transport=polling&sid=poll", True),
    ],
)
def test_transportHandshakeError(query: str, upgrade: bool) -> None:
    """A WebSocket needs the Upgrade header, and polling doesn't have it."""
    code, context = refused(query, upgrade=upgrade)
    assert (code, context["name"]) == (ErrorCode.BAD_REQUEST, "TRANSPORT_HANDSHAKE_ERROR")


@pytest.mark.parametrize(("eio", "protocol"), [("", 3), ("EIO=3&", 3), ("EIO=5&", 3), ("EIO=&", 3), ("EIO=04&", 3)])
def test_unsupportedProtocol(eio: str, protocol: int) -> None:
    """Anything but 4 is revision 3, which isn't served."""
    expected = (ErrorCode.UNSUPPORTED_PROTOCOL_VERSION, {"protocol": protocol})
    assert refused(f"{eio}transport=polling") == expected
    assert refused(f"{eio}transport=websocket", upgrade=True) == expected


def test_protocolMismatch() -> None:
    """A session stays with the revision it began with."""
    context = {"name": "PROTOCOL_MISMATCH", "protocol": 3, "previousProtocol": 4}
    assert refused("EIO=3&transport=polling&sid=poll") == (ErrorCode.BAD_REQUEST, context)
    assert refused("EIO=4&transport=polling&sid=old")[1]["name"] == "PROTOCOL_MISMATCH"


DOUBLED = {"EIO": "4", "transport": "polling", "sid": "poll", "b64": "1"}


@pytest.mark.parametrize("other", ["other", "", "%34%20"])
@pytest.mark.parametrize("name", DOUBLED)
def test_duplicateParameters(name: str, other: str) -> None:
    """What a proxy and the server could read differently is refused, and the client is told which it is."""
    doubled = "&".join([*(f"{key}={value}" for key, value in DOUBLED.items()), f"{name}={other}"])
    code, context = refused(doubled)
    assert (code, context["name"], context["parameter"]) == (ErrorCode.BAD_REQUEST, "DUPLICATE_PARAMETER", name)
    with pytest.raises(ConnectionRefusal) as caught:
        wanted(doubled)
    assert f"query parameter {name} comes with different values" in json.loads(caught.value.asJSON())["message"]


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("name", DOUBLED)
def test_repeatedParameters(name: str, times: int) -> None:
    """A client that repeats itself says nothing new: it is served, however it writes the same."""
    escaped = f"%{ord(DOUBLED[name][0]):02x}{DOUBLED[name][1:]}"
    for value in (DOUBLED[name], escaped):
        repeated = "&".join([*(f"{key}={value}" for key, value in DOUBLED.items()), *[f"{name}={value}"] * (times - 1)])
        assert wanted(repeated).want is Want.POLL
        assert wanted(repeated, "POST").session is wanted(repeated).session is not None
        opening = repeated.replace("sid=poll", "sid=")
        if name != "sid":
            assert wanted(opening).want is Want.OPEN
    assert wanted("EIO=4&transport=polling&t=1&t=2&x=1&x=2").want is Want.OPEN
    assert wanted("EIO=4&transport=websocket&transport=websocket&EIO=4", upgrade=True).want is Want.WEBSOCKET
    assert wanted("EIO=4&transport=polling&j=3&j=3").jsonpIndex == "3"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "BREW"])
def test_otherMethodsOnASession(method: str) -> None:
    """They are told which are possible; it isn't the protocol's error."""
    with pytest.raises(MethodNotAllowed) as caught:
        wanted("EIO=4&transport=polling&sid=poll", method)
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "GET, POST"})


def test_refusalsCarryTheirAnswer() -> None:
    """Status and body are those of the protocol."""
    with pytest.raises(ConnectionRefusal) as caught:
        wanted("EIO=4&transport=x")
    assert (caught.value.status, caught.value.asJSON()) == (400, '{"code":0,"message":"Transport unknown"}')
    assert ConnectionRefusal(ErrorCode.FORBIDDEN, {}).status == 403


@given(st.binary(), st.sampled_from(["GET", "POST"]), st.booleans())
def test_anyAddressIsServedOrRefused(query: bytes, method: str, upgrade: bool) -> None:
    """No address makes the handshake fail in another way."""
    try:
        classify(method, b"/?EIO=4&transport=polling&" + query, [], upgrade, ServerOptions(), SESSIONS.get)
    except HTTPRefusal:
        pass


# WebSocket

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEADERS = {b"sec-websocket-key": [KEY], b"sec-websocket-version": [b"13"], b"host": [b"localhost"]}


@pytest.mark.parametrize(
    ("upgrade", "connection", "is_"),
    [
        ([b"websocket"], [b"Upgrade"], True),
        ([b"WebSocket"], [b"keep-alive, Upgrade"], True),
        ([b"h2c, websocket"], [b"keep-alive", b"upgrade"], True),
        ([b"h2c"], [b"Upgrade"], False),
        ([b"websocket"], [b"keep-alive"], False),
        ([], [b"Upgrade"], False),
        ([b"websocket"], [], False),
    ],
)
def test_asksForWebSocket(upgrade: list[bytes], connection: list[bytes], is_: bool) -> None:
    """Both headers are lists of tokens, in any case."""
    assert asksForWebSocket(upgrade, connection) is is_


@given(st.lists(st.lists(st.sampled_from([b"websocket", b"WebSocket", b"upgrade", b",", b" ", b"\t", b"x", b"\n"]))))
def test_tokens(parts: list[list[bytes]]) -> None:
    """A token is what stands between commas, without the blanks around it."""
    values = [b"".join(each) for each in parts]
    tokens = {token.strip().lower() for value in values for token in value.split(b",")}
    assert asksForWebSocket(values, [b"Upgrade"]) is (b"websocket" in tokens)
    assert asksForWebSocket([b"websocket"], values) is (b"upgrade" in tokens)


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [([], None), ([b"chat"], "chat"), ([b"a.b-c, chat"], "a.b-c"), ([b" x ", b"y"], "x")],
)
def test_webSocketHandshake(offered: list[bytes], spoken: str | None) -> None:
    """What the opening handshake is made from."""
    handshake = checkWebSocketHeaders("GET", {**HEADERS, b"sec-websocket-protocol": offered})
    assert (handshake.key, handshake.version, handshake.subprotocol) == (KEY, b"13", spoken)


@pytest.mark.parametrize(
    ("change", "method"),
    [
        ({b"sec-websocket-key": []}, "GET"),
        ({b"sec-websocket-key": [b"short=="]}, "GET"),
        ({b"sec-websocket-key": [KEY[:-1] + b"A"]}, "GET"),
        ({b"sec-websocket-key": [b"\r\nX: y" + KEY[7:]]}, "GET"),
        ({b"sec-websocket-key": [KEY, KEY]}, "GET"),
        ({b"sec-websocket-version": []}, "GET"),
        ({b"sec-websocket-version": [b"12"]}, "GET"),
        ({b"sec-websocket-version": [b"13", b"13"]}, "GET"),
        ({b"sec-websocket-protocol": [b""]}, "GET"),
        ({b"sec-websocket-protocol": [b"a,,b"]}, "GET"),
        ({b"sec-websocket-protocol": [b"a b"]}, "GET"),
        ({b"sec-websocket-protocol": [b"a\xffb"]}, "GET"),
        ({b"host": []}, "GET"),
        ({b"host": [b"localhost", b"example.com"]}, "GET"),
        ({}, "POST"),
    ],
)
def test_badWebSocketHandshake(change: dict[bytes, list[bytes]], method: str) -> None:
    """The refusal says what is wrong with it."""
    with pytest.raises(ConnectionRefusal, match="Bad request") as caught:
        checkWebSocketHeaders(method, {**HEADERS, **change})
    assert caught.value.context["name"] == "TRANSPORT_HANDSHAKE_ERROR"
    assert "expected" in str(caught.value.context["reason"])
    assert ("Sec-Websocket-Version" in caught.value.headers) is (b"sec-websocket-version" in change)


@pytest.mark.parametrize("byte", b"\x0b\x0c\x1c\x1d\x1e\x85")
def test_bytesThatSomeTakeForLineBreaks(byte: int) -> None:
    """In any header of a WebSocket's request they are refused."""
    with pytest.raises(ConnectionRefusal) as caught:
        checkWebSocketHeaders("GET", {**HEADERS, b"x-any": [b"fine", b"a%cb" % byte]})
    assert "x-any" in str(caught.value.context["reason"])


@pytest.mark.parametrize("value", ["Århus", "Михаил Хаустов", "Å", "\u2005", "\U00010085", "a\u0445b\u0405"])
def test_letters(value: str) -> None:
    """Proxies set names in UTF-8, where the byte 0x85 is a part of many letters."""
    assert b"\x85" in value.encode()
    assert checkWebSocketHeaders("GET", {**HEADERS, b"x-name": [value.encode()]}).version == b"13"


@pytest.mark.parametrize("value", [b"\xc2\x85", "Å\u0085".encode(), "Å".encode() + b"\x85", b"\xc5\x85\xff", b"\x85"])
def test_noLetters(value: bytes) -> None:
    """By itself that byte ends a line, and so does the character of that number."""
    with pytest.raises(ConnectionRefusal):
        checkWebSocketHeaders("GET", {**HEADERS, b"x-name": [value]})


# The short way


@pytest.mark.parametrize(
    ("query", "isUsual"),
    [
        ("EIO=4&transport=polling", True),
        ("EIO=4&transport=polling&t=P8kXz.3_-", True),
        ("EIO=4&transport=polling&sid=a-_9", True),
        ("EIO=4&transport=polling&sid=a&t=b", True),
        ("EIO=4&transport=polling&t=b&sid=a", True),
        ("EIO=4&transport=polling&sid=a&sid=b", False),
        ("EIO=4&transport=polling&sid=", False),
        ("EIO=4&transport=polling&sid=a%62", False),
        ("EIO=4&transport=polling&b64=1", False),
        ("EIO=4&transport=polling&j=0", False),
        ("EIO=4&transport=polling&sid=a&transport=websocket", False),
        ("EIO=4&transport=polling&token=x", False),
        ("EIO=3&transport=polling", False),
        ("EIO=4&transport=websocket", False),
        ("transport=polling&EIO=4", False),
        ("", False),
    ],
)
def test_usualRequest(query: str, isUsual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses as clients write them for polling are understood without taking the query apart, others aren't."""
    looked: list[bytes] = []

    def look(uri: bytes) -> Mapping[str, str]:
        looked.append(uri)
        return parseQuery(uri)

    monkeypatch.setattr(handshake, "parseQuery", look)
    with suppress(ConnectionRefusal):
        classify("GET", b"/engine.io/?" + query.encode(), [], False, ServerOptions(), lambda sid: SESSIONS["poll"])
    assert (looked == []) is isUsual


PIECES = [
    "EIO=4",
    "EIO=3",
    "transport=polling",
    "transport=websocket",
    "sid=poll",
    "sid=ws",
    "t=1",
    "b64=1",
    "j=1",
    "x",
]


def outcome(*args: Any) -> object:
    try:
        return classify(*args, SESSIONS.get)
    except HTTPRefusal as refusal:
        return type(refusal), refusal.status, refusal.message, getattr(refusal, "context", None)


@given(
    st.lists(st.sampled_from(PIECES), max_size=6),
    st.sampled_from(["&", "&&", "?", "%26"]),
    st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    st.booleans(),
    st.sampled_from(
        [{}, {"transports": ["websocket"]}, {"allowEIO3": True}, {"allowedOrigins": ["https://a.example"]}]
    ),
)
def test_theShortWayLeadsWhereTheLongOneDoes(
    pieces: list[str], separator: str, method: str, isUpgrade: bool, options: dict[str, Any]
) -> None:
    """A parameter of no meaning more, with which an address isn't the usual one, changes nothing."""
    made = ServerOptions(**options)
    for query in (separator.join(pieces), "EIO=4&transport=polling&" + separator.join(pieces)):
        uri = b"/engine.io/?" + query.encode()
        assert outcome(method, uri, [], isUpgrade, made) == outcome(method, uri + b"&_=1", [], isUpgrade, made)


# The open packet


def test_openPacket() -> None:
    """It holds the id, and what the client needs to know of the options."""
    options = ServerOptions(pingInterval=1, pingTimeout=2, maxHttpBufferSize=3)
    packet = openPacket("me", ("websocket",), options)
    assert packet.type is PacketType.OPEN
    expected = {"sid": "me", "upgrades": ["websocket"], "pingInterval": 1, "pingTimeout": 2, "maxPayload": 3}
    assert json.loads(packet.data) == expected


def test_upgradesOf() -> None:
    """Only to a transport that is enabled, and only where upgrades are."""
    assert upgradesOf("polling", ServerOptions()) == ("websocket",)
    assert upgradesOf("websocket", ServerOptions()) == ()
    assert upgradesOf("polling", ServerOptions(allowUpgrades=False)) == ()
    assert upgradesOf("polling", ServerOptions(transports=["polling"])) == ()
