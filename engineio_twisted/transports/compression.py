"""
The compression of polling responses, as C{httpCompression} asks for it and the client accepts it.

docs/architecture/compression.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from ..web.connections import connectionOf

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..protocol.option_parts import HttpCompression

COMPRESSED_AT_ONCE = 65536
"""
Bytes of a payload that are compressed without a pause. More goes out in pieces of this size.

A piece takes about a millisecond, a payload of ten megabytes a sixth of a second, in which nobody else would be
served.
"""

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""By the coding: these tell zlib the format, and ask for the largest window."""


def compressorFor(coding: str, settings: HttpCompression) -> Any:
    """Return a compressor of zlib for a coding, C{gzip} or C{deflate}."""
    return zlib.compressobj(settings.level, zlib.DEFLATED, _WINDOW_BITS[coding], settings.memLevel)


def compressedAtOnce(body: bytes, compressor: Any) -> bytes | None:
    """Return a body in compressed form; None if it is so large that it is compressed in pieces."""
    if len(body) > COMPRESSED_AT_ONCE:
        return None
    compressed: bytes = compressor.compress(body) + compressor.flush()
    return compressed


@implementer(IPullProducer)
class CompressedBody:
    """
    A large body, compressed piece by piece as the connection asks for more.

    @param request: the request of twisted.web that is answered; the headers are set.
    @param compressor: of zlib.
    @param finished: called with this when everything is written, or the connection is lost.
    @param answered: called when the request is answered.
    @param count: called with the size of each piece that is sent, in bytes.
    @ivar channel: the channel of the request.
    @ivar connection: the connection, or the stream of HTTP/2, that the body is written to.
    @ivar size: how many bytes were written.
    """

    def __init__(
        self,
        request: Request,
        body: bytes,
        compressor: Any,
        finished: Callable[[CompressedBody], object],
        answered: Callable[[], object],
        count: Callable[[int], object],
    ) -> None:
        self._request = request
        self.channel: Any = request.channel
        self.connection: Any = connectionOf(request)
        self.size: int = 0
        self._rest = memoryview(body)
        self._compressor = compressor
        self._finished = finished
        self._answered = answered
        self._count = count

    @property
    def left(self) -> int:
        """How many bytes are not compressed yet."""
        return len(self._rest)

    def resumeProducing(self) -> None:
        """Write the next piece."""
        self._write(COMPRESSED_AT_ONCE)

    def hurry(self) -> None:
        """Write the whole rest."""
        self._write(len(self._rest))

    def stopProducing(self) -> None:
        """Called when the connection is lost."""
        self._finished(self)

    def _write(self, size: int) -> None:
        if self._request.channel is None:
            # The connection is lost. A channel that was closing doesn't say so, and would ask for more for ever.
            self.channel.unregisterProducer()
            self._finished(self)
            return
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._send(self._compressor.compress(piece))
        if not self._rest:
            self._send(self._compressor.flush())
            self._finished(self)
            self._request.unregisterProducer()
            self._request.finish()
            self._answered()

    def _send(self, piece: bytes) -> None:
        self.size += len(piece)
        self._count(len(piece))
        self._request.write(piece)
