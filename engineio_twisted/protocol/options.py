"""The options of a server: each validated when it is given, none ignored."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack

import attrs

from .errors import OptionError
from .origins import readOrigin
from .proxies import UNIX, Address, Network, networkOf

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

TRANSPORTS = ("polling", "websocket")
"""The names of the transports there are."""


def _refuse(attribute: attrs.Attribute[Any], value: object, expected: str) -> OptionError:
    return OptionError(attribute.name, value, f"expected {expected}")


def _wholeNumber(unit: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not int or value < 1:
            raise _refuse(attribute, value, f"a whole number of {unit}, 1 or more")

    return validate


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not bool:
        raise _refuse(attribute, value, "True or False")


def _callableOrNone(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise _refuse(attribute, value, "something to call with the request, or None")


def _transportNames(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # What is no text may not be hashable.
    names = value if isinstance(value, tuple) and all(isinstance(each, str) for each in value) else ()
    if not names or len(set(names)) != len(names) or not set(names) <= set(TRANSPORTS):
        raise _refuse(attribute, value, f"a list of one or more of {', '.join(TRANSPORTS)}, each once")


def _urlPath(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    allowed = isinstance(value, str) and value.isascii() and value.isprintable() and not set(" ?#%") & set(value)
    if not allowed or not str(value).startswith("/") or not str(value).strip("/") or "//" in str(value):
        raise _refuse(attribute, value, "the path of a URL, such as '/engine.io'")


def _asTuple(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _proxies(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    expected = f"addresses or networks such as '10.0.0.0/8', or '{UNIX}': a list, or text with commas between them"
    if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
        raise _refuse(attribute, value, expected)
    for each in value:
        try:
            if each != UNIX:
                networkOf(each)
        except ValueError as error:
            raise OptionError(attribute.name, value, f"expected {expected}; not {each!r} ({error})") from None


def _asProxies(value: object) -> object:
    value = _splitAtCommas(value)
    if not isinstance(value, tuple):
        return value
    return tuple(str(each) if isinstance(each, Address | Network) else each for each in value)


def _asBytes(value: object) -> object:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _withoutTrailingSlash(value: object) -> object:
    return value.rstrip("/") or value if isinstance(value, str) else value


def _option(default: object, validator: Validator | None, help: str, converter: Any = None) -> Any:  # noqa: A002
    return attrs.field(default=default, validator=validator, converter=converter, metadata={"help": help})


PartT = TypeVar("PartT")


def checkNames(given: Mapping[str, Any], *parts: type[Any], prefix: str = "") -> None:
    """
    Refuse options that none of some classes has a field for.

    @param prefix: what is before each name in the error.
    @raise OptionError: there is such a one.
    """
    known = [each.name for part in parts for each in attrs.fields(part)]
    for name, value in given.items():
        if name not in known:
            near = _nearestName(str(name), known)
            cure = f"did you mean {near}?" if near else f"the options are {', '.join(known)}"
            raise OptionError(f"{prefix}{name}", value, f"there is no such option; {cure}")


def _nearestName(given: str, known: Sequence[str]) -> str | None:
    """Return which of the known names was meant: the only one that holds what was given, or the most similar one."""
    longer = [each for each in known if given and given.lower() in each.lower()]
    near = longer if len(longer) == 1 else difflib.get_close_matches(given, known, n=1)
    return near[0] if near else None


def _part(name: str, part: type[PartT], hasDefaults: bool = True) -> Callable[[Any], PartT | None]:
    """Return what makes an option with settings of its own from a mapping, from False, and from True for defaults."""

    def convert(value: Any) -> PartT | None:
        if value is None or value is False:
            return None
        if value is True and hasDefaults:
            return part()
        if isinstance(value, part):
            return value
        if not isinstance(value, Mapping):
            what = f"{part.__name__} or a mapping of its settings"
            raise OptionError(name, value, f"expected {what}{', True' if hasDefaults else ''}, or False")
        checkNames(value, part, prefix=f"{name}.")
        try:
            return part(**value)
        except OptionError as error:
            raise OptionError(f"{name}.{error.name}", error.value, error.problem) from None

    return convert


def _between(lowest: int, highest: int) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not int or not lowest <= value <= highest:
            raise _refuse(attribute, value, f"a whole number from {lowest} to {highest}")

    return validate


def _orNone(validator: Validator) -> Validator:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None:
            validator(instance, attribute, value)

    return validate


def _matching(pattern: str, expected: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _refuse(attribute, value, expected)

    return validate


_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_isToken = _matching(_NAME, "a token: letters, digits, and some of the signs that separate nothing")


def _tokens(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    names = value if isinstance(value, tuple) else ()
    if not all(isinstance(each, str) and re.fullmatch(_NAME, each) for each in names) or not isinstance(value, tuple):
        raise _refuse(attribute, value, "names of methods or headers: a list, or text with commas between them")


def _splitAtCommas(value: object) -> object:
    if isinstance(value, str):
        return tuple(each.strip() for each in value.split(",") if each.strip())
    return _asTuple(value)


def _oneOf(*words: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise _refuse(attribute, value, f"one of {', '.join(words)}")

    return validate


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class HttpCompression:
    """
    Compression of what polling sends (`httpCompression`).

    @ivar threshold: bytes; what is smaller goes out as it is.
    @ivar level: of zlib, 0 to 9; -1 is its own default.
    @ivar memLevel: of zlib, 1 to 9.
    """

    threshold: int = attrs.field(default=1024, validator=_between(0, 2**62))
    level: int = attrs.field(default=-1, validator=_between(-1, 9))
    memLevel: int = attrs.field(default=8, validator=_between(1, 9))


@attrs.frozen(kw_only=True)
class PerMessageDeflate:
    """
    Compression of WebSocket messages (`perMessageDeflate`; RFC 7692).

    @ivar threshold: bytes; a message that is smaller goes out as it is.
    @ivar serverNoContextTakeover: each message is compressed by itself, which costs size and saves memory.
    @ivar clientNoContextTakeover: the client is asked to do the same.
    @ivar serverMaxWindowBits: 9 to 15; 2 to the power of it bytes are held to find repetitions in.
    @ivar clientMaxWindowBits: the client is asked to use no more.
    @ivar memLevel: of zlib, 1 to 9.
    """

    threshold: int = attrs.field(default=1024, validator=_between(0, 2**62))
    serverNoContextTakeover: bool = attrs.field(default=False, validator=_flag)
    clientNoContextTakeover: bool = attrs.field(default=False, validator=_flag)
    serverMaxWindowBits: int = attrs.field(default=15, validator=_between(9, 15))
    clientMaxWindowBits: int = attrs.field(default=15, validator=_between(9, 15))
    memLevel: int = attrs.field(default=8, validator=_between(1, 9))


def _sameSite(value: object) -> object:
    if value is True:
        return "strict"
    return None if value is False else _lowered(value)


def _expires(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _refuse(attribute, value, "a datetime with a time zone")


@attrs.frozen(kw_only=True)
class Cookie:
    """
    The cookie that holds a session's id (`cookie`; RFC 6265).

    @ivar name: its name.
    @ivar path: below which path the client sends it; None leaves that out.
    @ivar httpOnly: whether scripts can't read it.
    @ivar sameSite: C{"lax"}, C{"strict"} (or True) or C{"none"}; None (or False) leaves that out.
    @ivar domain: to which domain the client sends it; None is the host alone.
    @ivar maxAge: seconds that the client keeps it; None until the browser is closed.
    @ivar expires: until when, as a C{datetime} with a time zone.
    @ivar secure: whether the client sends it over TLS only.
    @ivar partitioned: whether each site that a page of ours is embedded in gets one of its own.
    @ivar priority: C{"low"}, C{"medium"} or C{"high"}.
    """

    name: str = attrs.field(default="io", validator=_isToken)
    path: str | None = attrs.field(
        default="/", validator=_orNone(_matching(r"/[\x20-\x3a\x3c-\x7e]*", "a path, without ; in it"))
    )
    httpOnly: bool = attrs.field(default=True, validator=_flag)
    sameSite: str | None = attrs.field(
        default="lax", converter=_sameSite, validator=_orNone(_oneOf("lax", "strict", "none"))
    )
    domain: str | None = attrs.field(
        default=None, validator=_orNone(_matching(r"\.?[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*", "the name of a domain"))
    )
    maxAge: int | None = attrs.field(default=None, validator=_orNone(_between(-(2**62), 2**62)))
    expires: datetime | None = attrs.field(default=None, validator=_orNone(_expires))
    secure: bool = attrs.field(default=False, validator=_flag)
    partitioned: bool = attrs.field(default=False, validator=_flag)
    priority: str | None = attrs.field(
        default=None, converter=_lowered, validator=_orNone(_oneOf("low", "medium", "high"))
    )


OriginRule: TypeAlias = bool | str | re.Pattern[str] | Sequence[str | re.Pattern[str]]
"""
Which origins: one, those in which a pattern is found, any in a list of both; C{"*"} or True all, False none.

