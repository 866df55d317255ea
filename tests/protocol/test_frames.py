"""Frames of WebSocket, read and written without a connection: the list of RFC 6455, limits, memory, and stopping."""

from __future__ import annotations

import codecs
import gc
import itertools
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted.protocol.frame_reader import INTEGER_UNMASKED, ClientFrameReader, FrameReader
from engineio_twisted.protocol.frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FINAL,
    INVALID_PAYLOAD,
    NORMAL,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_LARGE,
    WHOLE_BINARY,
    WHOLE_TEXT,
    Close,
    Event,
    FrameError,
    Ping,
    Pong,
    Violation,
    closePayload,
    frame,
    maskedFrame,
    tooLarge,
    unmask,
)
from engineio_twisted.protocol.incomplete import MANY_PIECES

from ..kit.rfc6455 import CASES, LIMIT, OPEN, Case, cuts, named
from ..kit.wire import Frame, framesOf, makeFrame

SECTIONS = ("5.", "6", "7.", "8", "10.4")
"""The sections of RFC 6455 that are about frames."""

FRAMING = [each for each in CASES if each.section.startswith(SECTIONS)]


def read(reader: FrameReader, *pieces: bytes) -> list[Event]:
    """All that pieces say."""
    events = []
    for data in pieces:
        position = 0
        while position < len(data):
            before = position
            position, event = reader.read(data, position)
            if event is not None:
                events.append(event)
            assert position > before
    return events


class Echo:
    """What is between frames and an application that sends each message back, as far as the list goes."""

    def __init__(self) -> None:
        self.reader = FrameReader(LIMIT)
        self.sent: list[Frame] = []
        self.closedAt: int | None = None
        self._count = 0

    def receive(self, piece: bytes) -> None:
        self._count += len(piece)
        for event in read(self.reader, piece):
            if self.closedAt is None:
                self._answer(event)

    def _answer(self, event: Event) -> None:
        if isinstance(event, str):
            # Engine.IO: a message begins with 4, and what is no packet ends the session.
            if event.startswith("4"):
                self.sent.append(Frame(TEXT, event.encode()))
            else:
                self._close(NORMAL)
        elif isinstance(event, bytes):
            self.sent.append(Frame(BINARY, event))
        elif isinstance(event, Ping):
            self.sent.append(Frame(PONG, event.payload))
        elif isinstance(event, Close | Violation):
            self._close(event.code)

    def _close(self, code: int | None) -> None:
        self.reader.close()
        self.closedAt = self._count
        self.sent.append(Frame(CLOSE, closePayload(code)))


@pytest.mark.parametrize("section", sorted({each.section for each in FRAMING}))
def test_theListOfTheRFC(section: str) -> None:
    """What has to come of each case does, however it is cut into pieces."""
    failed = []
    for case in FRAMING:
        if case.section == section:
            found = {cut: isRight(case, pieces, cut == "octets") for cut, pieces in cuts(case.sent).items() if pieces}
            failed += [f"{named(case)}, {cut}" for cut, right in found.items() if not right]
    assert failed == []


def isRight(case: Case, pieces: list[bytes], isByOctets: bool) -> bool:
    echo = Echo()
    for piece in pieces:
        echo.receive(piece)
    if case.code == OPEN:
        if echo.closedAt is not None or not echo.reader._isIdle:
            return False
        return echo.sent == list(case.answers)
    if isByOctets and case.at is not None and (echo.closedAt or 0) > case.at:
        return False
    return echo.sent == [*case.answers, Frame(CLOSE, closePayload(case.code))]


def test_theListIsThere() -> None:
    """All the sections about frames have cases here."""
    assert {each.section.split(".")[0] for each in FRAMING} == {"5", "7", "8", "10"}
    assert len(FRAMING) > 600


# What is read at once, and what isn't


