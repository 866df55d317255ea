"""Frames between the servers of several processes: what they are, byte by byte, and what is none."""

from __future__ import annotations

import random

import pytest

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.remote_calls import Flags, Kind, RemoteCall, decodeCall, encodeCall

FRAMES = [
    (RemoteCall(Kind.BROADCAST), "01 00 0000000000000000 00000000"),
    (
        RemoteCall(Kind.BROADCAST, Flags.COMPRESSED | Flags.VOLATILE, 0, ("1-a", ""), ("€", b"\xff")),
        "01 03 0000000000000000 00000002 00000003 312d61 00000000 01 00000003 e282ac 02 00000001 ff",
    ),
    (
        RemoteCall(Kind.SEND, Flags.COMPRESSED, 2**64 - 1, ("1-a",), ("",)),
        "02 01 ffffffffffffffff 00000001 00000003 312d61 01 00000000",
    ),
    (RemoteCall(Kind.CLOSE, Flags.DISCARDED, 258, ("1-a",)), "03 04 0000000000000102 00000001 00000003 312d61"),
    (RemoteCall(Kind.ANSWER, Flags.DONE, 258), "04 08 0000000000000102 00000000"),
    (RemoteCall(Kind.BROADCAST, sids=("\ud800",)), "01 00 0000000000000000 00000001 00000003 eda080"),
]


@pytest.mark.parametrize(("call", "written"), FRAMES)
def test_bytes(call: RemoteCall, written: str) -> None:
    """Each kind, both ways."""
    assert encodeCall(call) == bytes.fromhex(written)
    assert decodeCall(bytes.fromhex(written)) == call


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "00 00 0000000000000000 00000000",
        "05 00 0000000000000000 00000000",
        "01 10 0000000000000000 00000000",
        "01 00 0000000000000000 ffffffff",
        "01 00 0000000000000000 00000001 ffffffff 61",
        "01 00 0000000000000000 00000001 00000001 ff",
        "01 00 0000000000000000 00000000 01 ffffffff 61",
        "01 00 0000000000000000 00000000 01 00000001 ff",
        "01 00 0000000000000000 00000000 00 00000001 61",
        "01 00 0000000000000000 00000000 03 00000001 61",
        "02 00 0000000000000001 00000000 01 00000001 61",
        "03 00 0000000000000001 00000002 00000001 61 00000001 62",
    ],
)
def test_garbage(frame: str) -> None:
    """Unknown kinds and flags, lengths that aren't there, text that isn't UTF-8, a call without its one id."""
    with pytest.raises(DecodeError):
        decodeCall(bytes.fromhex(frame))


@pytest.mark.parametrize("whole", [bytes.fromhex(written) for _, written in FRAMES])
def test_cutAtAnyByte(whole: bytes) -> None:
    """A beginning of a frame is none, or says less; it never fails in another way."""
    for size in range(len(whole)):
        try:
            call = decodeCall(whole[:size])
        except DecodeError:
            continue
        assert encodeCall(call) == whole[:size]


def test_anyBytes() -> None:
    """Whatever comes is a call that is written so, or garbage."""
    chance = random.Random(15)
    for _ in range(3000):
        frame = bytearray(bytes.fromhex(chance.choice(FRAMES)[1]))
        for _ in range(chance.randint(1, 3)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        try:
            call = decodeCall(bytes(frame))
        except DecodeError:
            continue
        assert encodeCall(call) == frame
