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
    """
    Compression of what polling sends (`httpCompression`).

    @ivar threshold: bytes; what is smaller goes out as it is.
    @ivar level: of zlib, 0 to 9; -1 is its own default.
    @ivar memLevel: of zlib, 1 to 9.
    """

    threshold: int = attrs.field(default=1024, validator=between(0, 2**62))
    level: int = attrs.field(default=-1, validator=between(-1, 9))
    memLevel: int = attrs.field(default=8, validator=between(1, 9))


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

    threshold: int = attrs.field(default=1024, validator=between(0, 2**62))
    serverNoContextTakeover: bool = attrs.field(default=False, validator=flag)
    clientNoContextTakeover: bool = attrs.field(default=False, validator=flag)
    serverMaxWindowBits: int = attrs.field(default=15, validator=between(9, 15))
    clientMaxWindowBits: int = attrs.field(default=15, validator=between(9, 15))
    memLevel: int = attrs.field(default=8, validator=between(1, 9))


def _sameSite(value: object) -> object:
    if value is True:
        return "strict"
    return None if value is False else lowered(value)


def _expires(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise refused(attribute, value, "a datetime with a time zone")


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

    name: str = attrs.field(default="io", validator=token)
    path: str | None = attrs.field(
        default="/", validator=orNone(matching(r"/[\x20-\x3a\x3c-\x7e]*", "a path, without ; in it"))
    )
    httpOnly: bool = attrs.field(default=True, validator=flag)
    sameSite: str | None = attrs.field(
        default="lax", converter=_sameSite, validator=orNone(oneOf("lax", "strict", "none"))
    )
    domain: str | None = attrs.field(
        default=None, validator=orNone(matching(r"\.?[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*", "the name of a domain"))
    )
    maxAge: int | None = attrs.field(default=None, validator=orNone(between(-(2**62), 2**62)))
    expires: datetime | None = attrs.field(default=None, validator=orNone(_expires))
    secure: bool = attrs.field(default=False, validator=flag)
    partitioned: bool = attrs.field(default=False, validator=flag)
    priority: str | None = attrs.field(
        default=None, converter=lowered, validator=orNone(oneOf("low", "medium", "high"))
    )


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
        default="*", converter=asOriginRule, validator=originsOrFunction
    )
    methods: tuple[str, ...] = attrs.field(
        default="GET,HEAD,PUT,PATCH,POST,DELETE", converter=splitAtCommas, validator=tokens
    )
    allowedHeaders: tuple[str, ...] | None = attrs.field(
        default=None, converter=splitAtCommas, validator=orNone(tokens)
    )
    exposedHeaders: tuple[str, ...] = attrs.field(default=(), converter=splitAtCommas, validator=tokens)
    credentials: bool = attrs.field(default=False, validator=flag)
    maxAge: int | None = attrs.field(default=None, validator=orNone(between(-1, 2**62)))
    preflightContinue: bool = attrs.field(default=False, validator=flag)
    optionsSuccessStatus: int = attrs.field(default=204, validator=between(200, 299))