@pytest.mark.parametrize("size", [0, 1, 3, 4, 99, 100, 101, 125, 126, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\x12\x34\x56\x78", b"\xff\0\xff\0"])
def test_messagesOfEverySize(size: int, mask: bytes) -> None:
    """Text and bytes, whole and in pieces, alone and between others."""
    text, data = "x€"[: size % 2 + 1] * (size // 3), bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
    frames = maskedFrame(WHOLE_TEXT, text.encode(), mask) + maskedFrame(WHOLE_BINARY, data, mask)
    events = [text, data]
    assert read(FrameReader(LIMIT), frames) == events
    assert read(FrameReader(LIMIT), frames * 3) == events * 3
    for at in {1, 2, 5, 6, 7, len(frames) // 2, len(frames) - 1}:
        assert read(FrameReader(LIMIT), frames[:at], frames[at:]) == events


def test_oneFrameACall() -> None:
    """So that whoever reads can stop between two frames, also between those of a message, and behind empty ones."""
    pieces = [makeFrame("4a", isFinal=False), makeFrame("", CONTINUATION, isFinal=False), makeFrame("b", CONTINUATION)]
    frames = [makeFrame("4first"), makeFrame(b"!", PING), *pieces, makeFrame(b"?", PONG), makeFrame(b"last")]
    data = b"".join(frames)
    reader = FrameReader(LIMIT)
    position, found = 0, []
    for each in frames:
        begin = position
        position, event = reader.read(data, position)
        assert position == begin + len(each)
        found.append(event)
    assert found == ["4first", Ping(b"!"), None, None, "4ab", Pong(b"?"), b"last"]
    assert position == len(data)


FRAMES = [
    makeFrame("4hello"),
    makeFrame("4€ 😀"),
    makeFrame(b"\x01\x02\x03"),
    makeFrame(b""),
    makeFrame("4" + "a" * 125),
    makeFrame(b"x" * INTEGER_UNMASKED),
    makeFrame(b"x" * (INTEGER_UNMASKED + 1)),
    makeFrame(b"x" * 65_536),
    makeFrame("4" + "é😀" * 300),
    makeFrame("4pie", isFinal=False) + makeFrame("", CONTINUATION, isFinal=False) + makeFrame("ces", CONTINUATION),
    makeFrame(b"4\xe2", TEXT, isFinal=False) + makeFrame(b"are you there", PING) + makeFrame(b"\x82\xac", CONTINUATION),
    makeFrame(b"yes", PONG),
]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, len(FRAMES) - 1), max_size=8),
    st.lists(st.one_of(st.integers(0, len(FRAMES) - 1), st.binary(max_size=20)), max_size=3),
    st.lists(st.integers(0, 2**31), max_size=6),
)
def test_theSameInPieces(right: list[int], perhaps: list[int | bytes], cutsAt: list[int]) -> None:
    """However it is cut, the same comes of it."""
    data = b"".join([FRAMES[each] if isinstance(each, int) else each for each in [*right, *perhaps]])
    places = sorted({0, len(data), *(each % (len(data) + 1) for each in cutsAt)})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert read(FrameReader(LIMIT), *pieces) == read(FrameReader(LIMIT), *([data] if data else []))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_anything(data: bytes) -> None:
    """Whatever comes, nothing but events come of it, and no more is held than came."""
    for inflater in (None, Inflating()):
        reader = FrameReader(100, inflater)
        if data:
            read(reader, data)
        assert 0 <= reader.held <= len(data)


# What is wrong


REASONS = [
    (b"\xc1\x82mask4x", PROTOCOL_ERROR, "RSV = 4 and no extension negotiated"),
    (b"\x91\x82mask4x", PROTOCOL_ERROR, "RSV = 1 and no extension negotiated"),
    (b"\x81\x024x", PROTOCOL_ERROR, "unmasked client-to-server frame"),
    (makeFrame(b"x", PING, isFinal=False), PROTOCOL_ERROR, "fragmented control frame"),
    (makeFrame(b"x" * 126, PING), PROTOCOL_ERROR, "control frame with payload length > 125 octets"),
    (makeFrame(b"x", 11), PROTOCOL_ERROR, "control frame using reserved opcode 11"),
    (makeFrame(b"x", CLOSE), PROTOCOL_ERROR, "received close control frame with payload len 1"),
    (makeFrame(b"x", 3), PROTOCOL_ERROR, "data frame using reserved opcode 3"),
    (
        makeFrame(b"x", CONTINUATION),
        PROTOCOL_ERROR,
        "received continuation data frame outside fragmented message",
    ),
    (
        makeFrame(b"x", isFinal=False) + makeFrame(b"y"),
        PROTOCOL_ERROR,
        "received non-continuation data frame while inside fragmented message",
    ),
    (makeFrame(b"x", length=2**63), PROTOCOL_ERROR, "invalid data frame length (>2^63)"),
    (
        makeFrame(b"x" * 300, length=300),
        PROTOCOL_ERROR,
        "invalid data frame length (not using minimal length encoding)",
    ),
    (makeFrame(b"\x03\xec", CLOSE), PROTOCOL_ERROR, "invalid close code 1004"),
    (makeFrame(b"\x03\xe8\xff", CLOSE), INVALID_PAYLOAD, "invalid close reason (non-UTF8 payload)"),
    (
        makeFrame(b"4abc\xff", TEXT),
        INVALID_PAYLOAD,
        "encountered invalid UTF-8 while processing text message at payload octet index 4",
    ),
    (
        makeFrame(b"4\xe2\x82x", TEXT),
        INVALID_PAYLOAD,
        "encountered invalid UTF-8 while processing text message at payload octet index 3",
    ),
    (
        makeFrame(b"4abc\xe2", TEXT, isFinal=False) + makeFrame(b"\x82x", CONTINUATION),
        INVALID_PAYLOAD,
        "encountered invalid UTF-8 while processing text message at payload octet index 6",
    ),
    (
        makeFrame(b"4abc\xe2\x82", TEXT),
        INVALID_PAYLOAD,
        "UTF-8 text message payload ended within Unicode code point at payload octet index 6",
    ),
    (makeFrame(b"x" * 1001), TOO_LARGE, "a message is larger than maxHttpBufferSize, 1000 bytes"),
]


@pytest.mark.parametrize(("sent", "code", "reason"), REASONS, ids=[reason for _, _, reason in REASONS])
def test_reasons(sent: bytes, code: int, reason: str) -> None:
    """What is wrong is said in words, the same however it comes; of what comes behind it only a close frame counts."""
    for pieces in cuts(sent).values():
        reader = FrameReader(1000)
        assert read(reader, *pieces) == [Violation(code, reason)]
        assert reader.held < 14
        if len(sent) < 1000 and not reader.isOver and "2^63" not in reason and "fragment" not in reason:
            assert read(reader, makeFrame("4x") + makeFrame(b"p", PING)) == []
            assert not reader.isOver
            assert read(reader, makeFrame(b"", CLOSE) + makeFrame("4x")) == []
            assert reader.isOver


def test_isOver() -> None:
    """A close frame is the last thing that is read, right or wrong, and whoever sent one before."""
    for payload in (b"", b"\x03\xe8", b"\x03\xe8bye", b"\0\0"):
        reader = FrameReader(1000)
        events = read(reader, makeFrame("4a") + makeFrame(payload, CLOSE) + makeFrame("4b"))
        assert events[0] == "4a"
        assert len(events) == 2
        assert reader.isOver
    reader = FrameReader(1000)
    assert read(reader, makeFrame("4a", isFinal=False)) == []
    reader.close()
    assert reader.held == 0
    assert read(reader, makeFrame(b"\xff" * 2000, CONTINUATION) + makeFrame(b"\xff", TEXT) + makeFrame(b"", PING)) == []
    assert not reader.isOver
    assert read(reader, makeFrame(b"\x03\xe8", CLOSE)[:-1]) == []
    assert not reader.isOver
    assert read(reader, makeFrame(b"\x03\xe8", CLOSE)[-1:]) == []
    assert reader.isOver


WRONG_AGAIN = [
    makeFrame("x", 3),
    makeFrame("x", CONTINUATION),
    makeFrame("x", isMasked=False),
    makeFrame("x", isFinal=False) + makeFrame("y"),
    makeFrame(b"x", PING, length=300),
    makeFrame(b"x", length=2**63),
]


@pytest.mark.parametrize("again", WRONG_AGAIN)
@pytest.mark.parametrize("how", ["wrong", "closed"])
def test_wrongAgain(again: bytes, how: str) -> None:
    """A peer that is wrong a second time isn't waited for, nor one that is wrong behind our close frame."""
    for pieces in cuts(again).values():
        reader = FrameReader(1000)
        if how == "wrong":
            assert len(read(reader, makeFrame("4x", reserved=1))) == 1
        else:
            reader.close()
        assert not reader.isOver
        assert read(reader, *pieces) == []
        assert reader.isOver


def test_wrongTwice() -> None:
    """Nor one whose frame is wrong in two ways; nor, when the rest of it has come, one whose text isn't UTF-8."""
    reader = FrameReader(1000)
    assert read(reader, makeFrame("x", 3, isMasked=False)) == [
        Violation(PROTOCOL_ERROR, "unmasked client-to-server frame")
    ]
    assert reader.isOver
    wrong = makeFrame(b"4\xffmore", TEXT, isFinal=False)
    for frames in (makeFrame(b"4\xffmore", TEXT), wrong + makeFrame("", PING) + makeFrame("end", CONTINUATION)):
        for pieces in cuts(frames).values():
            reader = FrameReader(1000)
            assert len(read(reader, b"".join(pieces)[:-1])) == 1
            assert not reader.isOver
            assert read(reader, frames[-1:]) == []
            assert reader.isOver


def test_closeFrames() -> None:
    """The code and the words of a close frame."""
    assert read(FrameReader(9), makeFrame(b"", CLOSE)) == [Close(None)]
    assert read(FrameReader(9), makeFrame(b"\x0f\xa0" + "schön".encode(), CLOSE)) == [Close(4000, "schön")]


# Limits and memory


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_sizes(opcode: int) -> None:
    """A message is refused by its declared size, before it is there."""
    header = maskedFrame(FINAL | opcode, b"x" * 1001, b"mask")[:8]
    assert read(FrameReader(1000), header[:-1]) == []
    assert read(FrameReader(1000), header) == [Violation(TOO_LARGE, tooLarge(1000))]
    assert read(FrameReader(10), makeFrame(b"x" * 11, opcode)[:6]) == [Violation(TOO_LARGE, tooLarge(10))]
    first = makeFrame(b"x" * 600, opcode, isFinal=False)
    assert read(FrameReader(1000), first + makeFrame(b"x" * 401, CONTINUATION)[:8]) == [
        Violation(TOO_LARGE, tooLarge(1000))
    ]
    assert len(read(FrameReader(1000), (first + makeFrame(b"x" * 400, CONTINUATION)) * 3)) == 3


def test_held() -> None:
    """What isn't complete is counted: a header as it comes, and then what is in the frames."""
    reader = FrameReader(LIMIT)
    data = makeFrame("4" + "x" * 300, isFinal=False) + makeFrame(b"!" * 5, PING) + makeFrame("y" * 5, CONTINUATION)
    held = []
    for each in data:
        read(reader, bytes([each]))
        held.append(reader.held)
    assert held[:7] == [1, 2, 3, 4, 5, 6, 7]
    assert held[8:309] == list(range(1, 302))
    assert held[309:315] == [302, 303, 304, 305, 306, 301]
    assert held[315:320] == [302, 303, 304, 305, 301]
    assert held[-1] == 0


def test_arriving() -> None:
    """It changes with each byte of what isn't complete, and with nothing else."""
    reader = FrameReader(LIMIT)
    assert reader.arriving is None
    seen = []
    for each in makeFrame("4" + "x" * 300, isFinal=False) + makeFrame(b"!!", PING):
        read(reader, bytes([each]))
        seen.append(reader.arriving)
    assert all(one != other for one, other in itertools.pairwise(seen))
    before = reader.arriving
    assert before is not None
    read(reader, makeFrame(b"", CONTINUATION, isFinal=False) * 100)
    assert reader.arriving == before, "nothing comes of it"
    read(reader, makeFrame(b"", CONTINUATION))
    assert reader.arriving is None


def taken(does: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        does()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_memoryOfManyPieces(opcode: int, size: int) -> None:
    """A message in very many pieces takes as much as is in it, and little more."""
    reader = FrameReader(LIMIT)
    read(reader, makeFrame(b"4", opcode, isFinal=False))
    pieces = makeFrame(b"x" * size, CONTINUATION, isFinal=False) * 1000
    assert taken(lambda: [read(reader, pieces) for _ in range(10)]) < size * 10_000 + MANY_PIECES * 70
    (message,) = read(reader, makeFrame(b"", CONTINUATION))
    assert len(message) == size * 10_000 + 1  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1000, 60_000])
