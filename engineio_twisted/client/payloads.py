"""Payloads of polling as a client has them: the bodies of the responses to its GETs, and the sizes of its POSTs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ..protocol.errors import DecodeError
from ..protocol.packet import Packet, PacketType, decodeText, describe
from ..protocol.payload import Codec
from ..session.outbox import sizeOf
from .errors import ConnectionFailed, FailureType
from .failures import failureOfResponse
from .requests import NAME, PollingRequest

TEXT = b"text/plain;charset=UTF-8"
"""The content type of a payload of text."""

BINARY = b"application/octet-stream"
"""The content type of a payload of bytes, which revision 3 has. In revision 4 a payload is text, whatever its type."""

_KINDS = (b"text/plain", BINARY, b"")
"""Content types of responses that carry a payload; some servers say none."""


class NoSession(DecodeError):
    """
    The first response opens no session.

    @ivar failure: what it is instead.
    """

    failure: ConnectionFailed

    def __init__(self, failure: ConnectionFailed) -> None:
        super().__init__(failure.description)
        self.failure = failure


@lru_cache(16)
def _kindOf(contentType: bytes) -> bytes:
    return contentType.partition(b";")[0].strip().lower()


def payloadOf(get: PollingRequest, codec: Codec) -> str | bytes | None:
    """
    Return the payload that a response carries; None if it isn't one of Engine.IO's.

    @raise DecodeError: it is, and isn't text.
    """
    assert get.responseHeaders is not None
    types = get.responseHeaders.getRawHeaders(b"content-type")
    kind = _kindOf(types[-1]) if types else b""
    if kind == BINARY and codec.revision == 3:
        return get.answer
    return decodeText(get.answer) if kind in _KINDS else None


def notEngineIO(get: PollingRequest) -> ConnectionFailed:
    """Return the failure of a response that isn't one of Engine.IO's."""
    assert get.responseHeaders is not None
    return failureOfResponse(200, get.responseHeaders, get.answer, NAME)


def openPacketOf(packets: Iterator[Packet], get: PollingRequest) -> Packet:
    """
    Return the packet that opens a session: the first of its first response.

    @raise NoSession: it is none.
    """
    try:
        packet = next(packets)
    except DecodeError:
        raise NoSession(notEngineIO(get)) from None
    if packet.type is not PacketType.OPEN:
        expected = f"the first packet is {describe(packet)}: expected the open packet"
        raise NoSession(ConnectionFailed(FailureType.HANDSHAKE, expected))
    return packet


def postedSize(data: str | bytes, codec: Codec, supportsBinary: bool) -> int:
    """
    Return how many bytes a packet takes in a POST, at most.

    @param data: of the packet.
    @param supportsBinary: whether bytes may go as they are, which revision 4 never does.
    """
    size = sizeOf(data)
    if isinstance(data, bytes) and (codec.revision != 3 or not supportsBinary):
        size = (size + 2) // 3 * 4
    # The type or a mark; in revision 3 both, and a length with what is around it.
    return size + 1 if codec.revision != 3 else size + 4 + len(str(size + 2))
