"""The bodies of responses: read as they come, inflated, and bounded."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from .errors import ConnectionFailed, FailureType
from .failures import failureOf

CODINGS = b"gzip, deflate"
"""The C{Accept-Encoding} of requests: what L{Inflater} can read."""

_GZIP = ("gzip", "x-gzip")


class Inflater:
    """
    Inflates a body in pieces.

    @param coding: C{gzip} or C{deflate}.
    """

    def __init__(self, coding: str) -> None:
        self._isGzip = coding in _GZIP
        self._decompressor: Any = zlib.decompressobj(zlib.MAX_WBITS | 16) if self._isGzip else None
        self._coding = coding

    def inflate(self, data: bytes, limit: int) -> bytes:
        """
        Return what some bytes inflate to.

        @param limit: how many bytes that may be; of more it is the first so many, and one.
        @raise ValueError: it isn't what the coding says.
        """
        decompressor = self._decompressor
        if decompressor is None:
            # Some servers leave the header of zlib out. What begins like one can't be a block of deflate.
            hasHeader = data[0] & 15 == zlib.DEFLATED
            decompressor = self._decompressor = zlib.decompressobj(zlib.MAX_WBITS if hasHeader else -zlib.MAX_WBITS)
        try:
            inflated: bytes = decompressor.decompress(data, limit + 1)
        except zlib.error as error:
            raise ValueError(f"the body isn't {self._coding}: {error}") from None
        if decompressor.unused_data:
            raise ValueError(f"the body has more behind the end of its {self._coding}")
        return inflated

    @property
    def isComplete(self) -> bool:
        """Whether the end was there."""
        return self._decompressor is not None and bool(self._decompressor.eof)


def inflaterFor(headers: Headers) -> Inflater | None:
    """
    Return what inflates a body; None if it isn't compressed.

    @raise ValueError: it is, and not as was asked for.
    """
    values = headers.getRawHeaders(b"content-encoding")
    if not values:
        return None
    coding = b",".join(values).decode("latin-1").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in (*_GZIP, "deflate"):
        raise ValueError(f"the body is compressed by {coding[:32]!r}: expected gzip or deflate")
    return Inflater(coding)


def tooLarge(limit: int) -> ConnectionFailed:
    """Return the failure of a response with a larger body than may be."""
    return ConnectionFailed(
        FailureType.TOO_LARGE, f"the body of a response is larger than maxHttpBufferSize, {limit} bytes"
    )


class Body(Protocol):
    """
    Takes the body of a response, as an C{IResponse} delivers it.

    @param limit: how many bytes it may have, inflated; more of it isn't read.
    @param ended: called once, with the body, and with why it isn't whole; None if it is.
    @param inflater: if it is compressed.
    @ivar size: how many bytes have come, as they came.
    """

    def __init__(
        self, limit: int, ended: Callable[[bytes, ConnectionFailed | None], object], inflater: Inflater | None
    ) -> None:
        self._limit = limit
        self._ended: Callable[[bytes, ConnectionFailed | None], object] | None = ended
        self._inflater = inflater
        self._pieces: list[bytes] = []
        self._inflated = 0
        self._isOver = False
        self.size: int = 0

    def dataReceived(self, data: bytes) -> None:
        if self._ended is None or not data:
            return
        self.size += len(data)
        if self._inflater is not None:
            try:
                data = self._inflater.inflate(data, self._limit - self._inflated)
            except ValueError as error:
                self._end(ConnectionFailed(FailureType.PARSE, str(error)))
                return
        self._inflated += len(data)
        self._pieces.append(data)
        if self._inflated > self._limit:
            self._end(tooLarge(self._limit))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._isOver = True
        if self._ended is None:
            return
        if not reason.check(ResponseDone):
            self._end(failureOf(reason))
        elif self._inflater is not None and self.size and not self._inflater.isComplete:
            self._end(ConnectionFailed(FailureType.LOST, "the body ends before what it inflates to does"))
        else:
            self._end(None)

    def stop(self) -> None:
        """Read no more, and call nobody."""
        self._ended = None
        self._pieces = []
        if not self._isOver and self.transport is not None:
            transport: Any = self.transport
            # That of Twisted's agent can't abort.
            getattr(transport, "abortConnection", transport.loseConnection)()

    def cut(self) -> None:
        """End with what has come: nobody waits for more."""
        if self._ended is not None:
            self._end(None)

    def _end(self, failure: ConnectionFailed | None) -> None:
        ended, self._ended = self._ended, None
        pieces, self._pieces = self._pieces, []
        if ended is not None:
            ended(pieces[0] if len(pieces) == 1 else b"".join(pieces), failure)