@pytest.mark.parametrize("piece", ["x" * 50_000 + "\U0001f600", "é" * 25_000, "\u4e16" * 15_000], ids=ascii)
def test_memoryOfText(piece: str, size: int) -> None:
    """One character that takes four bytes makes text four times as large: that is kept as it came."""
    reader = FrameReader(LIMIT)
    data = makeFrame("4" + piece * 4)
    pieces = [data[start : start + size] for start in range(0, len(data) - 1, size)]
    assert taken(lambda: read(reader, *pieces[:-1])) < 2 * len(data)
    assert read(reader, pieces[-1], data[len(b"".join(pieces)) :] or b"") == ["4" + piece * 4]


# Text


@settings(deadline=None)
@given(st.text(), st.binary(max_size=4), st.text(max_size=3), st.integers(1, 9))
def test_textIsReadAsItComes(before: str, middle: bytes, behind: str, size: int) -> None:
    """Text that isn't UTF-8 fails at the first byte that can't be, and what is UTF-8 is read."""
    payload = before.encode() + middle + behind.encode()
    decoder = codecs.getincrementaldecoder("utf-8")()
    place: int | None = None
    for index, each in enumerate(payload):
        try:
            decoder.decode(bytes([each]))
        except UnicodeDecodeError:
            place = index
            break
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    frames = [makeFrame(part, CONTINUATION if number else TEXT, isFinal=False) for number, part in enumerate(parts)]
    (event,) = read(FrameReader(LIMIT), *frames, makeFrame(b"", CONTINUATION))
    if place is not None:
        assert isinstance(event, Violation)
        assert event.reason.endswith(f"octet index {place}")
    elif decoder.getstate()[0]:
        assert isinstance(event, Violation)
        assert event.reason.endswith(f"ended within Unicode code point at payload octet index {len(payload)}")
    else:
        assert event == payload.decode()


