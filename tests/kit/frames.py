"""Frames of every kind, right and wrong."""

from __future__ import annotations

from engineio_twisted.protocol.frame_reader import INTEGER_UNMASKED

from .wire import makeFrame

LIMIT = 70_000
"""The maxHttpBufferSize that these frames are for."""

FRAMES = [
    makeFrame("4hello"),
    makeFrame("4€ 😀"),
    makeFrame(b"\x01\x02\x03"),
    makeFrame(b""),
    makeFrame("4" + "a" * 124),
    makeFrame("4" + "a" * 125),
    makeFrame(b"x" * (INTEGER_UNMASKED - 1)),
    makeFrame(b"x" * INTEGER_UNMASKED),
    makeFrame(b"x" * (INTEGER_UNMASKED + 1)),
    makeFrame(b"x" * 65_535),
    makeFrame(b"x" * 65_536),
    makeFrame("4" + "é😀" * 300),
    makeFrame("4" + "a" * 65_536),
    makeFrame("4pieces", isFinal=False),
    makeFrame(" of one", 0),
    makeFrame("", 0, isFinal=False),
    makeFrame(b"are you there", 9),
    makeFrame(b"yes", 10),
]
"""Frames that are right, alone or behind each other."""

WRONG = [
    makeFrame("4\xff".encode("latin-1"), 1),
    makeFrame(b"4" + b"x" * 700 + b"\xff" + b"y" * 700, 1),
    makeFrame(b"4" + b"x" * 700 + b"\xe2\x82", 1),
    makeFrame(b"x" * (LIMIT + 1)),
    makeFrame("4a", reserved=4),
    makeFrame("4a", isMasked=False),
    makeFrame("9"),
    makeFrame(""),
    makeFrame("1"),
    makeFrame(b"\x03\xe8", 8),
    makeFrame(b"x", 3),
    # Lengths written longer than they are.
    b"\x82\xfe\x00\x05maskabcde",
    b"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05maskabcde",
    b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask",
    b"nothing of the kind",
]
"""What a client may not say, and what isn't for Engine.IO."""
