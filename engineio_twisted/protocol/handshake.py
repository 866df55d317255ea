"""
From a request's method, address and headers to what it wants, or a refusal; and the packet that opens a session.

Everything is decided here from plain values, before anything is answered, taken over or read from a session's
buffer: a request that isn't exactly what it should be never touches a session. docs/protocol.md, "Requests".
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qs

import attrs

from .errors import ConnectionRefusal, ErrorCode, MethodNotAllowed
from .headers import noOrigin, originAllowed
from .options import ServerOptions
from .packet import Packet, PacketType
from .resume import MEMBER, Bounds, Grant, Return, askedFor, member, returnOf, waitsForReturn

UPGRADES: Mapping[str, tuple[str, ...]] = {"polling": ("websocket",), "websocket": ()}
"""To which transports a session on one may move."""


class Named(Protocol):
    """A transport, as far as it matters here."""

    @property
    def name(self) -> str:
        """Return the transport's name, as in the query."""
        ...


class LiveSession(Protocol):
    """A session, as far as it matters here."""

    protocol: int
    _resumption: Any

    @property
    def transport(self) -> Named:
        """Return the transport the session is on."""
        ...


SessionT = TypeVar("SessionT", bound=LiveSession)


class Want(Enum):
    """The purpose of a request."""

    OPEN = "a new session on polling"
    RETURN = "to go on with a session after its connections were lost"
    POLL = "what the server has to send"
    PUSH = "to deliver a payload"
    WEBSOCKET = "a new session on WebSocket"
    UPGRADE = "a WebSocket to move a session to"


@attrs.define
class EngineRequest(Generic[SessionT]):
    """
    A request that may be served.

    @ivar want: what it wants.
    @ivar revision: the revision of the protocol it speaks.
    @ivar session: its session; None if it wants a new one.
    @ivar supportsBinary: False if the client asks for binary as base64.
    @ivar returning: what the client says that comes back.
    @ivar resume: the bounds of a client that wants a session that it can come back to; None if it doesn't.
    @ivar jsonpIndex: the digits by which a script of the client's is found that takes what is sent; None for a
        client that reads answers itself.
    """

    want: Want
    revision: int
    session: SessionT | None
    supportsBinary: bool
    jsonpIndex: str | None = None
    returning: Return | None = None
    resume: Bounds | None = None


_PARAMETERS = re.compile("(?:^|&)([^&=]+)=([^&]*)")
_OURS = ("transport", "EIO", "b64", "sid", "j")


def parseQuery(uri: bytes) -> Mapping[str, str]:
    """
    Return the parameters in a request's address, by name. If a name comes several times, the last value counts.

    From the address alone: `request.args` of twisted.web mixes in the fields of a form in the body.

    @raise ConnectionRefusal: a parameter that the protocol uses comes with different values.
    """
    query = uri.partition(b"?")[2].decode("ascii", "replace")
    if "%" not in query and "+" not in query:
        # Nothing is escaped, as in nearly all of them: the same in a fifth of the time.
        parameters = dict(_PARAMETERS.findall(query))
        if len(parameters) == query.count("&") + 1:
            return parameters
    several = parse_qs(query, keep_blank_values=True)
    for name in _OURS:
        values = several.get(name, ())
        # Clients exist that repeat a parameter. One value is no risk; of different ones a proxy might route by the
        # first while the server reads the last.
        if len(set(values)) > 1:
            context = {"name": "DUPLICATE_PARAMETER", "parameter": name, "values": values}
            message = f"Bad request: the query parameter {name} comes with different values"
            raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context, message)
    return {name: values[-1] for name, values in several.items()}


def _checkOrigin(origins: Iterable[str]) -> None:
    for origin in origins:
        if any((each < " " and each != "\t") or each == "\x7f" for each in origin):
            raise ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "INVALID_ORIGIN", "origin": origin})