# Compressed messages


class Inflating:
    """Inflates each byte to as many as it says."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def inflate(self, data: bytes, limit: int) -> bytes:
        self.calls.append((len(data), limit))
        if b"\xee" in data:
            raise FrameError(INVALID_PAYLOAD, "it can't be inflated")
        inflated = b"".join([b"x" * each for each in data])
        if len(inflated) > limit:
            raise FrameError(TOO_LARGE, "it is too much")
        return inflated

    def end(self) -> None:
        self.calls.append("end")


def test_compressed() -> None:
    """A compressed message is inflated when it is complete, and not before; others are read between and after."""
    inflater = Inflating()
    reader = FrameReader(1000, inflater)
    assert read(reader, makeFrame(b"\x05\x02", TEXT, reserved=4, isFinal=False) + makeFrame(b"!", PING)) == [Ping(b"!")]
    assert (inflater.calls, reader.held) == ([], 2)
    assert read(reader, makeFrame(b"\x01", CONTINUATION) + makeFrame("4x") + makeFrame(b"\x03", reserved=4)) == [
        "x" * 8,
        "4x",
        b"xxx",
    ]
    assert inflater.calls == ["begin", (3, 1000), "end", "begin", (1, 1000), "end"]


def test_compressedLimits() -> None:
    """The limit is for what a message inflates to; it is inflated before its end only if it came larger than that."""
    inflater = Inflating()
    reader = FrameReader(100, inflater)
    assert read(reader, makeFrame(b"\x65", reserved=4)) == [Violation(TOO_LARGE, tooLarge(100))]
    reader = FrameReader(100, Inflating())
    nothing = makeFrame(bytes(60), CONTINUATION, isFinal=False)
    assert read(reader, makeFrame(b"\x01", TEXT, reserved=4, isFinal=False) + nothing * 50) == []
    assert reader.held <= 100
    assert read(reader, makeFrame(b"\x02", CONTINUATION)) == ["xxx"]
    reader = FrameReader(100, Inflating())
    big = makeFrame(b"\x32" * 2, TEXT, reserved=4, isFinal=False)
    assert read(reader, big + makeFrame(bytes(100), CONTINUATION)) == [Violation(TOO_LARGE, tooLarge(100))]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (makeFrame(b"\xee", reserved=4), "it can't be inflated"),
        (makeFrame(b"", PING, reserved=4), "received compressed control frame [permessage-deflate]"),
        (
            makeFrame(b"", isFinal=False, reserved=4) + makeFrame(b"", CONTINUATION, reserved=4),
            "received continuation data frame with compress bit set [permessage-deflate]",
        ),
        (makeFrame(b"", reserved=6), "RSV = 6 and no extension negotiated"),
        (makeFrame(b"", reserved=2), "RSV = 2 and no extension negotiated"),
    ],
)
def test_compressedAndWrong(sent: bytes, reason: str) -> None:
    """What is wrong with a compressed message, and with what says that it is one."""
    (violation,) = read(FrameReader(100, Inflating()), sent)
    assert isinstance(violation, Violation)
    assert violation.reason == reason


# Writing


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("first", [WHOLE_TEXT, WHOLE_BINARY, WHOLE_BINARY | COMPRESSED, TEXT, FINAL])
def test_writing(first: int, size: int) -> None:
    """What is written as a server is what a client reads, and the other way round."""
    payload = random.Random(size).randbytes(size)
    written = frame(first, payload)
    assert framesOf(written) == [Frame(first & 15, payload, first >= FINAL, first >> 4 & 7)]
    masked = maskedFrame(first, payload, b"\x12\x34\x56\x78")
    assert len(masked) == len(written) + 4
    assert masked[1] == written[1] | 0x80
    assert unmask(b"\x12\x34\x56\x78", masked[len(masked) - size :]) == payload


def test_closePayload() -> None:
    """A reason fits into a close frame, and is cut between two characters if it doesn't."""
    assert closePayload(None, "nothing") == b""
    assert closePayload(1000) == b"\x03\xe8"
    assert closePayload(1001, "x" * 123) == b"\x03\xe9" + b"x" * 123
    assert closePayload(1001, "x" * 124) == b"\x03\xe9" + b"x" * 123
    assert closePayload(1001, "x" + "€" * 50) == b"\x03\xe9" + b"x" + "€".encode() * 40


