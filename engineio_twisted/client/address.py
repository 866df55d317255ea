"""Where a client connects to: a URL, and the addresses of requests that are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import attrs

from ..protocol.errors import OptionError

DEFAULT_PATH = "/engine.io"

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""The ports of URLs that name none."""

RESERVED = ("EIO", "transport", "sid", "b64", "j", "resume", "attempt", "received")
"""Parameters of the protocol, which no application may set."""

_PATH_SAFE = "/-._~!$&'()*+,;=:@%"


def _refused(url: object, expected: str) -> OptionError:
    return OptionError("url", _withoutSecrets(url), f"expected {expected}")


@attrs.frozen
class Address:
    """
    Where a server is.

    @ivar isSecure: whether connections have TLS.
    @ivar host: its name or IP address, without brackets.
    @ivar port: its port.
    @ivar path: the path of requests.
    @ivar query: the parameters of the application's, in the order given.
    """

    isSecure: bool
    host: str
    port: int
    path: str
    query: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)

    @property
    def netloc(self) -> str:
        """The host and, unless it is the ordinary one, the port: what the header C{Host} says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.isSecure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The scheme, the host and the port (RFC 6454)."""
        return f"http{'s' if self.isSecure else ''}://{self.netloc}"

    def target(self, parameters: Mapping[str, str]) -> str:
        """
        Return what a request line holds: the path and the query.

        @param parameters: of the protocol; they come behind those of the application.
        """
        return f"{self.path}?{urlencode([*self.query, *parameters.items()], quote_via=quote)}"

    def url(self, parameters: Mapping[str, str], isWebSocket: bool = False) -> str:
        """Return the URL of a request."""
        scheme = ("ws" if isWebSocket else "http") + ("s" if self.isSecure else "")
        return f"{scheme}://{self.netloc}{self.target(parameters)}"


def addressOf(url: object, path: str | None, addTrailingSlash: bool, query: Mapping[str, str]) -> Address:
    """
    Return the address of a server.

    @param url: C{http:}, C{https:}, C{ws:} or C{wss:}; which of the two pairs decides about TLS alone. Without a path
        the path is the option, or C{/engine.io}.
    @param path: the option; None if it isn't given.
    @param query: the parameters of the option; they replace those of the URL that have the same names.
    @raise OptionError: the URL is none, or has a path besides the option.
    """
    example = "such as 'https://example.org' or 'ws://127.0.0.1:3000/engine.io'"
    if not isinstance(url, str):
        raise _refused(url, f"the URL of a server as text, {example}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(url, f"a URL {example}; {error}") from None
    if parts.scheme not in PORTS:
        has = f"not {parts.scheme}:" if "://" in url else "with its scheme"
        raise _refused(url, f"a URL that begins with http:, https:, ws: or wss:, {has}, {example}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _refused(
            url, "a URL in ASCII without spaces: write others as percent escapes, and a name by its IDNA form"
        )
    if not parts.hostname:
        raise _refused(url, f"a URL with the name of a host, {example}")
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "a URL without a password; write extraHeaders={'Authorization': 'Basic …'} instead")
    if parts.fragment:
        raise _refused(url, "a URL without a fragment, which no server is sent")
    if port == 0:
        raise _refused(url, "a port from 1 to 65535")
    given = parts.path.rstrip("/")
    if given and path is not None:
        raise OptionError("path", path, f"the URL has a path already, {parts.path}: give one of the two")
    known = parse_qsl(parts.query, keep_blank_values=True)
    for name, _ in known:
        checkParameter(name)
    own = [(name, value) for name, value in known if name not in query]
    where = quote(given or path or DEFAULT_PATH, safe=_PATH_SAFE)
    return Address(
        parts.scheme in ("https", "wss"),
        parts.hostname,
        PORTS[parts.scheme] if port is None else port,
        where + "/" if addTrailingSlash else where,
        (*own, *query.items()),
    )


def checkParameter(name: str) -> None:
    """
    Refuse a parameter that is the protocol's own.

    @raise OptionError: it is.
    """
    if name in RESERVED:
        raise OptionError("query", name, f"the parameter {name} is the protocol's own: leave it out")


def _withoutSecrets(url: object) -> object:
    """Return a URL without what is before its host, and without its query."""
    if not isinstance(url, str):
        return url
    where, mark, _ = url.partition("?")
    scheme, colon, rest = where.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{colon}{'…@' if at else ''}{host}{'?…' if mark else ''}"