C{"https://*.example.com"} stands for all below a domain, C{"http://localhost:*"} for all ports.
"""

SELF = "self"
"""Among allowed origins: that of the pages which come from where the request goes."""

_ORIGIN_RULE = (
    "an origin such as 'https://example.com', 'https://*.example.com' or 'http://localhost:*', a pattern of text, a"
    " list of those; or '*', True or False"
)


def _problemOf(rule: object) -> str | None:
    """Return what is wrong with a rule, besides that it is none; None if it is right."""
    if isinstance(rule, tuple):
        # Not "*", which would allow every origin by name, with credentials.
        problems = ["" if each == "*" or isinstance(each, bool | tuple) else _problemOf(each) for each in rule]
        return next((each for each in problems if each is not None), None)
    if isinstance(rule, str) and rule != "*":
        try:
            readOrigin(rule)
        except ValueError as error:
            return f"; not {rule!r}: {error}"
        return None
    isPattern = isinstance(rule, re.Pattern) and isinstance(rule.pattern, str)
    return None if isinstance(rule, bool) or rule == "*" or isPattern else ""


def _asOriginRule(value: object) -> object:
    """Write the origins of a rule in their normal form; a rule with something else is left to its validator."""
    value = _asTuple(value)
    if isinstance(value, tuple):
        return tuple(_asOriginRule(each) if isinstance(each, str) else each for each in value)
    if isinstance(value, str) and value not in ("*", SELF):
        try:
            return readOrigin(value)
        except ValueError:
            pass
    return value


def originRule(value: object) -> OriginRule:
    """
    Check what a function returned as a rule; None is none.

    @raise TypeError: it is no rule.
    """
    rule = False if value is None else _asOriginRule(value)
    problem = _problemOf(rule)
    if problem is not None:
        raise TypeError(f"{value!r}: expected {_ORIGIN_RULE}{problem}")
    return rule  # type: ignore[return-value]


def _origins(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    problem = _problemOf(value)
    if problem is not None:
        raise _refuse(attribute, value, f"{_ORIGIN_RULE}{problem}")


def _allowedOrigins(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    others = tuple(each for each in value if each != SELF) if isinstance(value, tuple) else value
    problem = None if others == SELF else _problemOf(others)
    if problem is not None:
        raise _refuse(attribute, value, f"'{SELF}', {_ORIGIN_RULE}{problem}")


def _originsOrFunction(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        _origins(instance, attribute, value)


@attrs.frozen(kw_only=True)
class Cors:
    """
    Which pages of other origins may read what the server answers (`cors`; the Fetch standard, "CORS protocol").

    @ivar origin: the origins, as L{OriginRule}; or a function that is called with the Origin of a request, or None,
        and returns a rule, a Deferred or a coroutine of one.
    @ivar methods: that a page may use.
    @ivar allowedHeaders: that a page may send; None allows those it asks for.
    @ivar exposedHeaders: that a page may read.
    @ivar credentials: whether a page may send cookies. Never for the origin C{"*"}.
    @ivar maxAge: seconds that a browser may keep the answer to a preflight request.
    @ivar preflightContinue: leave preflight requests to the middlewares, with the headers set.
    @ivar optionsSuccessStatus: the status of the answer to a preflight request.
    """

    origin: OriginRule | Callable[[str | None], OriginRule | Awaitable[OriginRule]] = attrs.field(
        default="*", converter=_asOriginRule, validator=_originsOrFunction
    )
    methods: tuple[str, ...] = attrs.field(
        default="GET,HEAD,PUT,PATCH,POST,DELETE", converter=_splitAtCommas, validator=_tokens
    )
    allowedHeaders: tuple[str, ...] | None = attrs.field(
        default=None, converter=_splitAtCommas, validator=_orNone(_tokens)
    )
    exposedHeaders: tuple[str, ...] = attrs.field(default=(), converter=_splitAtCommas, validator=_tokens)
    credentials: bool = attrs.field(default=False, validator=_flag)
    maxAge: int | None = attrs.field(default=None, validator=_orNone(_between(-1, 2**62)))
    preflightContinue: bool = attrs.field(default=False, validator=_flag)
    optionsSuccessStatus: int = attrs.field(default=204, validator=_between(200, 299))


def _message(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    isText = isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
    if not isText and not isinstance(value, bytes):
        raise _refuse(attribute, value, "text that UTF-8 can carry, bytes or None")


def _webSocketEngine(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value) or not hasattr(value, "supportsPerMessageDeflate"):
        raise _refuse(attribute, value, "None for Autobahn, or a class that implements IWebSocketEngine")


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

    pingInterval: int = _option(
        25000,
        _wholeNumber("milliseconds"),
        "Milliseconds from a client's pong to the next ping. Keep it below the time after which a proxy in front"
        " cuts an idle request, often 30 or 60 seconds.",
    )
    pingTimeout: int = _option(
        20000,
        _wholeNumber("milliseconds"),
        "Milliseconds a client has to answer a ping, without those in which receiving is paused. Browsers slow down"
        " the timers of tabs in the background, so a few seconds are too short. While bytes of a message arrive there"
        " are 30 seconds more at most.",
    )
    upgradeTimeout: int = _option(
        10000,
        _wholeNumber("milliseconds"),
        "Milliseconds a WebSocket has to complete the upgrade of a polling session; the session goes on polling.",
    )
    maxHttpBufferSize: int = _option(
        1_000_000,
        _wholeNumber("bytes"),
        "Bytes of the largest POST body, and of the largest WebSocket message, that a client may send.",
    )
    maxBufferedPackets: int = _option(
        100_000,
        _wholeNumber("packets"),
        "How many packets may wait for a client that doesn't take what it is sent.",
    )
    maxBufferedBytes: int = _option(
        32_000_000,
        _wholeNumber("bytes"),
        "How many bytes may, with those that its connection hasn't taken. A message that is larger is sent where"
        " nothing else waits.",
    )
    bufferLimitAction: str = _option(
        "close",
        _oneOf("close", "drop", "raise"),
        "What becomes of a message over these limits: close ends the session, drop leaves the message out and tells"
        " its callback, raise raises BufferLimitExceeded where it is sent.",
    )
    transports: tuple[str, ...] = _option(
        TRANSPORTS, _transportNames, "The transports on which clients may connect.", _asTuple
    )
    allowUpgrades: bool = _option(True, _flag, "Whether a polling session may move to WebSocket.")
    allowRequest: Callable[[Any], Any] | None = _option(
        None,
        _callableOrNone,
        "Called with the request that wants to open a session. A true answer (plain, from a Deferred or a coroutine)"
        " lets it, a false one refuses; RequestRefused(text), raised, refuses with that text.",
    )
    allowedOrigins: OriginRule = _option(
        "*",
        _allowedOrigins,
        "Which origins' pages may open a session or a WebSocket; 'self' is that of the server's own,"
        " 'https://*.example.com' all below a domain, 'http://localhost:*' all ports. A client that sends no Origin"
        " may, unless it asks for JSONP. Browsers let any page open a WebSocket, with the visitor's cookies, and `cors`"
        " doesn't change that.",
        _asOriginRule,
    )
    perMessageDeflate: PerMessageDeflate | None = _option(
        None,
        None,
        "Compression of WebSocket messages: False, True, or PerMessageDeflate settings. Takes memory for each client.",
        _part("perMessageDeflate", PerMessageDeflate),
    )
    httpCompression: HttpCompression | None = _option(
        HttpCompression(),
        None,
        "Compression of what polling sends: True, False, or HttpCompression settings.",
        _part("httpCompression", HttpCompression),
    )
    cookie: Cookie | None = _option(
        None,
        None,
        "A cookie with the session's id, for a balancer to route by: False, True, or Cookie settings.",
        _part("cookie", Cookie),
    )
    cors: Cors | None = _option(
        None,
        None,
        "Which pages of other origins may read what the server answers: False for none, or Cors settings.",
        _part("cors", Cors, hasDefaults=False),
    )
    wsEngine: Any = _option(
        None,
        _orNone(_webSocketEngine),
        "What implements WebSocket: a class that implements IWebSocketEngine. None is Autobahn.",
    )
    idPrefix: str = _option(
        "",
        _matching("[0-9A-Za-z._~-]{0,32}", "up to 32 letters, digits and signs of ._~-"),
        "What every session id begins with, such as the name of this process: by it a balancer knows from the `sid` of"
        " a request which process has the session. Ids that a replaced `generateId` makes are left as they are.",
    )
    initialPacket: str | bytes | None = _option(
        None, _orNone(_message), "A message for each client that connects, sent with the open packet.", _asBytes
    )
    allowEIO3: bool = _option(
        False, _flag, "Whether clients of revision 3 of the protocol may connect: engine.io-client before version 4."
    )
    trustedProxies: tuple[str, ...] | None = _option(
        None,
        _orNone(_proxies),
        "The proxies in front, by address or network, or 'unix' for who connects to a UNIX socket. From them alone,"
        " X-Forwarded-For, -Proto, -Host and -Port, or Forwarded, say who a client is.",
        _asProxies,
    )
    maxSessions: int | None = _option(
        100_000,
        _orNone(_wholeNumber("sessions")),
        "How many sessions there may be; further ones are refused with 503. None is any number.",
    )
    maxSessionsPerAddress: int | None = _option(
        10_000,
        _orNone(_wholeNumber("sessions")),
        "How many sessions one client's address, or one /64 network of IPv6, may have; further ones are refused with"
        " 429. Addresses that aren't of the Internet don't count unless `trustedProxies` is set. None is any number.",
    )
    maxHandshakesPerSecondPerAddress: int | None = _option(
        1000,
        _orNone(_wholeNumber("handshakes")),
        "How many sessions one such address may ask for in a second; further ones are refused with 429. None is any"
        " number.",
    )
    maxPacketsPerPayload: int | None = _option(
        None,
        _orNone(_wholeNumber("packets")),
        "How many packets a POST may hold; one with more is refused with 413, and nothing of it delivered. None is any"
        " number: a large payload is delivered in turns.",
    )
    maxMessagesPerSecond: int | None = _option(
        None,
        _orNone(_wholeNumber("packets")),
        "How many packets a client may send in a second, before its session ends with `rate limit exceeded`. None is"
        " any number.",
    )
    maxBytesPerSecond: int | None = _option(
        None,
        _orNone(_wholeNumber("bytes")),
        "How many bytes of packets it may. None is any number.",
    )
    maxHeaderSize: int = _option(
        16384,
        _wholeNumber("bytes"),
        "Bytes of a request's line and headers; one with more is refused with 431. Of connections of a Site of ours.",
    )
    maxUrlLength: int = _option(
        8192,
        _wholeNumber("bytes"),
        "Bytes of a request's address; a longer one is refused with 414. Of connections of a Site of ours.",
    )
    headersTimeout: int | None = _option(
        20000,
        _orNone(_wholeNumber("milliseconds")),
        "Milliseconds in which the headers of a request have to come, from its first byte, or, of the first on a"
        " connection, from the beginning of that; then 408. Of connections of a Site of ours. None is no limit.",
    )
    keepAliveTimeout: int | None = _option(
        75000,
        _orNone(_wholeNumber("milliseconds")),
        "Milliseconds after which a connection on which nothing is asked is closed: more than a proxy in front keeps"
        " its own. Of connections of a Site of ours. None is no limit.",
    )
    httpRequestBodyTimeout: int = _option(
        30000,
        _wholeNumber("milliseconds"),
        "Milliseconds in which the body of a POST has to come; then it is refused with 408, and its session ends.",
    )
    firstPacketTimeout: int | None = _option(
        None,
        _orNone(_wholeNumber("milliseconds")),
        "Milliseconds from the opening of a session to the client's first request or packet, before it ends with"
        " `ping timeout`. None is as long as heartbeats allow.",
    )
    path: str = _option("/engine.io", _urlPath, "The path that `attach` and `listen` serve.", _withoutTrailingSlash)
    addTrailingSlash: bool = _option(
        True,
        _flag,
        "Whether `attach` captures everything below the path too, or only the path itself. With or without a"
        " slash at its end the path is served either way.",
    )
    destroyUpgrade: bool = _option(
        True, _flag, "Whether `attach` closes upgrade requests outside the path that nobody answers."
    )
    destroyUpgradeTimeout: int = _option(
        1000, _wholeNumber("milliseconds"), "After how many milliseconds `destroyUpgrade` does."
    )
    drainTimeout: int = _option(
        5000,
        _wholeNumber("milliseconds"),
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
