"""What workers tell each other, to bytes and back."""

from __future__ import annotations

import pytest

from engineio_twisted.workers.frames import (
    MAX_ANSWER,
    Aborted,
    Facts,
    FrameReader,
    Kind,
    answerFrames,
    decodeAborted,
    decodeMove,
    decodeRequest,
    encodeAborted,
    encodeMove,
    frame,
    requestFrame,
)

FACTS = [
    Facts(("TCP", "192.0.2.1", 1), ("TCP", "127.0.0.1", 80)),
    Facts(("TCP6", "2001:db8::1", 65535), ("TCP6", "::1", 443), isSecure=True),
    Facts(("UNIX", None), ("UNIX", "/run/\udcff\xe4"), moves=255, isBalanced=True, acceptedAt=1.5, served=2**32 - 1),
]


def read(reader: FrameReader) -> list[tuple[Kind, bytes]]:
    """Return the frames that are complete."""
    found = []
    while (each := reader.next()) is not None:
        found.append(each)
    return found


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 300])
def test_move(facts: Facts, data: bytes) -> None:
    assert decodeMove(encodeMove(facts, data)) == (facts, data)


@pytest.mark.parametrize("facts", FACTS)
def test_request(facts: Facts) -> None:
    """What is told of a request: the addresses, TLS, and whether a handshake was passed on. The rest is of a move."""
    request = b"POST / HTTP/1.1\r\n\r\n" + bytes(range(256))
    reader = FrameReader(10_000)
    reader.add(requestFrame(facts, request))
    ((kind, payload),) = read(reader)
    found, rest = decodeRequest(payload)
    assert (kind, rest) == (Kind.REQUEST, request)
    assert found == Facts(facts.peer, facts.host, facts.isSecure, isBalanced=facts.isBalanced)


@pytest.mark.parametrize(
    "aborted", [Aborted("1-a", 4), Aborted("1-\xe4", 3, 413, "maxHttpBufferSize", "too much: \u20ac")]
)
def test_aborted(aborted: Aborted) -> None:
    assert decodeAborted(encodeAborted(aborted)) == aborted


MESSAGES = [
    (decodeMove, encodeMove(FACTS[0], b"")),
    (decodeRequest, requestFrame(FACTS[0], b"")[5:]),
    (decodeAborted, encodeAborted(Aborted("1-a", 4, 413, "a", "b"))),
]


@pytest.mark.parametrize(("decode", "message"), MESSAGES)
def test_cutMessages(decode: object, message: bytes) -> None:
    """No part of a message is one, wherever it is cut."""
    for end in range(len(message)):
        with pytest.raises(ValueError):
            decode(message[:end])  # type: ignore[operator]


@pytest.mark.parametrize(("decode", "message"), MESSAGES)
def test_changedMessages(decode: object, message: bytes) -> None:
    """Any byte may be another one: what comes of that is a message or a ValueError."""
    refused = 0
    for at in range(len(message)):
        for value in (0, 0x22, 0x30, 0x5B, 0x7B, 0xFF):
            try:
                decode(message[:at] + bytes([value]) + message[at + 1 :])  # type: ignore[operator]
            except ValueError:
                refused += 1
    assert refused


STREAM = [(Kind.REQUEST, b"abc"), (Kind.END, b""), (Kind.ANSWER, b"\0" * 9), (Kind.UPGRADED, b""), (Kind.CLOSE, b"x")]
BYTES = b"".join(frame(*each) for each in STREAM)


def test_cutAtEachByte() -> None:
    """Frames are read whatever the pieces are in which they come."""
    for at in range(len(BYTES) + 1):
        reader, found = FrameReader(9), []
        for piece in (BYTES[:at], BYTES[at:]):
            reader.add(piece)
            found += read(reader)
        assert found == STREAM
        assert reader.rest() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_pieces(size: int) -> None:
    reader, found = FrameReader(9), []
    for at in range(0, len(BYTES), size):
        reader.add(BYTES[at : at + size])
        found += read(reader)
    assert found == STREAM


def test_whatComesBehind() -> None:
    """What is behind the last frame of a link that becomes a pipe, whatever it looks like."""
    for behind in (b"", b"\0", b"\xff" * 100):
        reader = FrameReader(9)
        reader.add(frame(Kind.UPGRADED) + behind)
        assert reader.next() == (Kind.UPGRADED, b"")
        assert reader.rest() == behind
        assert reader.rest() == b""


def test_limit() -> None:
    """A payload may be as long as the limit; a longer one is refused before it has come."""
    reader = FrameReader(3)
    reader.add(frame(Kind.ANSWER, b"abc") + frame(Kind.ANSWER, b"abcd")[:5])
    assert reader.next() == (Kind.ANSWER, b"abc")
    with pytest.raises(ValueError, match="4 bytes"):
        reader.next()


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_unknownKinds(kind: int) -> None:
    reader = FrameReader(3)
    reader.add(b"\0\0\0\0" + bytes([kind]))
    with pytest.raises(ValueError):
        reader.next()


@pytest.mark.parametrize("size", [1, MAX_ANSWER - 1, MAX_ANSWER, MAX_ANSWER + 1, 3 * MAX_ANSWER])
def test_answers(size: int) -> None:
    """A response of any size comes in frames that a front passes on one by one."""
    data = bytes(range(251)) * (size // 251 + 1)
    reader = FrameReader(MAX_ANSWER)
    for each in answerFrames(data[:size]):
        reader.add(each)
    found = read(reader)
    assert {kind for kind, _ in found} == {Kind.ANSWER}
    assert b"".join(payload for _, payload in found) == data[:size]
