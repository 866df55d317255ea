"""Where a Redis server is: the URL of it. Pure: no Twisted, no clock, no IO."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from ..protocol.errors import OptionError

DEFAULT_PORT = 6379
FORMS = "redis://[user:password@]host[:port][/database], rediss://… or unix://[user:password@]/path[?db=database]"


@attrs.frozen(kw_only=True)
class RedisAddress:
    """
    Where a Redis server is, and as whom to log in. Its text and its C{repr} have no user and no password.

    @ivar host: name or IP address; None for a UNIX socket.
    @ivar port: of the host.
    @ivar path: of a UNIX socket, or None.
    @ivar isEncrypted: whether to use TLS.
    @ivar database: the number that C{SELECT} is given.
    @ivar user: of an access control list; None for the default user.
    @ivar password: None not to log in.
    """

    host: str | None = None
    port: int = DEFAULT_PORT
    path: str | None = None
    isEncrypted: bool = False
    database: int = 0
    user: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def fromURL(cls, url: str) -> RedisAddress:
        """
        Return the address in a URL. User and password are percent-encoded there.

        @param url: C{redis://[user:password@]host[:port][/database]}; C{rediss://} for TLS;
            C{unix://[user:password@]/path[?db=database]}.
        @raise OptionError: it is no such URL. The error doesn't show the password.
        """
        try:
            return cls._of(urlsplit(url))
        except (ValueError, TypeError, AttributeError):
            raise OptionError("url", _withoutSecrets(url), f"expected {FORMS}") from None

    @classmethod
    def _of(cls, parts: SplitResult) -> RedisAddress:
        user = unquote(parts.username, errors="strict") if parts.username else None
        password = None if parts.password is None else unquote(parts.password, errors="strict")
        # Otherwise what is meant as a password is sent to nobody, or is taken for a host.
        if (user is not None and password is None) or parts.fragment:
            raise ValueError
        if parts.scheme == "unix":
            query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            database = _number(query.pop("db", "0"))
            if parts.hostname or parts.path in {"", "/"} or query:
                raise ValueError
            return cls(path=unquote(parts.path, errors="strict"), database=database, user=user, password=password)
        if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.query:
            raise ValueError
        return cls(
            host=parts.hostname,
            port=DEFAULT_PORT if parts.port is None else parts.port or _number(""),
            isEncrypted=parts.scheme == "rediss",
            database=_number(parts.path.removeprefix("/") or "0"),
            user=user,
            password=password,
        )

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{'rediss' if self.isEncrypted else 'redis'}://{host}:{self.port}"


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


def _withoutSecrets(url: object) -> object:
    """Return what may be shown of a wrong URL: a password may have any sign in it, unencoded."""
    if not isinstance(url, str):
        return type(url)
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "…"
    _, at, place = rest.rpartition("@")
    return f"{scheme}://…@{place.partition('?')[0]}" if at else f"{scheme}://{place.partition('?')[0]}"