def _checkOriginAllowed(
    origins: Sequence[str], options: ServerOptions, isJSONP: bool, own: Callable[[], str | None]
) -> None:
    # A script tag sends no Origin, so that any page might be behind it.
    asking: Sequence[str | None] = origins or ([None] if isJSONP else [])
    for origin in asking:
        if not originAllowed(options.allowedOrigins, origin, own):
            context = {"message": "allowedOrigins does not have the origin", "origin": origin}
            raise ConnectionRefusal(ErrorCode.FORBIDDEN, context)


def _jsonpIndex(query: Mapping[str, str]) -> str | None:
    # Only digits come back, in a script; without one the script would be broken.
    given = query.get("j")
    if given is None:
        return None
    index = "".join(each for each in given if each in string.digits)
    if not index:
        raise ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "INVALID_JSONP_INDEX", "j": given})
    return index


_USUAL = re.compile(
    rb"[^?]*\?EIO=4&transport=polling(?:&t=[\w.-]*)?(?:&sid=([\w-]+)(?:&attempt=(\d{1,15}))?)?(?:&t=[\w.-]*)?"
)
"""The address of a request as clients write it for polling."""

_USUAL_WANTS = {"GET": Want.POLL, "POST": Want.PUSH}
_USUAL_OPENING: EngineRequest[Any] = EngineRequest(Want.OPEN, 4, None, supportsBinary=True)


def classify(
    method: str,
    uri: bytes,
    origins: Sequence[bytes],
    isUpgrade: bool,
    options: ServerOptions,
    find: Callable[[str], SessionT | None],
    own: Callable[[], str | None] = noOrigin,
) -> EngineRequest[SessionT]:
    """
    Decide what a request wants.

    @param origins: the values of its Origin header.
    @param isUpgrade: whether it asks for a WebSocket (L{asksForWebSocket}).
    @param find: returns the live session of an id, or None.
    @param own: returns the origin of the server's own pages, or None; called if C{allowedOrigins} names it.
    @raise ConnectionRefusal: it can't be served.
    @raise MethodNotAllowed: its method is none that a session serves.
    """
    usual = None if isUpgrade or origins else _USUAL.fullmatch(uri)
    if usual is not None:
        # Nearly all of them, decided in a third of the time. What is left to the rest may be right all the same.
        usualId = usual[1]
        if usualId is None:
            if method == "GET" and "polling" in options.transports:
                return _USUAL_OPENING
        elif (usualWant := _USUAL_WANTS.get(method)) is not None:
            session = find(usualId.decode("ascii"))
            if (
                session is not None
                and session.protocol == 4
                and session.transport.name == "polling"
                and (session._resumption is None or session._resumption.serves(int(usual[2] or 0)))
            ):
                return EngineRequest(usualWant, 4, session, True)
    query = parseQuery(uri)
    transport = query.get("transport")
    if transport not in options.transports:
        raise ConnectionRefusal(ErrorCode.UNKNOWN_TRANSPORT, {"transport": transport})
    originTexts = [each.decode("latin-1") for each in origins] if origins else []
    if originTexts:
        _checkOrigin(originTexts)
    revision = 4 if query.get("EIO") == "4" else 3
    supportsBinary = not query.get("b64")
    sid = query.get("sid")
    if not sid:
        want = _wantedWithoutSession(method, transport, revision, isUpgrade, options)
        jsonpIndex = _jsonpIndex(query) if want is Want.OPEN else None
        _checkOriginAllowed(originTexts, options, isJSONP=jsonpIndex is not None, own=own)
        isPlain = jsonpIndex is None
        return EngineRequest(
            want, revision, None, supportsBinary and isPlain, jsonpIndex, resume=askedFor(query) if isPlain else None
        )
    session = find(sid)
    if session is None:
        raise ConnectionRefusal(ErrorCode.UNKNOWN_SID, {"sid": sid})
    returning = None
    if session._resumption is not None:
        returning = returnOf(query, session._resumption.attempt)
    if returning is None:
        _checkTransport(transport, session.transport.name, isUpgrade, options)
    if session.protocol != revision:
        raise ConnectionRefusal(
            ErrorCode.BAD_REQUEST,
            {"name": "PROTOCOL_MISMATCH", "protocol": revision, "previousProtocol": session.protocol},
        )
    want = _wantedOfSession(method, transport, isUpgrade)
    if want is Want.UPGRADE:
        _checkOriginAllowed(originTexts, options, isJSONP=False, own=own)
    if returning is not None:
        if want is Want.PUSH:
            raise MethodNotAllowed(method)
        want = Want.RETURN
    elif session._resumption is not None and session._resumption.suspended is not None:
        raise waitsForReturn()
    return EngineRequest(want, revision, session, supportsBinary, returning=returning)


