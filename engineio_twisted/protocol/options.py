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


def transportNames(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """
    Refuse what isn't a tuple of the names of transports.

    @raise OptionError: it isn't.
    """
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
    resumeTimeout: int | None
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

    Immutable; C{attrs.evolve} makes a changed copy. Each field has its description in its metadata, under C{help};
    docs/options.md lists them.

    @raise OptionError: an unknown name, a wrong type or a value out of range.
    """

    pingInterval: int = option(
        25000,
        wholeNumber("milliseconds"),
        "Milliseconds from a client's pong to the next ping; stay below the idle timeout of every proxy in front.",
        group="heartbeat",
        metavar="MS",
    )
    pingTimeout: int = option(
        20000,
        wholeNumber("milliseconds"),
        "Milliseconds a client has to answer a ping before its session ends.",
        group="heartbeat",
        metavar="MS",
    )
    resumeTimeout: int | None = option(
        None,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds for which a session that has lost its connection waits for its client, if that can resume it.",
        group="heartbeat",
        metavar="MS",
    )
    upgradeTimeout: int = option(
        10000,
        wholeNumber("milliseconds"),
        "Milliseconds a WebSocket has to complete the upgrade of a polling session.",
        group="listening",
        metavar="MS",
    )
    maxHttpBufferSize: int = option(
        1_000_000,
        wholeNumber("bytes"),
        "Maximum bytes of one POST body or one WebSocket message from a client.",
        group="limits",
        metavar="BYTES",
    )
    maxBufferedPackets: int = option(
        100_000,
        wholeNumber("packets"),
        "Maximum packets buffered for one session.",
        group="limits",
        metavar="PACKETS",
    )
    maxBufferedBytes: int = option(
        32_000_000,
        wholeNumber("bytes"),
        "Maximum bytes buffered for one session, including what its connection has not sent yet.",
        group="limits",
        metavar="BYTES",
    )
    bufferLimitAction: str = option(
        "close",
        oneOf("close", "drop", "raise"),
        "What a message beyond the buffer limits does: close the session, drop the message, or raise an error.",
        group="limits",
        metavar="ACTION",
    )
    transports: tuple[str, ...] = option(
        TRANSPORTS,
        transportNames,
        "Transports on which clients may connect: polling, websocket or both.",
        asTuple,
        group="listening",
        metavar="NAMES",
    )
    allowUpgrades: bool = option(True, flag, "Whether a polling session may move to WebSocket.", group="listening")
    allowRequest: Callable[[Any], Any] | None = option(
        None,
        callableOrNone,
        "Function that decides whether a request may open a session.",
        group="origins",
        metavar="MODULE:NAME",
    )
    allowedOrigins: OriginRule = option(
        "*",
        allowedOrigins,
        "Origins whose pages may open a session or a WebSocket; 'self' is the server's own.",
        asOriginRule,
        group="origins",
        metavar="ORIGINS",
    )
    perMessageDeflate: PerMessageDeflate | None = option(
        None,
        None,
        "Whether WebSocket messages are compressed, at a cost of memory for each client.",
        part("perMessageDeflate", PerMessageDeflate),
        group="compression",
    )
    httpCompression: HttpCompression | None = option(
        HttpCompression(),
        None,
        "Whether responses to polling requests are compressed.",
        part("httpCompression", HttpCompression),
        group="compression",
    )
    cookie: Cookie | None = option(
        None,
        None,
        "Whether a cookie holds the session id, for a load balancer to route by.",
        part("cookie", Cookie),
        group="cookie",
    )
    cors: Cors | None = option(
        None,
        None,
        "Whether responses carry CORS headers, which let pages of other origins read them.",
        part("cors", Cors, hasDefaults=False),
        group="origins",
    )
    wsEngine: Any | None = option(
        None,
        orNone(_webSocketEngine),
        "Class that implements WebSocket instead of Autobahn.",
        group="listening",
        metavar="MODULE:CLASS",
    )
    idPrefix: str = option(
        "",
        matching("[0-9A-Za-z._~-]{0,32}", "up to 32 letters, digits and signs of ._~-"),
        "Text that every session id begins with, such as the name of the process, for a load balancer to route by.",
        group="proxies",
        metavar="TEXT",
    )
    initialPacket: str | bytes | None = option(
        None,
        orNone(_message),
        "Message that each client receives together with the open packet.",
        asBytes,
        group="listening",
        metavar="TEXT",
    )
    allowEIO3: bool = option(
        False,
        flag,
        "Whether clients of protocol revision 3 may connect, such as engine.io-client before version 4.",
        group="listening",
    )
    trustedProxies: tuple[str, ...] | None = option(
        None,
        orNone(_proxies),
        "Proxies, by address or network, whose X-Forwarded or Forwarded headers are trusted; 'unix' is any client of a"
        " UNIX socket.",
        _asProxies,
        group="proxies",
        metavar="ADDRESSES",
    )
    maxSessions: int | None = option(
        100_000,
        orNone(wholeNumber("sessions")),
        "Maximum sessions of the server; further ones are refused with 503.",
        group="limits",
        metavar="SESSIONS",
    )
    maxSessionsPerAddress: int | None = option(
        10_000,
        orNone(wholeNumber("sessions")),
        "Maximum sessions of one client address or IPv6 /64 network; further ones are refused with 429.",
        group="limits",
        metavar="SESSIONS",
    )
    maxHandshakesPerSecondPerAddress: int | None = option(
        1000,
        orNone(wholeNumber("handshakes")),
        "Maximum sessions that one client address may request per second; further ones are refused with 429.",
        group="limits",
        metavar="SESSIONS",
    )
    maxPacketsPerPayload: int | None = option(
        None,
        orNone(wholeNumber("packets")),
        "Maximum packets in one POST body; a body with more is refused with 413.",
        group="limits",
        metavar="PACKETS",
    )
    maxMessagesPerSecond: int | None = option(
        None,
        orNone(wholeNumber("packets")),
        "Maximum packets per second from one client; its session ends when it sends more.",
        group="limits",
        metavar="PACKETS",
    )
    maxBytesPerSecond: int | None = option(
        None,
        orNone(wholeNumber("bytes")),
        "Maximum bytes of packets per second from one client; its session ends when it sends more.",
        group="limits",
        metavar="BYTES",
    )
    maxHeaderSize: int = option(
        16384,
        wholeNumber("bytes"),
        "Maximum bytes of a request line and its headers; a larger request is refused with 431.",
        group="limits",
        metavar="BYTES",
    )
    maxUrlLength: int = option(
        8192,
        wholeNumber("bytes"),
        "Maximum bytes of a request's URL; a longer one is refused with 414.",
        group="limits",
        metavar="BYTES",
    )
    headersTimeout: int | None = option(
        20000,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds a request has to send all of its headers before it is refused with 408.",
        group="limits",
        metavar="MS",
    )
    keepAliveTimeout: int | None = option(
        75000,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds after which an idle HTTP connection is closed; stay above the value of a proxy in front.",
        group="limits",
        metavar="MS",
    )
    httpRequestBodyTimeout: int = option(
        30000,
        wholeNumber("milliseconds"),
        "Milliseconds the body of a POST has to arrive before it is refused with 408.",
        group="limits",
        metavar="MS",
    )
    firstPacketTimeout: int | None = option(
        None,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds a new session has to send its first request or packet before it ends.",
        group="heartbeat",
        metavar="MS",
    )
    path: str = option(
        "/engine.io",
        _urlPath,
        "URL path at which sessions are served.",
        withoutTrailingSlash,
        group="listening",
        metavar="PATH",
    )
    addTrailingSlash: bool = option(
        True, flag, "Whether everything below the path is captured, or the path alone.", group="listening"
    )
    destroyUpgrade: bool = option(
        True, flag, "Whether upgrade requests outside the path are closed if nothing answers them.", group="listening"
    )
    destroyUpgradeTimeout: int = option(
        1000,
        wholeNumber("milliseconds"),
        "Milliseconds after which an unanswered upgrade request outside the path is closed.",
        group="listening",
        metavar="MS",
    )
    drainTimeout: int = option(
        5000,
        wholeNumber("milliseconds"),
        "Milliseconds that sessions have to receive what was sent to them, and to end, when the server stops.",
        group="operation",
        metavar="MS",
    )

    def __init__(self, **options: Unpack[OptionKeywords]) -> None:
        checkNames(options, ServerOptions)
        # The fields hold what the converters make of what may be given.
        self.__attrs_init__(**options)  # type: ignore[arg-type]
        if self.perMessageDeflate is not None and not getattr(self.wsEngine, "supportsPerMessageDeflate", True):
            name = getattr(self.wsEngine, "__name__", self.wsEngine)
            raise OptionError("perMessageDeflate", self.perMessageDeflate, f"wsEngine {name} can't compress messages")
