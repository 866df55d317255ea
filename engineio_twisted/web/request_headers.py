"""
The headers of a request as they came: bytes, of which a table is made when somebody changes them.

A session keeps its first request as long as it lives. A table of headers takes up to ten times as much memory as what
was sent, so a client could fill memory with little (docs/architecture/requests.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from twisted.web.http_headers import Headers

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
"""The name of a header (RFC 9110, 5.6.2)."""

_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:(?![ \t])[^\r\n]*+(?<![ \t])\r\n")
"""A header of which the same comes when it is read."""


@lru_cache(256)
def _prefixesOf(name: str | bytes) -> tuple[bytes, bytes] | None:
    """Return how a header begins behind a line feed, with its name as twisted.web writes it, and in lower case."""
    token = name.encode("iso-8859-1") if isinstance(name, str) else name
    if not _TOKEN.fullmatch(token):
        return None
    [(written, _)] = Headers({token: [b""]}).getAllRawHeaders()
    return b"\n%b:" % written, prefixOf(token)


def prefixOf(name: bytes) -> bytes:
    """
    Return how a header begins in the lines of a head in lower case, with the line feed before it.

    @param name: its name, a token.
    """
    return b"\n%b:" % name.lower()


def linesOf(head: bytes) -> bytes:
    """Return the lines of a head as L{prefixOf} expects them."""
    return b"\n" + head.lower()


def valuesOf(head: bytes, lines: bytes, prefix: bytes) -> list[bytes]:
    """
    Return the values of a header.

    @param head: the lines, each with its end.
    @param lines: of L{linesOf}.
    @param prefix: of L{prefixOf}.
    """
    values = []
    at = lines.find(prefix)
    while at >= 0:
        begin = at + len(prefix) - 1
        end = head.index(b"\r\n", begin)
        values.append(head[begin:end].strip(b" \t"))
        at = lines.find(prefix, end)
    return values


def _tableOf(head: bytes) -> dict[bytes, list[bytes]]:
    headers = Headers()
    for line in head.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            headers.addRawHeader(name, value.strip(b" \t"))
    return headers._rawHeaders


class RequestHeaders(Headers):
    """
    The headers of a request: a read returns what is looked for, a change makes a table of them.

    @param head: the lines, each with its end, and an empty one behind them or not; by default there are none, and
        those that C{addRawHeader} adds before anything is read come behind each other.
    """

    # Whether names are as twisted.web writes them.
    __slots__ = ("_head", "_isWritten", "_table")

    def __init__(self, head: bytes | None = None) -> None:
        # While headers come, a place to put them that grows.
        self._head: bytes | bytearray = bytearray() if head is None else head
        self._isWritten = head is None
        self._table: dict[bytes, list[bytes]] | None = None

    @property
    def _rawHeaders(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        # The base changes what this returns.
        if self._table is None:
            self._table = _tableOf(self._whole())
            self._head = b""
        return self._table

    def _whole(self) -> bytes:
        if type(self._head) is not bytes:
            self._head = bytes(self._head)
        return self._head

    def pack(self) -> None:
        """Keep the headers as bytes again, if they can be written so."""
        if self._table is None:
            self._whole()
            return
        head = b"".join([b"%b:%b\r\n" % (name, value) for name, values in self._table.items() for value in values])
        if _tableOf(head) == self._table:
            self._head, self._isWritten, self._table = head, True, None

    def addRawHeader(self, name: Any, value: Any) -> None:
        if type(self._head) is bytearray and type(name) is bytes and type(value) is bytes:
            line = b"%b:%b\r\n" % (name, value)
            if _LINE.fullmatch(line):
                self._head += line
                return
        super().addRawHeader(name, value)

    def __reduce__(self) -> Any:
        return Headers, (self._read(),)

    def copy(self) -> Headers:
        """Return headers of their own, with the same names and values."""
        return Headers(self._read())

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        return iter(self._read().items())

    def _read(self) -> dict[bytes, list[bytes]]:
        """Return a table to be read, which may not be the one that is kept."""
        return _tableOf(self._whole()) if self._table is None else self._table

    def _lines(self, name: str | bytes) -> tuple[bytes, bytes] | None:
        """Return lines to look for a header in, and how it begins there; None if the base has to look."""
        prefixes = _prefixesOf(name) if self._table is None else None
        if prefixes is None:
            return None
        head = self._whole()
        return (b"\n" + head, prefixes[0]) if self._isWritten else (linesOf(head), prefixes[1])

    def hasHeader(self, name: Any) -> bool:
        place = self._lines(name)
        return super().hasHeader(name) if place is None else place[1] in place[0]

    def getRawHeaders(self, name: Any, default: Any = None) -> Any:
        place = self._lines(name)
        if place is None:
            return super().getRawHeaders(name, default)
        lines, prefix = place
        if prefix not in lines:
            return default
        values = valuesOf(self._whole(), lines, prefix)
        return [each.decode("utf8") for each in values] if isinstance(name, str) else values