def _wantedWithoutSession(method: str, transport: str, revision: int, isUpgrade: bool, options: ServerOptions) -> Want:
    if method != "GET":
        raise ConnectionRefusal(ErrorCode.BAD_HANDSHAKE_METHOD, {"method": method})
    if isUpgrade is not (transport == "websocket"):
        raise ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "TRANSPORT_HANDSHAKE_ERROR", "transport": transport})
    if revision != 4 and not options.allowEIO3:
        raise ConnectionRefusal(ErrorCode.UNSUPPORTED_PROTOCOL_VERSION, {"protocol": revision})
    return Want.WEBSOCKET if isUpgrade else Want.OPEN


def _checkTransport(transport: str, previous: str, isUpgrade: bool, options: ServerOptions) -> None:
    if transport != previous and not (isUpgrade and options.allowUpgrades):
        raise ConnectionRefusal(
            ErrorCode.BAD_REQUEST,
            {"name": "TRANSPORT_MISMATCH", "transport": transport, "previousTransport": previous},
        )


def _wantedOfSession(method: str, transport: str, isUpgrade: bool) -> Want:
    if not isUpgrade and transport == "polling":
        # Nearly all of them.
        if method == "GET":
            return Want.POLL
        if method == "POST":
            return Want.PUSH
        raise MethodNotAllowed(method)
    if isUpgrade is not (transport == "websocket"):
        raise ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "TRANSPORT_HANDSHAKE_ERROR", "transport": transport})
    return Want.UPGRADE


def _listing(token: bytes) -> re.Pattern[bytes]:
    """Return what finds a token in a list of them, in any case."""
    return re.compile(rb"(?:\A|,)[ \t\n\r\v\f]*+%b[ \t\n\r\v\f]*+(?:,|\Z)" % token, re.IGNORECASE)


_WEBSOCKET, _UPGRADE = map(_listing, (b"websocket", b"upgrade"))


def asksForWebSocket(upgrade: Iterable[bytes], connection: Iterable[bytes]) -> bool:
    """
    Return whether a request asks to become a WebSocket (RFC 6455, 4.2.1).

    @param upgrade: the values of its Upgrade header.
    @param connection: the values of its Connection header.
    """
    return bool(_WEBSOCKET.search(b",".join(upgrade)) and _UPGRADE.search(b",".join(connection)))


_LINE_BREAKS = re.compile(rb"[\x0b\x0c\x1c-\x1e]")
_NEXT_LINE = b"\x85"
_MAY_BREAK_LINES = re.compile(rb"[\x0b\x0c\x1c-\x1e\x85]")


def _breaksLines(value: bytes) -> bool:
    """Return whether some software takes a byte of a header's value for the end of a line."""
    if _LINE_BREAKS.search(value):
        return True
    if _NEXT_LINE not in value:
        return False
    try:
        # In UTF-8 it is a part of many letters.
        return _NEXT_LINE.decode("latin-1") in value.decode()
    except UnicodeDecodeError:
        return True


_TOKEN = frozenset(b"!#$%&'*+-.^_`|~" + string.digits.encode() + string.ascii_letters.encode())  # RFC 9110, 5.6.2
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64 (RFC 6455, 4.1)


@attrs.frozen
class WebSocketHandshake:
    """
    What of a request's headers the opening handshake of a WebSocket is made from.

    @ivar key: Sec-WebSocket-Key.
    @ivar version: Sec-WebSocket-Version.
    @ivar subprotocol: the first that the client offers, which it gets; None if it offers none.
    @ivar extensions: the values of Sec-WebSocket-Extensions.
    """

    key: bytes
    version: bytes
    subprotocol: str | None = None
    extensions: tuple[bytes, ...] = ()