def test_aServersFrames() -> None:
    """They are read by the same rules, but for the mask."""
    data = frame(WHOLE_TEXT, b"4hello") + frame(WHOLE_BINARY, b"\x01") + frame(FINAL | PING, b"!")
    expected: list[Event] = ["4hello", b"\x01", Ping(b"!")]
    for pieces in cuts(data).values():
        assert read(ClientFrameReader(LIMIT), *pieces) == expected
    assert read(ClientFrameReader(LIMIT), makeFrame("4hello")) == [
        Violation(PROTOCOL_ERROR, "masked server-to-client frame")
    ]


def test_nativeCode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long payloads are unmasked by what a subclass says, those of bytes once, however they are cut."""
    sizes = []

    class Reader(FrameReader):
        @staticmethod
        def unmaskLong(mask: bytes, payload: bytes) -> bytes | bytearray:
            sizes.append(len(payload))
            return bytearray(unmask(mask, payload))

    reader = Reader(LIMIT)
    for size in (INTEGER_UNMASKED, INTEGER_UNMASKED + 1, 5000):
        data = maskedFrame(WHOLE_BINARY, b"x" * size, b"mask")
        assert read(reader, data) == [b"x" * size]
        assert read(reader, data[:-1], data[-1:]) == [b"x" * size]
    assert sizes == [101, 101, 5000, 5000]
