"""
Requests of HTTP at the client's end of a connection in memory, and their responses.

They are stricter than real clients: what a server may not send raises L{ProtocolViolation}.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence

import attrs
from twisted.web.http_headers import Headers

from ..protocol.errors import EngineIOError
from .network import MemoryConnection, Receiver

Connect = Callable[[Receiver], MemoryConnection]


class ProtocolViolation(AssertionError):
    """The server sent what it may not."""


@attrs.frozen
class Response:
    """
    An answer to a request.

    @ivar headers: a L{twisted.web.http_headers.Headers}.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class HandshakeRefused(EngineIOError):
    """
    A client was refused.

    @ivar status: the HTTP status; 0 where there was none, as the connection was lost.
    @ivar message: what the answer says.
    @ivar code: the protocol's code, an L{ErrorCode}; None where the answer has none, as to a WebSocket.
    @ivar response: the answer, a L{Response}; None where there was none.
    """

    status: int
    message: str
    code: int | None
    response: Response | None

    def __init__(self, status: int, message: str, code: int | None = None, response: Response | None = None) -> None:
        super().__init__(f"{status} {message}" if code is None else f"{status} {message} (code {code})")
        self.status, self.message, self.code, self.response = status, message, code, response


_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3}) [^\r\n]*\Z")


def takeHead(data: bytearray, minors: bytes = b"1") -> tuple[int, Headers] | None:
    """
    Take the status and headers of an answer out of what came.

    @param minors: the digits of the minor versions of HTTP/1 in which it may be.
    @return: None if they aren't all there.
    @raise ProtocolViolation: they aren't any.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).split(b"\r\n")
    del data[: end + 4]
    status = _STATUS.match(first)
    if status is None or status[1] not in minors:
        raise ProtocolViolation(f"an answer that begins with {first[:64]!r}: expected a status of HTTP/1.1")
    headers = Headers()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise ProtocolViolation(f"an answer with the line {line[:64]!r}: expected a header")
        headers.addRawHeader(name, value.strip())
    return int(status[2]), headers


def takeBody(status: int, headers: Headers, data: bytearray) -> bytes | None:
    """Take the body of an answer out of what came; None where that isn't all there."""
    if status in (204, 304):
        return b""
    if headers.getRawHeaders(b"transfer-encoding", []) == [b"chunked"]:
        return _takeChunks(data)
    lengths = headers.getRawHeaders(b"content-length", [])
    if len(lengths) != 1 or not lengths[0].isdigit():
        raise ProtocolViolation(f"an answer with the Content-Length {lengths}: expected one number")
    length = int(lengths[0])
    if len(data) < length:
        return None
    body = bytes(data[:length])
    del data[:length]
    return body


def _takeChunks(data: bytearray) -> bytes | None:
    chunks, end = [], 0
    while True:
        start = data.find(b"\r\n", end) + 2
        if start < 2:
            return None
        length = int(data[end : start - 2], 16)
        end = start + length + 2
        if len(data) < end:
            return None
        if data[end - 2 : end] != b"\r\n":
            raise ProtocolViolation(f"a chunk of {length} bytes that goes on")
        chunks.append(bytes(data[start : end - 2]))
        if not length:
            del data[:end]
            return b"".join(chunks)


class Requests:
    """Requests of a client, one after the other, on a connection that is kept for the next."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._data = bytearray()
        self._head: tuple[int, Headers] | None = None
        self._method = ""
        self._answered: Callable[[Response], object] | None = None
        self._lost: Callable[[], object] | None = None
        self.connection: MemoryConnection | None = None

    @property
    def isWaiting(self) -> bool:
        """Whether an answer is awaited."""
        return self._answered is not None

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        answered: Callable[[Response], object],
        lost: Callable[[], object],
    ) -> None:
        """
        Send a request.

        @param answered: called with the answer.
        @param lost: called where the connection is lost before it.
        """
        self._method, self._answered, self._lost = method, answered, lost
        if self.connection is None:
            self.connection = self._connect(self)
        self.connection.send(written(method, target, headers, body if method == "POST" or body else None))

    def dataReceived(self, data: bytes) -> None:
        """
        Take bytes of an answer.

        @raise ProtocolViolation: they aren't any.
        """
        self._data += data
        if self._answered is None:
            raise ProtocolViolation(f"{data[:64]!r}, where nothing was asked")
        if self._head is None:
            self._head = takeHead(self._data)
        body = None if self._head is None else self._takeBody(*self._head)
        if self._head is None or body is None:
            return
        (status, headers), self._head = self._head, None
        if self._data:
            raise ProtocolViolation(f"{bytes(self._data[:64])!r} behind an answer")
        coding = headers.getRawHeaders(b"content-encoding", [b"identity"])[-1]
        if coding != b"identity" and body:
            # What zlib finds out by itself: gzip or deflate.
            body = zlib.decompress(body, 47)
        answered, self._answered = self._answered, None
        if b"close" in headers.getRawHeaders(b"connection", []):
            # The next request is not to meet its end.
            self.drop()
        answered(Response(status, headers, body))

    def _takeBody(self, status: int, headers: Headers) -> bytes | None:
        return b"" if self._method == "HEAD" else takeBody(status, headers, self._data)

    def connectionLost(self) -> None:
        """Called when the server has closed the connection, or cut it."""
        lost = self._lost if self.isWaiting else None
        self.forget()
        if lost is not None:
            lost()

    def drop(self) -> None:
        """Close the connection; nothing is awaited any more."""
        if self.connection is not None:
            if self.isWaiting:
                self.connection.lose()
            else:
                self.connection.finish()
        self.forget()

    def forget(self) -> None:
        """Forget the connection, after it was lost: the next request makes one."""
        self.connection = self._answered = self._head = None
        self._data.clear()


def written(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> bytes:
    """Return a request as it is sent."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1", *([] if "host" in given else ["Host: localhost"])]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
