"""The options that have settings of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import attrs

from .origin_rules import OriginRule, asOriginRule, originsOrFunction
from .validators import between, flag, lowered, matching, oneOf, orNone, refused, splitAtCommas, token, tokens


@attrs.frozen(kw_only=True)
class HttpCompression:
    """Compression of responses to polling requests (`httpCompression`)."""

    threshold: int = attrs.field(
        default=1024,
        validator=between(0, 2**62),
        metadata={"help": "Size in bytes from which a polling payload is compressed.", "metavar": "BYTES"},
    )
    level: int = attrs.field(
        default=-1,
        validator=between(-1, 9),
        metadata={
            "help": "Level of zlib at which polling payloads are compressed, 0 to 9; -1 is its default.",
            "metavar": "LEVEL",
        },
    )
    memLevel: int = attrs.field(
        default=8,
        validator=between(1, 9),
        metadata={"help": "Memory level of zlib for polling payloads, 1 to 9.", "metavar": "LEVEL"},
    )


@attrs.frozen(kw_only=True)
class PerMessageDeflate:
    """Compression of WebSocket messages (`perMessageDeflate`; RFC 7692)."""

    threshold: int = attrs.field(
        default=1024,
        validator=between(0, 2**62),
        metadata={"help": "Size in bytes from which a WebSocket message is compressed.", "metavar": "BYTES"},
    )
    serverNoContextTakeover: bool = attrs.field(
        default=False,
        validator=flag,
        metadata={"help": "Whether the server compresses each message by itself, which saves memory and costs size."},
    )
    clientNoContextTakeover: bool = attrs.field(
        default=False,
        validator=flag,
        metadata={"help": "Whether the client is asked to compress each message by itself."},
    )
    serverMaxWindowBits: int = attrs.field(
        default=15,
        validator=between(9, 15),
        metadata={
            "help": "Base-2 logarithm of the size in bytes of the server's compression window, 9 to 15.",
            "metavar": "BITS",
        },
    )
    clientMaxWindowBits: int = attrs.field(
        default=15,
        validator=between(9, 15),
        metadata={
            "help": "Base-2 logarithm of the largest compression window in bytes that the client may use, 9 to 15.",
            "metavar": "BITS",
        },
    )
    memLevel: int = attrs.field(
        default=8,
        validator=between(1, 9),
        metadata={"help": "Memory level of zlib for WebSocket messages, 1 to 9.", "metavar": "LEVEL"},
    )


def _sameSite(value: object) -> object:
    if value is True:
        return "strict"
    return None if value is False else lowered(value)


def _expires(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise refused(attribute, value, "a datetime with a time zone")


@attrs.frozen(kw_only=True)
class Cookie:
    """The cookie that holds a session's id (`cookie`; RFC 6265)."""

    name: str = attrs.field(
        default="io", validator=token, metadata={"help": "Name of the cookie with the session id.", "metavar": "NAME"}
    )
    path: str | None = attrs.field(
        default="/",
        validator=orNone(matching(r"/[\x20-\x3a\x3c-\x7e]*", "a path, without ; in it")),
        metadata={"help": "URL path below which the client sends the cookie.", "metavar": "PATH"},
    )
    httpOnly: bool = attrs.field(
        default=True, validator=flag, metadata={"help": "Whether the cookie is hidden from scripts."}
    )
    sameSite: str | None = attrs.field(
        default="lax",
        converter=_sameSite,
        validator=orNone(oneOf("lax", "strict", "none")),
        metadata={"help": "SameSite attribute of the cookie: lax, strict or none.", "metavar": "POLICY"},
    )
    domain: str | None = attrs.field(
        default=None,
        validator=orNone(matching(r"\.?[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*", "the name of a domain")),
        metadata={
            "help": "Domain to which the client sends the cookie, instead of the host alone.",
            "metavar": "DOMAIN",
        },
    )
    maxAge: int | None = attrs.field(
        default=None,
        validator=orNone(between(-(2**62), 2**62)),
        metadata={
            "help": "Seconds the client keeps the cookie, instead of until the browser is closed.",
            "metavar": "SECONDS",
        },
    )
    expires: datetime | None = attrs.field(
        default=None,
        validator=orNone(_expires),
        metadata={
            "help": "Date and time, with a time zone, until which the client keeps the cookie.",
            "metavar": "DATETIME",
        },
    )
    secure: bool = attrs.field(
        default=False, validator=flag, metadata={"help": "Whether the client sends the cookie over TLS only."}
    )
    partitioned: bool = attrs.field(
        default=False,
        validator=flag,
        metadata={"help": "Whether each site that embeds a page gets a cookie of its own."},
    )
    priority: str | None = attrs.field(
        default=None,
        converter=lowered,
        validator=orNone(oneOf("low", "medium", "high")),
        metadata={"help": "Priority at which a browser keeps the cookie: low, medium or high.", "metavar": "PRIORITY"},
    )


@attrs.frozen(kw_only=True)
class Cors:
    """
    Which pages of other origins may read what the server answers (`cors`; the Fetch standard, "CORS protocol").

    Besides an L{OriginRule}, C{origin} may be a function that is called with the Origin of a request, or None, and
    returns a rule, or a Deferred or a coroutine of one.
    """

    origin: OriginRule | Callable[[str | None], OriginRule | Awaitable[OriginRule]] = attrs.field(
        default="*",
        converter=asOriginRule,
        validator=originsOrFunction,
        metadata={"help": "Origins whose pages may read responses.", "metavar": "ORIGINS"},
    )
    methods: tuple[str, ...] = attrs.field(
        default="GET,HEAD,PUT,PATCH,POST,DELETE",
        converter=splitAtCommas,
        validator=tokens,
        metadata={"help": "Methods that pages of other origins may use.", "metavar": "METHODS"},
    )
    allowedHeaders: tuple[str, ...] | None = attrs.field(
        default=None,
        converter=splitAtCommas,
        validator=orNone(tokens),
        metadata={
            "help": "Request headers that pages of other origins may send, instead of all that they ask for.",
            "metavar": "HEADERS",
        },
    )
    exposedHeaders: tuple[str, ...] = attrs.field(
        default=(),
        converter=splitAtCommas,
        validator=tokens,
        metadata={"help": "Response headers that pages of other origins may read.", "metavar": "HEADERS"},
    )
    credentials: bool = attrs.field(
        default=False,
        validator=flag,
        metadata={"help": "Whether pages of other origins may send cookies; never if the origin is '*'."},
    )
    maxAge: int | None = attrs.field(
        default=None,
        validator=orNone(between(-1, 2**62)),
        metadata={"help": "Seconds a browser may cache the response to a preflight request.", "metavar": "SECONDS"},
    )
    preflightContinue: bool = attrs.field(
        default=False,
        validator=flag,
        metadata={"help": "Whether preflight requests are left to the middlewares, with their CORS headers set."},
    )
    optionsSuccessStatus: int = attrs.field(
        default=204,
        validator=between(200, 299),
        metadata={"help": "HTTP status of the response to a preflight request.", "metavar": "STATUS"},
    )
