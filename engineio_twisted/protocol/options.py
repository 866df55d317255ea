"""The options of a server: each validated when it is given, none ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import attrs

from .errors import OptionError
from .option_parts import Cookie, Cors, HttpCompression, PerMessageDeflate
from .origin_rules import OriginRule, allowedOrigins, asOriginRule
from .proxies import UNIX, Address, Network, networkOf
from .validators import (
    asBytes,
    asTuple,
    callableOrNone,
    checkNames,
    flag,
    matching,
    oneOf,
    option,
    orNone,
    part,
    refused,
    splitAtCommas,
    wholeNumber,
    withoutTrailingSlash,
)

TRANSPORTS = ("polling", "websocket")
"""The names of the transports there are."""


def _transportNames(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # What is no text may not be hashable.
    names = value if isinstance(value, tuple) and all(isinstance(each, str) for each in value) else ()
    if not names or len(set(names)) != len(names) or not set(names) <= set(TRANSPORTS):
        raise refused(attribute, value, f"a list of one or more of {', '.join(TRANSPORTS)}, each once")


def _urlPath(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    allowed = isinstance(value, str) and value.isascii() and value.isprintable() and not set(" ?#%") & set(value)
    if not allowed or not str(value).startswith("/") or not str(value).strip("/") or "//" in str(value):
        raise refused(attribute, value, "the path of a URL, such as '/engine.io'")


def _proxies(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    expected = f"addresses or networks such as '10.0.0.0/8', or '{UNIX}': a list, or text with commas between them"
    if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
        raise refused(attribute, value, expected)
    for each in value:
        try:
            if each != UNIX:
                networkOf(each)
        except ValueError as error:
            raise OptionError(attribute.name, value, f"expected {expected}; not {each!r} ({error})") from None


def _asProxies(value: object) -> object:
    value = splitAtCommas(value)
    if not isinstance(value, tuple):
        return value
    return tuple(str(each) if isinstance(each, Address | Network) else each for each in value)


def _message(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    isText = isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
    if not isText and not isinstance(value, bytes):
        raise refused(attribute, value, "text that UTF-8 can carry, bytes or None")


def _webSocketEngine(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value) or not hasattr(value, "supportsPerMessageDeflate"):
        raise refused(attribute, value, "None for Autobahn, or a class that implements IWebSocketEngine")


class OptionKeywords(TypedDict, total=False):
    """The options by name, for type checkers: what C{**options} may hold. L{ServerOptions} says what each is."""

    pingInterval: int
    pingTimeout: int
    upgradeTimeout: int
    maxHttpBufferSize: int
    maxBufferedPackets: int
    maxBufferedBytes: int
    bufferLimitAction: str
    transports: Sequence[str]
    allowUpgrades: bool
    allowRequest: Callable[[Any], Any] | None
    allowedOrigins: OriginRule
    perMessageDeflate: PerMessageDeflate | Mapping[str, Any] | bool | None
    httpCompression: HttpCompression | Mapping[str, Any] | bool | None
    cookie: Cookie | Mapping[str, Any] | bool | None
    cors: Cors | Mapping[str, Any] | bool | None
    wsEngine: Any
    idPrefix: str
    initialPacket: str | bytes | bytearray | memoryview | None
    allowEIO3: bool
    trustedProxies: Sequence[str] | str | None
    maxSessions: int | None
    maxSessionsPerAddress: int | None
    maxHandshakesPerSecondPerAddress: int | None
    maxPacketsPerPayload: int | None
    maxMessagesPerSecond: int | None
    maxBytesPerSecond: int | None
    maxHeaderSize: int
    maxUrlLength: int
    headersTimeout: int | None
    keepAliveTimeout: int | None
    httpRequestBodyTimeout: int
    firstPacketTimeout: int | None
    path: str
    addTrailingSlash: bool
    destroyUpgrade: bool
    destroyUpgradeTimeout: int
    drainTimeout: int


@attrs.frozen(kw_only=True, init=False)
class ServerOptions:
    """
    The options of a L{Server}, under the names and in the units of the reference.

    Immutable; C{attrs.evolve} makes a changed copy. Each field has its description in its metadata, under C{help}.

    @raise OptionError: an unknown name, a wrong type or a value out of range.
    """

    pingInterval: int = option(
        25000,
        wholeNumber("milliseconds"),
        "Milliseconds from a client's pong to the next ping. Keep it below the time after which a proxy in front"
        " cuts an idle request, often 30 or 60 seconds.",
    )
    pingTimeout: int = option(
        20000,
        wholeNumber("milliseconds"),
        "Milliseconds a client has to answer a ping, without those in which receiving is paused. Browsers slow down"
        " the timers of tabs in the background, so a few seconds are too short. While bytes of a message arrive there"
        " are 30 seconds more at most.",
    )
    upgradeTimeout: int = option(
        10000,
        wholeNumber("milliseconds"),
        "Milliseconds a WebSocket has to complete the upgrade of a polling session; the session goes on polling.",
    )
    maxHttpBufferSize: int = option(
        1_000_000,
        wholeNumber("bytes"),
        "Bytes of the largest POST body, and of the largest WebSocket message, that a client may send.",
    )
    maxBufferedPackets: int = option(
        100_000,
        wholeNumber("packets"),
        "How many packets may wait for a client that doesn't take what it is sent.",
    )
    maxBufferedBytes: int = option(
        32_000_000,
        wholeNumber("bytes"),
        "How many bytes may, with those that its connection hasn't taken. A message that is larger is sent where"
        " nothing else waits.",
    )
    bufferLimitAction: str = option(
        "close",
        oneOf("close", "drop", "raise"),
        "What becomes of a message over these limits: close ends the session, drop leaves the message out and tells"
        " its callback, raise raises BufferLimitExceeded in the call that sends it.",
    )
    transports: tuple[str, ...] = option(
        TRANSPORTS, _transportNames, "The transports on which clients may connect.", asTuple
    )
    allowUpgrades: bool = option(True, flag, "Whether a polling session may move to WebSocket.")
    allowRequest: Callable[[Any], Any] | None = option(
        None,
        callableOrNone,
        "Called with the request that wants to open a session. A true answer (plain, from a Deferred or a coroutine)"
        " lets it, a false one refuses; RequestRefused(text), raised, refuses with that text.",
    )
    allowedOrigins: OriginRule = option(
        "*",
        allowedOrigins,
        "Which origins' pages may open a session or a WebSocket; 'self' is that of the server's own,"
        " 'https://*.example.com' all below a domain, 'http://localhost:*' all ports. A client that sends no Origin"
        " may, unless it asks for JSONP. Browsers let any page open a WebSocket, with the visitor's cookies, and `cors`"
        " doesn't change that.",
        asOriginRule,
    )
    perMessageDeflate: PerMessageDeflate | None = option(
        None,
        None,
        "Compression of WebSocket messages: False, True, or PerMessageDeflate settings. Takes memory for each client.",
        part("perMessageDeflate", PerMessageDeflate),
    )
    httpCompression: HttpCompression | None = option(
        HttpCompression(),
        None,
        "Compression of what polling sends: True, False, or HttpCompression settings.",
        part("httpCompression", HttpCompression),
    )
    cookie: Cookie | None = option(
        None,
        None,
        "A cookie with the session's id, for a balancer to route by: False, True, or Cookie settings.",
        part("cookie", Cookie),
    )
    cors: Cors | None = option(
        None,
        None,
        "Which pages of other origins may read what the server answers: False for none, or Cors settings.",
        part("cors", Cors, hasDefaults=False),
    )
    wsEngine: Any = option(
        None,
        orNone(_webSocketEngine),
        "What implements WebSocket: a class that implements IWebSocketEngine. None is Autobahn.",
    )
    idPrefix: str = option(
        "",
        matching("[0-9A-Za-z._~-]{0,32}", "up to 32 letters, digits and signs of ._~-"),
        "What every session id begins with, such as the name of this process: by it a balancer knows from the `sid` of"
        " a request which process has the session. Ids that a replaced `generateId` makes are left as they are.",
    )
    initialPacket: str | bytes | None = option(
        None, orNone(_message), "A message for each client that connects, sent with the open packet.", asBytes
    )
    allowEIO3: bool = option(
        False, flag, "Whether clients of revision 3 of the protocol may connect: engine.io-client before version 4."
    )
    trustedProxies: tuple[str, ...] | None = option(
        None,
        orNone(_proxies),
        "The proxies in front, by address or network, or 'unix' for who connects to a UNIX socket. From them alone,"
        " X-Forwarded-For, -Proto, -Host and -Port, or Forwarded, say who a client is.",
        _asProxies,
    )
    maxSessions: int | None = option(
        100_000,
        orNone(wholeNumber("sessions")),
        "How many sessions there may be; further ones are refused with 503. None is any number.",
    )
    maxSessionsPerAddress: int | None = option(
        10_000,
        orNone(wholeNumber("sessions")),
        "How many sessions one client's address, or one /64 network of IPv6, may have; further ones are refused with"
        " 429. Addresses that aren't of the Internet don't count unless `trustedProxies` is set. None is any number.",
    )
    maxHandshakesPerSecondPerAddress: int | None = option(
        1000,
        orNone(wholeNumber("handshakes")),
        "How many sessions one such address may ask for in a second; further ones are refused with 429. None is any"
        " number.",
    )
    maxPacketsPerPayload: int | None = option(
        None,
        orNone(wholeNumber("packets")),
        "How many packets a POST may hold; one with more is refused with 413, and nothing of it delivered. None is any"
        " number: a large payload is delivered in turns.",
    )
    maxMessagesPerSecond: int | None = option(
        None,
        orNone(wholeNumber("packets")),
        "How many packets a client may send in a second, before its session ends with `rate limit exceeded`. None is"
        " any number.",
    )
    maxBytesPerSecond: int | None = option(
        None,
        orNone(wholeNumber("bytes")),
        "How many bytes of packets it may. None is any number.",
    )
    maxHeaderSize: int = option(
        16384,
        wholeNumber("bytes"),
        "Bytes of a request's line and headers; one with more is refused with 431. Of connections of a Site of ours.",
    )
    maxUrlLength: int = option(
        8192,
        wholeNumber("bytes"),
        "Bytes of a request's address; a longer one is refused with 414. Of connections of a Site of ours.",
    )
    headersTimeout: int | None = option(
        20000,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds in which the headers of a request have to come, from its first byte, or, of the first on a"
        " connection, from the beginning of that; then 408. Of connections of a Site of ours. None is no limit.",
    )
    keepAliveTimeout: int | None = option(
        75000,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds after which a connection on which nothing is asked is closed: more than a proxy in front keeps"
        " its own. Of connections of a Site of ours. None is no limit.",
    )
    httpRequestBodyTimeout: int = option(
        30000,
        wholeNumber("milliseconds"),
        "Milliseconds in which the body of a POST has to come; then it is refused with 408, and its session ends.",
    )
    firstPacketTimeout: int | None = option(
        None,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds from the opening of a session to the client's first request or packet, before it ends with"
        " `ping timeout`. None is as long as heartbeats allow.",
    )
    path: str = option("/engine.io", _urlPath, "The path that `attach` and `listen` serve.", withoutTrailingSlash)
    addTrailingSlash: bool = option(
        True,
        flag,
        "Whether `attach` captures everything below the path too, or only the path itself. With or without a"
        " slash at its end the path is served either way.",
    )
    destroyUpgrade: bool = option(
        True, flag, "Whether `attach` closes upgrade requests outside the path that nobody answers."
    )
    destroyUpgradeTimeout: int = option(
        1000, wholeNumber("milliseconds"), "After how many milliseconds `destroyUpgrade` does."
    )
    drainTimeout: int = option(
        5000,
        wholeNumber("milliseconds"),
        "Milliseconds that sessions have to take what was sent to them, and to end, when the server is drained. Three"
        " seconds more may pass for connections: keep below the time after which whoever stops the process kills it.",
    )

    def __init__(self, **options: Unpack[OptionKeywords]) -> None:
        checkNames(options, ServerOptions)
        # The fields hold what the converters make of what may be given.
        self.__attrs_init__(**options)  # type: ignore[arg-type]
        if self.perMessageDeflate is not None and not getattr(self.wsEngine, "supportsPerMessageDeflate", True):
            name = getattr(self.wsEngine, "__name__", self.wsEngine)
            raise OptionError("perMessageDeflate", self.perMessageDeflate, f"wsEngine {name} can't compress messages")