def checkWebSocketHeaders(method: str, headers: Mapping[bytes, Sequence[bytes]]) -> WebSocketHandshake:
    """
    Check the opening handshake of a WebSocket (RFC 6455, 4.2.1).

    @param headers: all headers of the request, by name in lower case.
    @raise ConnectionRefusal: it is none; C{context["reason"]} says what is wrong.
    """

    def refusal(reason: str, headers: Mapping[str, str] | None = None) -> ConnectionRefusal:
        context = {"name": "TRANSPORT_HANDSHAKE_ERROR", "transport": "websocket", "reason": reason}
        return ConnectionRefusal(ErrorCode.BAD_REQUEST, context, headers=headers)

    # Software that splits header lines as Python splits text sees two headers instead of one
    # (docs/architecture/engines.md). Hardly any value has such a byte.
    if _MAY_BREAK_LINES.search(b"".join([value for values in headers.values() for value in values])):
        for name, values in headers.items():
            if any(map(_breaksLines, values)):
                raise refusal(f"header {name.decode('latin-1')}: a byte that some take for the end of a line")
    if method != "GET":
        raise refusal(f"method {method}: expected GET")
    if len(headers.get(b"host", ())) != 1:
        raise refusal("expected one Host")
    version = b",".join(headers.get(b"sec-websocket-version", ())).strip()
    if version not in (b"13", b"8"):
        # Spelled as twisted.web writes it, so that all sites send the same.
        raise refusal(
            f"Sec-WebSocket-Version {version.decode('latin-1')!r}: expected 13", {"Sec-Websocket-Version": "13, 8"}
        )
    key = b",".join(headers.get(b"sec-websocket-key", ())).strip()
    if not _KEY.fullmatch(key):
        raise refusal(f"Sec-WebSocket-Key {key[:64].decode('latin-1')!r}: expected 16 bytes in base64")
    offered = [each.strip() for value in headers.get(b"sec-websocket-protocol", ()) for each in value.split(b",")]
    for each in offered:
        if not each or not _TOKEN.issuperset(each):
            raise refusal(f"Sec-WebSocket-Protocol {each[:64].decode('latin-1')!r}: expected a token")
    extensions = tuple(headers.get(b"sec-websocket-extensions", ()))
    return WebSocketHandshake(key, version, offered[0].decode("ascii") if offered else None, extensions)


def upgradesOf(transport: str, options: ServerOptions) -> tuple[str, ...]:
    """Return the transports, of those enabled, to which a session on the given one may move."""
    return _upgradesOf(transport, options.transports) if options.allowUpgrades else ()


@cache
def _upgradesOf(transport: str, enabled: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([each for each in UPGRADES[transport] if each in enabled])


def openPacket(sid: str, upgrades: tuple[str, ...], options: ServerOptions, grant: Grant | None = None) -> Packet:
    """
    Return the packet that opens a session: its id, and what the client needs to know of the options.

    @param grant: what it says of resuming; None if it says nothing.
    """
    rest = _opening(upgrades, options.pingInterval, options.pingTimeout, options.maxHttpBufferSize)
    if grant is not None:
        rest = f'{rest[:-1]},"{MEMBER}":{json.dumps(member(grant), separators=(",", ":"))}}}'
    return Packet(PacketType.OPEN, f'{{"sid":{_quoted(sid)},{rest}')


_quoted = json.encoder.encode_basestring_ascii


@cache
def _opening(upgrades: tuple[str, ...], pingInterval: int, pingTimeout: int, maxPayload: int) -> str:
    """Return the text behind the id, which is the same for all sessions of a server."""
    opening = {
        "upgrades": upgrades,
        "pingInterval": pingInterval,
        "pingTimeout": pingTimeout,
        "maxPayload": maxPayload,
    }
    return json.dumps(opening, separators=(",", ":"))[1:]
