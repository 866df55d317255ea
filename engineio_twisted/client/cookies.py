"""The cookies of a client, for both transports (RFC 6265)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlsplit

MAX_SIZE = 4096
"""Bytes of a cookie with its attributes; a larger one is ignored."""

MAX_COOKIES = 50
"""Cookies that are kept of one domain: what has been there longest makes room for what is new."""

# An attribute without its value, on which the jar fails with all other cookies of the response.
_BROKEN = re.compile(r";\s*max-age\s*(?=;|$)", re.IGNORECASE)

# Attributes that say how long a cookie is kept.
_TIME = re.compile(r";\s*(expires|max-age)\s*=([^;]*)", re.IGNORECASE)

_NO_MONTH = re.compile(r"\w{3}, \d\d (?!jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w{3} ", re.IGNORECASE)

MAX_DIGITS = 12
"""Digits of C{Max-Age} that are looked at: of seconds, which are longer than anybody waits."""

_HTTP = {"ws": "http", "wss": "https"}


def _time(attribute: re.Match[str]) -> str:
    """Return an attribute without what the jar stumbles over, with all other cookies of the response."""
    name, value = attribute[1], attribute[2].strip()
    if name.lower() == "max-age":
        return f"; {name}={value[: MAX_DIGITS + 1]}"
    return "" if _NO_MONTH.match(value) else attribute[0]


class _Asking:
    """A request, as far as a L{CookieJar} looks at it: that of urllib."""

    unverifiable = False

    def __init__(self, url: str) -> None:
        scheme, colon, rest = url.partition(":")
        # To the jar a WebSocket is what it begins as.
        self.type = _HTTP.get(scheme, scheme)
        self._url = self.type + colon + rest
        parts = urlsplit(self._url)
        self.host = parts.netloc
        self.origin_req_host = parts.hostname
        self.cookie: str | None = None

    def get_full_url(self) -> str:
        return self._url

    def has_header(self, name: str) -> bool:
        return False

    def get_header(self, name: str, default: str | None = None) -> str | None:
        return default

    def add_unredirected_header(self, name: str, value: str) -> None:
        # The jar adds one of RFC 2965 too if it is told to know that.
        if name == "Cookie":
            self.cookie = value


class _Answer:
    """A response, as far as a L{CookieJar} looks at it: that of urllib, and its headers."""

    def __init__(self, value: str) -> None:
        self._value = value

    def info(self) -> _Answer:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return [self._value] if name.lower() == "set-cookie" else default


class Cookies:
    """
    The cookies of one client, or of all that share a jar.

    @param jar: keeps them; by default one of its own, in memory.
    """

    def __init__(self, jar: CookieJar | None = None) -> None:
        self.jar: CookieJar = CookieJar() if jar is None else jar

    def header(self, url: str) -> bytes | None:
        """
        Return the header C{Cookie} of a request; None if there is no cookie for it.

        @param url: of either transport.
        """
        asking: Any = _Asking(url)
        self.jar.add_cookie_header(asking)
        return None if asking.cookie is None else asking.cookie.encode("latin-1", "replace")

    def store(self, url: str, setCookieValues: Iterable[bytes]) -> None:
        """
        Keep the cookies of a response; those that aren't for its server are ignored.

        @param url: of the request.
        @param setCookieValues: each value of the header C{Set-Cookie}.
        """
        values = [each.decode("latin-1") for each in setCookieValues if len(each) <= MAX_SIZE][-MAX_COOKIES:]
        if not values:
            return
        asking: Any = _Asking(url)
        for value in values:
            answer: Any = _Answer(_TIME.sub(_time, _BROKEN.sub("", value)))
            self.jar.extract_cookies(answer, asking)
        kept: dict[str, list[Any]] = {}
        for cookie in self.jar:
            kept.setdefault(cookie.domain, []).append(cookie)
        for cookies in kept.values():
            for cookie in cookies[:-MAX_COOKIES]:
                self.jar.clear(cookie.domain, cookie.path, cookie.name)


def cookiesFor(withCredentials: bool | CookieJar) -> Cookies | None:
    """
    Return the cookies of a client; None if it has none.

    @param withCredentials: the option: a jar, or whether there is one.
    """
    if isinstance(withCredentials, CookieJar):
        return Cookies(withCredentials)
    return Cookies() if withCredentials else None
