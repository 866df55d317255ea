"""Answers to requests: written in one piece, with headers that an application may change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.web.http_headers import Headers

from ..protocol.errors import HTTPRefusal

AnswerT = TypeVar("AnswerT")


class Response(Protocol):
    """A L{twisted.web.server.Request}, as far as answering it goes."""

    def setResponseCode(self, code: int, message: bytes | None = None) -> None: ...
    def setHeader(self, name: bytes | str, value: bytes | str) -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


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
        self.lines = writtenHeaders(written)


def writtenHeaders(headers: Headers) -> bytes:
    """Return the lines of headers."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, values in headers.getAllRawHeaders() for value in values])


KNOWN_HEADERS = (b"accept-encoding", b"content-type", b"origin", b"user-agent")
"""Headers that are looked for in nearly each request."""


def headerValues(request: Any, name: bytes) -> Sequence[bytes]:
    """
    Return the values of a header of a request.

    @param name: one of L{KNOWN_HEADERS}.
    """
    # One of ours knows them, until somebody else asks.
    known: Mapping[bytes, Sequence[bytes]] | None = getattr(request, "knownHeaders", None)
    values: Sequence[bytes] = request.requestHeaders.getRawHeaders(name, ()) if known is None else known[name]
    return values


def headerOf(request: Any, name: bytes) -> str | None:
    """
    Return a header of a request, the last where there are several of the name; None without one.

    A client may send any bytes in one: each is a character here, where C{getHeader} expects UTF-8.
    """
    values = request.requestHeaders.getRawHeaders(name)
    return values[-1].decode("latin-1") if values else None


def respond(
    request: Response, status: int, headers: Mapping[str, str], body: bytes, announce: Callable[[Any], object]
) -> None:
    """
    Answer a request.

    Finishing a request may serve the next one of its connection before this returns: callers change their state
    first and answer last.

    @param announce: called with the request when its headers are set, before they are written.
    """
    # One of ours has a shorter way.
    short = getattr(request, "respond", None)
    if short is not None and short(status, headers, body, announce):
        return
    request.setResponseCode(status)
    for name, value in headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(body)))
    announce(request)
    request.write(body)
    request.finish()


def refuse(request: Any, refusal: HTTPRefusal, announce: Callable[[Any], object]) -> None:
    """
    Answer a plain request with a refusal.

    @param announce: as in L{respond}.
    """
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **refusal.headers}
    respond(request, refusal.status, headers, refusal.asJSON().encode(), announce)


def isAnswered(request: Any) -> bool:
    """Return whether the request was answered or its client is gone."""
    return bool(request.startedWriting) or getattr(request, "channel", None) is None


async def settled(answer: AnswerT | Awaitable[AnswerT]) -> AnswerT:
    """Return an answer, given plain, as a Deferred, or as a coroutine."""
    if isinstance(answer, Awaitable):
        return await answer
    return answer


class Watcher(Protocol):
    """Who is told of requests that are lost."""

    def requestLost(self, request: Any) -> None:
        """Learn that the connection of a request was lost before it was answered."""
        ...


def watch(request: Any, watcher: Watcher) -> None:
    """Have somebody told where a request is lost."""
    # One of ours has a shorter way.
    short = getattr(request, "watchedBy", None)
    if short is None:
        request.notifyFinish().addErrback(lambda _: watcher.requestLost(request))
    else:
        short(watcher)


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
