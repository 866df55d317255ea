"""Answers to requests: written in one piece, with headers that an application may change."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

from twisted.web.http_headers import Headers

AnswerT = TypeVar("AnswerT")


class AnswerHeaders(dict[str, str]):
    """
    Headers that many answers have, which nobody changes.

    @ivar lines: as they are written.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        written = Headers()
        for name, value in headers.items():
            written.setRawHeaders(name, [value])
        self.lines: bytes = writtenHeaders(written)


def linesOf(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the lines of headers whose names are as they are to be written; line breaks in values become blanks."""
    return b"".join(
        [b"%b: %b\r\n" % (name.encode(), b" ".join(value.encode().splitlines())) for name, value in headers]
    )


def writtenHeaders(headers: Headers) -> bytes:
    """Return the lines of headers."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values])


_OF_A_HANDSHAKE = re.compile(rb"connection|upgrade|content-length|transfer-encoding|sec-websocket-.*", re.IGNORECASE)
"""Headers that have a meaning of their own in a 101, in which those of other responses would break it."""


def upgradeHeaders(headers: Iterable[tuple[bytes, Sequence[bytes]]]) -> Mapping[str, Sequence[str]]:
    """Return the headers of a response as a 101 has them, as text: those of L{_OF_A_HANDSHAKE} are left out."""
    return {
        name.decode("ascii"): [value.decode("utf-8", "replace") for value in values]
        for name, values in headers
        if not _OF_A_HANDSHAKE.fullmatch(name)
    }


def headerOf(exchange: Any, name: bytes) -> str | None:
    """
    Return a header of a request, the last if there are several of the name; None without one.

    A client may send any bytes in one: each is a character here.

    @param exchange: an L{IExchange}.
    """
    values = exchange.headerValues(name)
    return values[-1].decode("latin-1") if values else None


async def settled(answer: AnswerT | Awaitable[AnswerT]) -> AnswerT:
    """Return an answer, given plain, as a Deferred, or as a coroutine."""
    if isinstance(answer, Awaitable):
        return await answer
    return answer


class ResponseHeaders(MutableMapping[str, Any]):
    """
    The headers of an answer by name, whatever the case: text, or a list of text if there are several of a name.

    To set a name replaces its values. Only cookies stay: to set C{Set-Cookie} replaces cookies of the same name.

    @param headers: those that change with it.
    """

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str | list[str]:
        try:
            values = [each.decode("utf-8", "replace") for each in self._headers.getRawHeaders(name.encode(), ())]
        except ValueError:
            # It can't be a name.
            values = []
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else values

    def __setitem__(self, name: str, value: str | Sequence[str]) -> None:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
            raise TypeError(f"header {name}: {value!r}: expected text, or a list of text")
        if values:
            kept = self._otherCookies(values) if name.lower() == "set-cookie" else []
            self._headers.setRawHeaders(name, [*kept, *values])
        else:
            self._headers.removeHeader(name)

    def _otherCookies(self, cookies: Sequence[str]) -> list[str]:
        """Return the cookies that are set already and whose names none of some cookies has."""
        names = {_cookieName(each) for each in cookies}
        present = [each.decode("utf-8", "replace") for each in self._headers.getRawHeaders(b"set-cookie", ())]
        return [each for each in present if _cookieName(each) not in names]

    def add(self, name: str, value: str) -> None:
        """
        Add a value to those that a name has.

        @raise TypeError: the value isn't text.
        """
        if not isinstance(value, str):
            raise TypeError(f"header {name}: {value!r}: expected text")
        self._headers.addRawHeader(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._headers.removeHeader(name)

    def __iter__(self) -> Iterator[str]:
        return iter([name.decode("latin-1") for name, _ in self._headers.getAllRawHeaders()])

    def __len__(self) -> int:
        return len(list(self._headers.getAllRawHeaders()))

    def __repr__(self) -> str:
        return f"ResponseHeaders({dict(self)})"


def _cookieName(cookie: str) -> str:
    return cookie.partition("=")[0].strip()
