"""
RFC 6455 and RFC 7692, section by section: what a client may and may not say, and what has to come of it.

The list is whole by itself. Each case is exact bytes of a client and the exact frames of a server whose application
sends each message back. `tests/transports/test_rfc6455.py` plays them against a whole server, and
`tests/protocol/test_frames.py` those about framing against what reads frames alone.
"""

from __future__ import annotations

import base64
import codecs
import functools
import gzip
import hashlib
import itertools
import json
import random
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import attrs

from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    makeFrame,
    target,
)

LIMIT = 1_000_000
"""The maxHttpBufferSize here, which is the default."""

RSV1 = 4

TITLES = {
    "4.2.1": "reading the client's opening handshake",
    "4.2.2": "sending the server's opening handshake",
    "4.4": "several versions of the protocol",
    "5.1": "frames of a client are masked",
    "5.2": "base framing: lengths",
    "5.2 RSV": "base framing: reserved bits",
    "5.2 opcode": "base framing: reserved opcodes",
    "5.3": "masking",
    "5.4": "fragmentation",
    "5.5": "control frames",
    "5.5.1": "close",
    "5.5.2": "ping",
    "5.5.3": "pong",
    "5.6": "data frames",
    "7.1": "closing",
    "7.4.1": "defined close codes",
    "7.4.2": "reserved ranges of close codes",
    "8.1": "UTF-8",
    "9.1": "negotiating extensions",
    "10.4": "limits",
    "RFC 7692, 5": "negotiating compression",
    "RFC 7692, 6": "compressed messages and control frames",
    "RFC 7692, 7.1.1": "context takeover",
    "RFC 7692, 7.1.2": "size of the window",
    "RFC 7692, 7.2.1": "compression",
    "RFC 7692, 7.2.2": "decompression",
    "RFC 7692, 7.2.3": "examples of compressed messages",
    "RFC 7692, 8": "security: bombs",
}

DEVIATIONS = {
    "packet": "An empty text, or one without the number of a packet at its beginning, is a message of RFC 6455. It is"
    " not a packet of Engine.IO, so the WebSocket is closed with 1000, as protocol.md says.",
    "version 8": "Version 8, of the last drafts with the same frames, is accepted besides 13. A refusal names both.",
    "1014": "Both engines refuse the code 1014 with 1002. It was registered long after the RFC, for gateways, and no"
    " client sends it.",
    "behind": "Data after a client's close frame is not read, because the connection closes when both sides have sent"
    " theirs. If there is much of it, the system may reset the connection, and the client may miss earlier data. So the"
    " case is played in memory only.",
    "63 bits": "A length over 63 bits is invalid (1002) and too large (1009). `TwistedEngine` checks the size first.",
}
"""Results that differ from the RFC, or from what one may expect, and why."""


@attrs.frozen
class Case:
    """
    What a client says on its WebSocket, and what has to come of it.

    @ivar sent: what it says once it is open.
    @ivar answers: the frames that come back, but for a close frame.
    @ivar code: of the server's close frame; None for an empty one, L{OPEN} where there is none.
    @ivar twisted: the same with Twisted's engine.
    @ivar at: how many octets of what is sent bring the close frame at the latest.
    @ivar offer: the value of Sec-WebSocket-Extensions.
    @ivar deflate: the option perMessageDeflate.
    @ivar agreed: what the 101 says of extensions.
    """

    section: str
    name: str
    sent: bytes
    answers: tuple[Frame, ...] = ()
    code: int | None = -1
    twisted: int | None = -1
    at: int | None = None
    deviation: str | None = None
    offer: str | None = None
    deflate: Any = False
    agreed: str | None = None


OPEN = -1
"""Stands for the code of a close frame that isn't sent."""


@attrs.frozen
class Opening:
    """A request for a WebSocket, and the status of the answer, with headers that it has to have."""

    section: str
    name: str
    request: bytes
    status: int
    headers: dict[str, str | None] = attrs.field(factory=dict)
    deviation: str | None = None


CASES: list[Case] = []
OPENINGS: list[Opening] = []


def goesOn(section: str, name: str, sent: bytes, *answers: Frame, **more: Any) -> None:
    """A case after which the WebSocket is open."""
    CASES.append(Case(section, name, sent, answers, **more))


def ends(section: str, name: str, sent: bytes, code: int | None, *answers: Frame, **more: Any) -> None:
    """A case in which the server closes the WebSocket, or answers the client's close frame."""
    CASES.append(Case(section, name, sent, answers, code, **{"twisted": code, **more}))


def text(data: str | bytes) -> Frame:
    return Frame(TEXT, data.encode() if isinstance(data, str) else data)


def binary(data: bytes) -> Frame:
    return Frame(BINARY, data)


def pong(data: bytes = b"") -> Frame:
    return Frame(PONG, data)


def closeFrame(code: int | None, reason: bytes = b"", **options: Any) -> bytes:
    return makeFrame((b"" if code is None else struct.pack("!H", code)) + reason, CLOSE, **options)


def fragments(pieces: Iterable[bytes], opcode: int = TEXT, between: bytes = b"", reserved: int = 0) -> bytes:
    """A message in frames, with other frames between them."""
    rest = list(pieces)
    frames = [makeFrame(rest.pop(0), opcode, isFinal=not rest, reserved=reserved)]
    while rest:
        frames.append(between)
        frames.append(makeFrame(rest.pop(0), CONTINUATION, isFinal=not rest))
    return b"".join(frames)


def cutInto(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


def withMask(frame: bytes, key: bytes, payload: bytes) -> bytes:
    """A short frame with another mask."""
    return frame[:2] + key + bytes(each ^ mask for each, mask in zip(payload, itertools.cycle(key), strict=False))


# 4: the opening handshake

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asks(*changes: tuple[str, str | None], line: str | None = None, more: Iterable[str] = ()) -> bytes:
    """A request for a WebSocket, with headers changed or, where None, left out, and lines added."""
    headers: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers.update(changes)
    lines = [line or f"GET {target(transport='websocket')} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, *more, "", ""]).encode("latin-1")


def opens(section: str, name: str, request: bytes, deviation: str | None = None, **headers: str | None) -> None:
    expected = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": ACCEPT}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    OPENINGS.append(Opening(section, name, request, 101, {**expected, **more}, deviation))


def refuses(section: str, name: str, request: bytes, status: int = 400, **headers: str | None) -> None:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    OPENINGS.append(Opening(section, name, request, status, {"sec-websocket-accept": None, **more}))


WHERE = target(transport="websocket")

opens("4.2.1", "the example of the RFC", asks())
for spelled in ("WebSocket", "WEBSOCKET", "wEbSoCkEt"):
    opens("4.2.1", f"Upgrade: {spelled}", asks(("Upgrade", spelled)))
opens("4.2.1", "Upgrade: several", asks(("Upgrade", "h2c, websocket")))
for spelled in ("upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade , keep-alive", "keep-alive,upgrade"):
    opens("4.2.1", f"Connection: {spelled}", asks(("Connection", spelled)))
opens(
    "4.2.1",
    "names of headers in any case",
    asks(("Sec-WebSocket-Key", None), ("Upgrade", None), more=[f"sec-WEBSOCKET-kEY: {KEY}", "uPGRADE: websocket"]),
)
opens(
    "4.2.1", "white space around values", asks(("Sec-WebSocket-Key", f"  {KEY} \t"), ("Sec-WebSocket-Version", " 13 "))
)
opens("4.2.1", "an Origin", asks(("Origin", "https://example.com")))
opens("4.2.1", "headers of others", asks(("Cookie", "a=b"), ("X-Anything", "at all"), ("User-Agent", "any")))
opens("4.2.1", "Connection twice", asks(("Connection", "keep-alive"), more=["Connection: Upgrade"]))
for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
    refuses("4.2.1", f"method {method}", asks(line=f"{method} {WHERE} HTTP/1.1"))
refuses("4.2.1", "method POST", asks(("Content-Length", "0"), line=f"POST {WHERE} HTTP/1.1"))
refuses("4.2.1", "method get", asks(line=f"get {WHERE} HTTP/1.1"))
refuses("4.2.1", "HTTP/1.0", asks(line=f"GET {WHERE} HTTP/1.0"))
refuses("4.2.1", "no Host", asks(("Host", None)))
refuses("4.2.1", "two Hosts", asks(more=["Host: example.com"]))
refuses("4.2.1", "no Upgrade", asks(("Upgrade", None)))
refuses("4.2.1", "Upgrade: h2c", asks(("Upgrade", "h2c")))
refuses("4.2.1", "Upgrade: websockets", asks(("Upgrade", "websockets")))
refuses("4.2.1", "Upgrade: web socket", asks(("Upgrade", "web socket")))
refuses("4.2.1", "Upgrade: nothing", asks(("Upgrade", "")))
refuses("4.2.1", "no Connection", asks(("Connection", None)))
refuses("4.2.1", "Connection: keep-alive", asks(("Connection", "keep-alive")))
refuses("4.2.1", "Connection: upgraded", asks(("Connection", "upgraded")))
refuses("4.2.1", "no key", asks(("Sec-WebSocket-Key", None)))
for name, key in {
    "empty": "",
    "of 15 bytes": base64.b64encode(b"x" * 15).decode(),
    "of 17 bytes": base64.b64encode(b"x" * 17).decode(),
    "of 18 bytes": base64.b64encode(b"x" * 18).decode(),
    "without padding": KEY[:-2],
    "with too little padding": KEY[:-1],
    "with too much padding": KEY + "=",
    "not base64": "dGhlIHNhbXBsZSBub25j!Q==",
    "base64 of another alphabet": "dGhlIHNhbXBsZSBub25j-_==",
    "with a space in it": "dGhlIHNhbXBs SBub25jZQ==",
    "of letters beyond ASCII": "dGhlIHNhbXBsZSBub25j\xe9Q==",
    "twice in one": f"{KEY}, {KEY}",
}.items():
    refuses("4.2.1", f"a key {name}", asks(("Sec-WebSocket-Key", key)))
refuses("4.2.1", "two keys", asks(more=[f"Sec-WebSocket-Key: {KEY}"]))
for sign in ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85"):
    refuses("4.2.1", f"a header with {sign!r}", asks(more=[f"X-Any: a{sign}Sec-WebSocket-Version: 8"]))
for spelled in ("0", "7", "12", "14", "013", "1", "-13", "13.0", "99999999999999999999", "xiii", "", "13, 8", "13 8"):
    refuses("4.4", f"version {spelled!r}", asks(("Sec-WebSocket-Version", spelled)), sec_websocket_version="13, 8")
refuses("4.4", "no version", asks(("Sec-WebSocket-Version", None)), sec_websocket_version="13, 8")
refuses("4.4", "two versions", asks(more=["Sec-WebSocket-Version: 13"]), sec_websocket_version="13, 8")
opens("4.4", "version 8", asks(("Sec-WebSocket-Version", "8")), "version 8")
for number in range(5):
    other = base64.b64encode(hashlib.md5(b"%d" % number, usedforsecurity=False).digest()).decode()
    proof = hashlib.sha1(f"{other}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    opens(
        "4.2.2",
        f"the answer to another key, {number + 1}",
        asks(("Sec-WebSocket-Key", other)),
        sec_websocket_accept=base64.b64encode(proof).decode(),
    )
PROTOCOL = "Sec-WebSocket-Protocol"
opens("4.2.2", "no subprotocol", asks(), sec_websocket_protocol=None, sec_websocket_extensions=None)
opens("4.2.2", "one subprotocol", asks((PROTOCOL, "chat")), sec_websocket_protocol="chat")
opens("4.2.2", "several subprotocols", asks((PROTOCOL, "b , a")), sec_websocket_protocol="b")
opens("4.2.2", "subprotocols in two lines", asks((PROTOCOL, "b"), more=[f"{PROTOCOL}: a"]), sec_websocket_protocol="b")
for name, offered in {
    "empty": "",
    "with a space": "a b",
    "with a slash": "a/b",
    "with quotes": '"a"',
    "with nothing between commas": "a,,b",
    "beyond ASCII": "\xe9",
    "with an equals sign": "a=b",
}.items():
    refuses("4.2.2", f"a subprotocol {name}", asks((PROTOCOL, offered)))
opens("9.1", "an unknown extension", asks(("Sec-WebSocket-Extensions", "x-unknown")), sec_websocket_extensions=None)
opens(
    "9.1",
    "several unknown extensions",
    asks(("Sec-WebSocket-Extensions", 'foo; bar="baz, qux"; x=1, mux'), more=["Sec-WebSocket-Extensions: other"]),
    sec_websocket_extensions=None,
)
opens(
    "9.1",
    "compression, where the server has none",
    asks(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")),
    sec_websocket_extensions=None,
)
opens("9.1", "no extension by name", asks(("Sec-WebSocket-Extensions", ", ;;=,")), sec_websocket_extensions=None)

# 5.1, 5.2, 5.3: frames

HELLO = makeFrame("4hello")

for name, frame in {
    "text": makeFrame("4hello", isMasked=False),
    "bytes": makeFrame(b"hello", isMasked=False),
    "text of 126": makeFrame("4" + "x" * 125, isMasked=False),
    "text of 65536": makeFrame("4" + "x" * 65535, isMasked=False),
    "a piece": makeFrame("4hello", isFinal=False, isMasked=False),
    "ping": makeFrame(b"hello", PING, isMasked=False),
    "empty ping": makeFrame(b"", PING, isMasked=False),
    "pong": makeFrame(b"hello", PONG, isMasked=False),
    "close": closeFrame(1000, isMasked=False),
    "empty close": closeFrame(None, isMasked=False),
    "a continuation": makeFrame("4hel", isFinal=False) + makeFrame("lo", CONTINUATION, isMasked=False),
}.items():
    ends("5.1", f"not masked: {name}", frame, 1002)
ends("5.1", "not masked, behind one that is", HELLO + makeFrame("4again", isMasked=False), 1002, text("4hello"))

SIZES = (1, 2, 5, 99, 100, 101, 124, 125, 126, 127, 128, 129, 4095, 65534, 65535, 65536, 65537, 131072)
for size in SIZES:
    goesOn("5.2", f"text of {size} octets", makeFrame(b"4" + b"*" * (size - 1), TEXT), text(b"4" + b"*" * (size - 1)))
for size in (0, *SIZES):
    data = bytes(each & 0xFF for each in range(size))
    goesOn("5.2", f"bytes of {size} octets", makeFrame(data), binary(data))
ends("5.2", "text of 0 octets", makeFrame(""), 1000, deviation="packet")
goesOn("5.2", "text of 65536 octets, of three each", makeFrame("4" + "€" * 21845), text("4" + "€" * 21845))
for size in (0, 1, 125):
    for opcode, name in ((TEXT, "text"), (BINARY, "bytes")):
        ends(
            "5.2",
            f"16 bits for {size} octets of {name}",
            bytes([0x80 | opcode, 0xFE, 0, size]) + b"mask" + b"x" * size,
            1002,
        )
for size in (0, 1, 125, 126, 65535):
    ends("5.2", f"64 bits for {size} octets", makeFrame(b"x" * size, length=size), 1002)
for size in (2**63, 2**63 + 5, 2**64 - 1):
    ends("5.2", f"a length of {size:#x}", makeFrame(b"x", length=size), 1002, twisted=1009, deviation="63 bits")
goesOn("5.2", "two messages in one piece", HELLO + makeFrame(b"x"), text("4hello"), binary(b"x"))
goesOn("5.2", "a hundred messages", HELLO * 100, *[text("4hello")] * 100)

for reserved in range(1, 8):
    bits = "".join(f"RSV{bit} " for bit in (1, 2, 3) if reserved & (8 >> bit)).strip()
    for name, frame in {
        "text": makeFrame("4hello", reserved=reserved),
        "bytes": makeFrame(b"hello", reserved=reserved),
        "an empty message": makeFrame(b"", reserved=reserved),
        "the first piece": makeFrame("4hel", isFinal=False, reserved=reserved) + makeFrame("lo", CONTINUATION),
        "a continuation": makeFrame("4hel", isFinal=False) + makeFrame("lo", CONTINUATION, reserved=reserved),
        "ping": makeFrame(b"", PING, reserved=reserved),
        "pong": makeFrame(b"", PONG, reserved=reserved),
        "close": closeFrame(1000, reserved=reserved),
    }.items():
        ends("5.2 RSV", f"{bits} on {name}", frame, 1002)
    ends("5.2 RSV", f"{bits} behind a message", HELLO + makeFrame("4x", reserved=reserved), 1002, text("4hello"))
    pinged = makeFrame(b"ping", PING) + makeFrame("4x", reserved=reserved)
    ends("5.2 RSV", f"{bits} behind a ping", pinged, 1002, pong(b"ping"))

for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    for name, payload in {"nothing": b"", "something": b"4hello", "126 octets": b"x" * 126}.items():
        ends("5.2 opcode", f"{opcode} with {name}", makeFrame(payload, opcode), 1002)
    ends("5.2 opcode", f"{opcode} as a piece", makeFrame(b"4x", opcode, isFinal=False), 1002)
    ends("5.2 opcode", f"{opcode} behind a message", HELLO + makeFrame(b"", opcode), 1002, text("4hello"))
    inside = makeFrame("4hel", isFinal=False) + makeFrame(b"", opcode)
    ends("5.2 opcode", f"{opcode} inside a message", inside, 1002)

for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0", b"4444", b"\r\n\r\n", b"\x12\x34\x56\x78"):
    for payload in (b"4", b"4ab", b"4abcdefg", b"4" + bytes(range(32, 127))):
        goesOn(
            "5.3",
            f"mask {key.hex()}, {len(payload)} octets",
            withMask(makeFrame(payload, TEXT), key, payload),
            text(payload),
        )
    ping = withMask(makeFrame(b"are you there", PING), key, b"are you there")
    goesOn("5.3", f"mask {key.hex()} of a ping", ping, pong(b"are you there"))

# 5.4: fragmentation

ALPHABET = b"4abcdefghijklmnopqrstuvwxyz"
for size in (1, 2, 5, 13, 26):
    pieces = cutInto(ALPHABET, size)
    goesOn("5.4", f"text in pieces of {size}", fragments(pieces), text(ALPHABET))
    goesOn("5.4", f"bytes in pieces of {size}", fragments(pieces, BINARY), binary(ALPHABET))
    goesOn(
        "5.4",
        f"pieces of {size} with pings between",
        fragments(pieces, between=makeFrame(b"p", PING)),
        *[pong(b"p")] * (len(pieces) - 1),
        text(ALPHABET),
    )
    goesOn(
        "5.4", f"pieces of {size} with pongs between", fragments(pieces, between=makeFrame(b"p", PONG)), text(ALPHABET)
    )
EMPTY = {
    "first": [b"", b"4", b"x"],
    "in the middle": [b"4", b"", b"x"],
    "last": [b"4", b"x", b""],
    "everywhere": [b"", b"", b"4", b"", b"x", b"", b""],
}
for name, pieces in EMPTY.items():
    goesOn("5.4", f"an empty piece of text {name}", fragments(pieces), text("4x"))
    goesOn("5.4", f"an empty piece of bytes {name}", fragments(pieces, BINARY), binary(b"4x"))
goesOn("5.4", "nothing but empty pieces", fragments([b"", b"", b""], BINARY), binary(b""))
ends("5.4", "nothing but empty pieces of text", fragments([b"", b"", b""]), 1000, deviation="packet")
goesOn("5.4", "a thousand empty pieces", fragments([b"4", *[b""] * 1000, b"x"]), text("4x"))
goesOn("5.4", "a thousand pieces", fragments(cutInto(b"4" + b"x" * 999, 1)), text("4" + "x" * 999))
for size in (126, 65535, 65536):
    pieces = [b"4" * size] * 3
    goesOn("5.4", f"three pieces of {size} octets of text", fragments(pieces), text(b"4" * size * 3))
    goesOn("5.4", f"three pieces of {size} octets", fragments(pieces, BINARY), binary(b"4" * size * 3))
goesOn("5.4", "several messages in pieces", fragments(cutInto(ALPHABET, 5)) * 3, *[text(ALPHABET)] * 3)
goesOn(
    "5.4",
    "pings of all kinds between",
    makeFrame("4a", isFinal=False)
    + makeFrame(b"", PING)
    + makeFrame(b"x" * 125, PING)
    + makeFrame(b"unasked", PONG)
    + makeFrame("b", CONTINUATION, isFinal=False)
    + makeFrame(b"last", PING)
    + makeFrame("c", CONTINUATION),
    pong(),
    pong(b"x" * 125),
    pong(b"last"),
    text("4abc"),
)
for name, frames in {
    "a continuation of nothing": makeFrame("4x", CONTINUATION),
    "a piece of a continuation of nothing": makeFrame("4x", CONTINUATION, isFinal=False),
    "an empty continuation of nothing": makeFrame("", CONTINUATION),
    "text inside text": makeFrame("4a", isFinal=False) + makeFrame("4b"),
    "a piece of text inside text": makeFrame("4a", isFinal=False) + makeFrame("4b", isFinal=False),
    "bytes inside text": makeFrame("4a", isFinal=False) + makeFrame(b"b"),
    "text inside bytes": makeFrame(b"a", isFinal=False) + makeFrame("4b"),
    "bytes inside bytes": makeFrame(b"a", isFinal=False) + makeFrame(b"b"),
    "text inside an empty piece": makeFrame("", isFinal=False) + makeFrame("4b"),
    "bytes inside, behind a ping": makeFrame("4a", isFinal=False) + makeFrame(b"", PONG) + makeFrame(b"b"),
}.items():
    ends("5.4", name, frames, 1002)
ends("5.4", "a continuation behind a message", HELLO + makeFrame("x", CONTINUATION), 1002, text("4hello"))
ends(
    "5.4",
    "a continuation behind a message in pieces",
    fragments([b"4a", b"b"]) + makeFrame("c", CONTINUATION),
    1002,
    text("4ab"),
)
ends("5.4", "a continuation behind a ping", makeFrame(b"", PING) + makeFrame("c", CONTINUATION), 1002, pong())

# 5.5: control frames

for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
    for size in (126, 127, 65535, 65536):
        ends("5.5", f"{name} of {size} octets", makeFrame(b"\x03\xe8" + b"x" * (size - 2), opcode), 1002)
    ends("5.5", f"{name} as a piece", makeFrame(b"\x03\xe8", opcode, isFinal=False), 1002)
    ends("5.5", f"{name} in pieces", fragments([b"\x03", b"\xe8"], opcode), 1002)
    ends("5.5", f"{name} of 16 bits for its length", bytes([0x80 | opcode, 0xFE, 0, 2]) + b"mask" + b"xx", 1002)
    inside = makeFrame("4a", isFinal=False) + makeFrame(b"\x03\xe8", opcode, isFinal=False)
    ends("5.5", f"{name} as a piece inside a message", inside, 1002)

for size in (0, 1, 2, 64, 100, 101, 124, 125):
    goesOn("5.5.2", f"of {size} octets", makeFrame(b"p" * size, PING), pong(b"p" * size))
goesOn(
    "5.5.2",
    "of bytes that aren't UTF-8",
    makeFrame(b"\0\xff\xfe\xfd\xfc\xfb\0\xff", PING),
    pong(b"\0\xff\xfe\xfd\xfc\xfb\0\xff"),
)
for count in (2, 10, 1000):
    numbers = [b"%d" % each for each in range(count)]
    pings = b"".join(makeFrame(each, PING) for each in numbers)
    goesOn("5.5.2", f"{count} in a row", pings, *map(pong, numbers))
goesOn(
    "5.5.2",
    "before and behind messages",
    makeFrame(b"1", PING) + HELLO + makeFrame(b"2", PING),
    pong(b"1"),
    text("4hello"),
    pong(b"2"),
)
for size in (0, 1, 125):
    goesOn("5.5.3", f"unasked, of {size} octets", makeFrame(b"p" * size, PONG))
goesOn("5.5.3", "unasked, before a ping", makeFrame(b"a", PONG) + makeFrame(b"b", PING), pong(b"b"))
goesOn("5.5.3", "unasked, a thousand", makeFrame(b"a", PONG) * 1000 + makeFrame(b"b", PING), pong(b"b"))
goesOn(
    "5.5.3",
    "unasked, before and behind a message",
    makeFrame(b"a", PONG) + HELLO + makeFrame(b"", PONG),
    text("4hello"),
)

# 5.5.1, 7: closing

ends("5.5.1", "empty", closeFrame(None), None)
ends("5.5.1", "of one octet", makeFrame(b"\x03", CLOSE), 1002)
ends("5.5.1", "with a code", closeFrame(1000), 1000)
for name, reason in {
    "a reason": b"bye",
    "a reason beyond ASCII": "Auf Wiedersehen, schöne Grüße €😀".encode(),
    "a reason of 122 octets": b"x" * 122,
    "a reason of 123 octets": b"x" * 123,
    "a reason of NUL": b"\0",
}.items():
    ends("5.5.1", f"with {name}", closeFrame(1000, reason), 1000)
ends("5.5.1", "with a reason of 124 octets", closeFrame(1000, b"x" * 124), 1002)
for name, reason in {
    "isn't UTF-8": b"\xff",
    "is cut": b"bye \xe2\x82",
    "is a surrogate": b"\xed\xa0\x80",
    "is overlong": b"\xc0\xaf",
    "is beyond Unicode": b"\xf4\x90\x80\x80",
    "breaks off in the middle": "κόσμε".encode() + b"\xed\xa0\x80" + b"edited",
}.items():
    ends("5.5.1", f"with a reason that {name}", closeFrame(1000, reason), 1007)
BYE = closeFrame(1000)
ends("7.1", "behind a message", HELLO + BYE, 1000, text("4hello"))
ends("7.1", "behind a ping", makeFrame(b"p", PING) + BYE, 1000, pong(b"p"))
ends("7.1", "in the middle of a message", makeFrame("4hel", isFinal=False) + BYE, 1000)
ends("7.1", "with a message behind it", BYE + HELLO, 1000)
ends("7.1", "with bytes behind it", BYE + makeFrame(b"x" * 1000), 1000)
ends("7.1", "with a ping behind it", BYE + makeFrame(b"p", PING), 1000)
ends("7.1", "with a pong behind it", BYE + makeFrame(b"p", PONG), 1000)
ends("7.1", "twice", BYE + BYE, 1000)
ends("7.1", "twice, with different codes", BYE + closeFrame(1001), 1000)
ends("7.1", "with a broken frame behind it", BYE + makeFrame("4x", 3), 1000)
ends(
    "7.1",
    "with the rest of a message behind it",
    makeFrame("4hel", isFinal=False) + BYE + makeFrame("lo", CONTINUATION),
    1000,
)
ends("7.1", "with 256 KiB behind it", BYE + makeFrame(b"x" * 262144), 1000, deviation="behind")
ends("7.1", "by a close packet", makeFrame("1"), 1000)
ends("7.1", "a broken frame, and then a close frame", makeFrame("4x", 3) + BYE, 1002)
ends("7.1", "a broken frame, and then a message", makeFrame("4x", 3) + HELLO, 1002)
ends("7.1", "a broken frame, and then a ping", makeFrame("4x", 3) + makeFrame(b"p", PING), 1002)
ends("7.1", "two broken frames", makeFrame("4x", 3) + makeFrame("4x", 4), 1002)
for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013):
    ends("7.4.1", f"{code}", closeFrame(code), code)
ends("7.4.1", "1014", closeFrame(1014), 1002, deviation="1014")
for code in (1004, 1005, 1006, 1015):
    ends("7.4.1", f"{code}, which isn't to be sent", closeFrame(code), 1002)
    ends("7.4.1", f"{code}, with a reason", closeFrame(code, b"why"), 1002)
for code in (3000, 3001, 3999, 4000, 4500, 4999):
    ends("7.4.2", f"{code}", closeFrame(code), code)
for code in (0, 1, 2, 100, 500, 998, 999, 1016, 1100, 1999, 2000, 2500, 2999, 5000, 5001, 10000, 32768, 65535):
    ends("7.4.2", f"{code}, which isn't to be sent", closeFrame(code), 1002)
for code in (0, 999, 1016, 2999, 5000, 65535):
    ends("7.4.2", f"{code}, with a reason", closeFrame(code, b"why"), 1002)

# 5.6: data frames

goesOn("5.6", "text beyond ASCII", makeFrame("4Hällö €😀"), text("4Hällö €😀"))
goesOn("5.6", "text with NUL and controls", makeFrame("4\0\x01\x1e\x7f\r\n"), text("4\0\x01\x1e\x7f\r\n"))
goesOn("5.6", "bytes that aren't UTF-8", makeFrame(bytes(range(256))), binary(bytes(range(256))))
goesOn("5.6", "text and bytes in turn", (HELLO + makeFrame(b"\xff")) * 3, *[text("4hello"), binary(b"\xff")] * 3)
for sent in ("x", "7", "hello", " 4"):
    ends("5.6", f"text that is no packet: {sent!r}", makeFrame(sent), 1000, deviation="packet")

# 8.1: UTF-8

RIGHT = {
    "Greek": "κόσμε",
    "Japanese": "日本語",
    "emoji": "😀👩‍👩‍👧",
    "combining": "a\u0308\u0323",
    "right to left": "\u202eשלום",
    "byte order mark": "\ufeffx",
    "of all lengths": "a\u00e9\u20ac\U0001f600" * 3,
    **{
        f"U+{point:04X}": chr(point)
        for point in (
            *(0x00, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFDD0, 0xFDEF, 0xFFFD, 0xFFFE, 0xFFFF),
            *(0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFD, 0x10FFFE, 0x10FFFF),
            *(plane << 16 | last for plane in range(1, 16) for last in (0xFFFE, 0xFFFF)),
        )
    },
}
WRONG = {
    "a continuation alone": b"\x80",
    "the last continuation alone": b"\xbf",
    **{f"{count} continuations": b"\x80\xbf" * (count // 2) + b"\x80" * (count % 2) for count in range(2, 8)},
    "all continuations": bytes(range(0x80, 0xC0)),
    "starts of two, with spaces": b"".join(bytes([each]) + b" " for each in range(0xC0, 0xE0)),
    "starts of three, with spaces": b"".join(bytes([each]) + b" " for each in range(0xE0, 0xF0)),
    "starts of four, with spaces": b"".join(bytes([each]) + b" " for each in range(0xF0, 0xF8)),
    **{f"start {start:02x} and a space": bytes([start]) + b" " for start in (0xC2, 0xDF, 0xE0, 0xEF, 0xF0, 0xF4)},
    **{f"the octet {octet:02x}": bytes([octet]) for octet in (0xC0, 0xC1, *range(0xF5, 0x100))},
    "fe and ff": b"\xfe\xfe\xff\xff",
    "five octets": b"\xf8\x88\x80\x80\x80",
    "six octets": b"\xfc\x84\x80\x80\x80\x80",
    "three octets, the last missing": b"\xe2\x82 ",
    "four octets, the last missing": b"\xf0\x9f\x98 ",
    "four octets, two missing": b"\xf0\x9f ",
    "overlong, two": b"\xc0\xaf",
    "overlong, three": b"\xe0\x80\xaf",
    "overlong, four": b"\xf0\x80\x80\xaf",
    "overlong, five": b"\xf8\x80\x80\x80\xaf",
    "overlong, six": b"\xfc\x80\x80\x80\x80\xaf",
    "the largest overlong, two": b"\xc1\xbf",
    "the largest overlong, three": b"\xe0\x9f\xbf",
    "the largest overlong, four": b"\xf0\x8f\xbf\xbf",
    "overlong NUL, two": b"\xc0\x80",
    "overlong NUL, three": b"\xe0\x80\x80",
    "overlong NUL, four": b"\xf0\x80\x80\x80",
    **{
        f"surrogate {surrogate:04X}": chr(surrogate).encode("utf-8", "surrogatepass")
        for surrogate in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)
    },
    **{
        f"surrogates {high:04X} {low:04X}": (chr(high) + chr(low)).encode("utf-8", "surrogatepass")
        for high in (0xD800, 0xDBFF)
        for low in (0xDC00, 0xDFFF)
    },
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "far beyond Unicode": b"\xf7\xbf\xbf\xbf",
    "Latin-1": "schön".encode("latin-1"),
    "UTF-16": "hi".encode("utf-16"),
    "right, wrong, right": "κόσμε".encode() + b"\xed\xa0\x80" + b"edited",
    "right, beyond Unicode, right": "κόσμε".encode() + b"\xf4\x90\x80\x80" + b"edited",
}
CUT = {
    "two of 1": b"\xc3",
    "three of 1": b"\xe2",
    "three of 2": b"\xe2\x82",
    "four of 1": b"\xf0",
    "four of 2": b"\xf0\x9f",
    "four of 3": b"\xf0\x9f\x98",
}


def wrongAt(payload: bytes) -> int:
    """How many octets of what isn't UTF-8 have to be there until nothing could make it right."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for count in range(len(payload)):
        try:
            decoder.decode(payload[count : count + 1])
        except UnicodeDecodeError:
            return count + 1
    raise AssertionError(payload)


HEADER = 6
"""Octets of a short frame before its payload."""

for name, characters in RIGHT.items():
    encoded = b"4" + characters.encode()
    goesOn("8.1", f"right: {name}", makeFrame(encoded, TEXT), text(encoded))
    goesOn("8.1", f"right: {name}, in pieces of an octet", fragments(cutInto(encoded, 1)), text(encoded))
for name, octets in WRONG.items():
    encoded = b"4" + octets
    ends("8.1", f"wrong: {name}", makeFrame(encoded, TEXT), 1007, at=HEADER + wrongAt(encoded))
    # The octet at which it goes wrong is the whole of its piece, behind the header of that.
    place = wrongAt(encoded)
    ends(
        "8.1",
        f"wrong: {name}, in pieces of an octet",
        fragments([*cutInto(encoded, 1), b"more"]),
        1007,
        at=(HEADER + 1) * place,
    )
    # Nothing is complete but the octet that is wrong.
    ends(
        "8.1",
        f"wrong: {name}, at once",
        makeFrame(encoded + b"x" * 40, TEXT)[: HEADER + place],
        1007,
        at=HEADER + place,
    )
for name, octets in CUT.items():
    ends("8.1", f"cut: {name}", makeFrame(b"4" + octets, TEXT), 1007)
    ends("8.1", f"cut: {name}, in pieces", fragments([b"4", octets, b""]), 1007)
    ends("8.1", f"cut: {name}, and another message", makeFrame(b"4" + octets, TEXT) + makeFrame("4€"), 1007)
    goesOn("8.1", f"cut: {name}, as bytes", makeFrame(octets), binary(octets))
for name, octets in {"a surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\xaf", "octet ff": b"\xff"}.items():
    goesOn("8.1", f"{name} as bytes", makeFrame(octets), binary(octets))
    ends("8.1", f"{name} behind 200 octets", makeFrame(b"4" + b"x" * 199 + octets, TEXT), 1007)
    ends("8.1", f"{name} behind 65536 octets", makeFrame(b"4" + b"x" * 65535 + octets, TEXT), 1007)
ends(
    "8.1",
    "a ping is answered before it goes wrong",
    makeFrame(b"4\xe2", TEXT, isFinal=False) + makeFrame(b"", PING) + makeFrame(b"x", CONTINUATION),
    1007,
    pong(),
)

# 10.4: limits

for opcode, name in ((TEXT, "text"), (BINARY, "bytes")):
    for size in (262144, LIMIT - 1, LIMIT):
        payload = b"4" * size
        goesOn("10.4", f"{name} of {size} octets", makeFrame(payload, opcode), Frame(opcode, payload))
    payload = b"4" * LIMIT
    for size in (1000, 65536, 262144):
        pieces = cutInto(payload, size)
        goesOn("10.4", f"{name} of the limit in pieces of {size}", fragments(pieces, opcode), Frame(opcode, payload))
    ends("10.4", f"{name} over the limit", makeFrame(payload + b"x", opcode), 1009)
    ends("10.4", f"{name} over the limit, by its header", makeFrame(b"", opcode, length=LIMIT + 1), 1009, at=14)
    ends("10.4", f"{name} of 2**62 octets", makeFrame(b"4", opcode, length=2**62), 1009)
    ends("10.4", f"{name} over the limit in two pieces", fragments([payload[:-5], b"x" * 6], opcode), 1009)
    ends("10.4", f"{name} over the limit in many pieces", fragments(cutInto(payload + b"x", 50_000), opcode), 1009)
    ends(
        "10.4",
        f"{name} over the limit by the last piece",
        fragments([payload, b"x"], opcode),
        1009,
    )
goesOn("10.4", "many messages that are large together", makeFrame(b"x" * 400_000) * 4, *[binary(b"x" * 400_000)] * 4)

# RFC 7692: compression

PLAIN = "permessage-deflate"
TAIL = b"\0\0\xff\xff"
ALL = {"threshold": 0}


class Packer:
    """What a client compresses with."""

    def __init__(self, bits: int = 15, takesOver: bool = True, level: int = 6, strategy: int = 0) -> None:
        self._make = functools.partial(zlib.compressobj, level, zlib.DEFLATED, -bits, 8, strategy)
        self._packing = self._make()
        self._takesOver = takesOver

    def __call__(self, data: bytes) -> bytes:
        packed = self._packing.compress(data) + self._packing.flush(zlib.Z_SYNC_FLUSH)
        if not self._takesOver:
            self._packing = self._make()
        assert packed.endswith(TAIL)
        return packed[:-4]


def packed(data: bytes, opcode: int = TEXT, **options: Any) -> bytes:
    """The frame of a compressed message."""
    return makeFrame(Packer(**options)(data), opcode, reserved=RSV1)


def packedText(data: str | bytes) -> Frame:
    return attrs.evolve(text(data), reserved=RSV1)


def packedBinary(data: bytes) -> Frame:
    return attrs.evolve(binary(data), reserved=RSV1)


def deflated(section: str, name: str, sent: bytes, *answers: Frame, **more: Any) -> None:
    """A case with compression of all messages, after which the WebSocket is open."""
    goesOn(section, name, sent, *answers, **{"offer": PLAIN, "agreed": PLAIN, "deflate": ALL, **more})


def deflatedEnds(section: str, name: str, sent: bytes, code: int, *answers: Frame, **more: Any) -> None:
    ends(section, name, sent, code, *answers, **{"offer": PLAIN, "agreed": PLAIN, "deflate": ALL, **more})


NOISE = random.Random(7692).randbytes(131072)
PROSE = (b"4" + json.dumps([{"name": f"item {each}", "value": each * each} for each in range(4000)]).encode())[:131072]

AGREED = {
    # what is offered, what the server wants: what is agreed on
    ("", ""): "",
    ("client_max_window_bits", ""): "",
    ("client_max_window_bits=10", ""): "",
    ("server_max_window_bits=9", ""): "server_max_window_bits=9",
    ("server_max_window_bits=15", ""): "server_max_window_bits=15",
    ('server_max_window_bits="11"', ""): "server_max_window_bits=11",
    ("server_no_context_takeover", ""): "server_no_context_takeover",
    ("client_no_context_takeover", ""): "",
    ("server_no_context_takeover; server_max_window_bits=12", ""): (
        "server_no_context_takeover; server_max_window_bits=12"
    ),
    ("", "serverNoContextTakeover"): "server_no_context_takeover",
    ("", "clientNoContextTakeover"): "client_no_context_takeover",
    ("", "serverMaxWindowBits"): "server_max_window_bits=10",
    ("server_max_window_bits=9", "serverMaxWindowBits"): "server_max_window_bits=9",
    ("server_max_window_bits=12", "serverMaxWindowBits"): "server_max_window_bits=10",
    ("client_max_window_bits", "clientMaxWindowBits"): "client_max_window_bits=10",
    ("client_max_window_bits=9", "clientMaxWindowBits"): "client_max_window_bits=9",
    ("client_max_window_bits=12", "clientMaxWindowBits"): "client_max_window_bits=10",
}


def settingsOf(wanted: str) -> dict[str, Any]:
    return {**ALL, wanted: 10 if wanted.endswith("Bits") else True} if wanted else ALL


def offerOf(parameters: str) -> str:
    return f"{PLAIN}; {parameters}" if parameters else PLAIN


for (offered, wanted), agreedOn in AGREED.items():
    bits = int(agreedOn.rpartition("client_max_window_bits=")[2]) if "client_max" in agreedOn else 15
    pack = Packer(bits, "client_no_context_takeover" not in agreedOn)
    messages = [PROSE[:size] for size in (1, 16, 64, 256, 1024, 4096, 16384, 65536)] * 2
    deflated(
        "RFC 7692, 7.1.2" if "bits" in offered + wanted else "RFC 7692, 7.1.1",
        f"{offered or 'nothing'} offered, {wanted or 'nothing'} wanted",
        b"".join(makeFrame(pack(each), TEXT, reserved=RSV1) for each in messages),
        *map(packedText, messages),
        offer=offerOf(offered),
        deflate=settingsOf(wanted),
        agreed=offerOf(agreedOn),
    )
for name, offer, agreedOn in (
    ("the second offer", f"{PLAIN}; server_max_window_bits=8, {PLAIN}", PLAIN),
    ("the first of two", f"{PLAIN}; server_no_context_takeover, {PLAIN}", f"{PLAIN}; server_no_context_takeover"),
    ("among others", f"foo; a=b, {PLAIN}, bar", PLAIN),
    ("with white space", f"  {PLAIN}  ;  server_no_context_takeover ", f"{PLAIN}; server_no_context_takeover"),
):
    deflated("RFC 7692, 5", name, packed(b"4hello"), packedText("4hello"), offer=offer, agreed=agreedOn)
for parameters in (
    "unknown",
    "unknown=1",
    "server_max_window_bits",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=010",
    "server_max_window_bits=+10",
    "server_max_window_bits=-10",
    "server_max_window_bits=ten",
    "server_max_window_bits=",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=7",
    "client_max_window_bits=16",
    "client_max_window_bits=09",
    "client_max_window_bits; client_max_window_bits=10",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover=0",
    "client_no_context_takeover; client_no_context_takeover",
):
    goesOn("RFC 7692, 5", f"declined: {parameters}", HELLO, text("4hello"), offer=offerOf(parameters), deflate=ALL)
for name, offer in (
    ("nothing", None),
    ("another extension", "permessage-bzip2"),
    ("another name", "permessage-deflat"),
    ("an old extension", "x-webkit-deflate-frame"),
):
    goesOn("RFC 7692, 5", f"not offered: {name}", HELLO, text("4hello"), offer=offer, deflate=ALL)
    ends("RFC 7692, 6", f"compressed, with {name} agreed on", packed(b"4hello"), 1002, offer=offer, deflate=ALL)

for size in (1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072):
    deflated("RFC 7692, 7.2.1", f"text of {size} octets", packed(PROSE[:size]), packedText(PROSE[:size]))
    deflated("RFC 7692, 7.2.1", f"noise of {size} octets", packed(NOISE[:size], BINARY), packedBinary(NOISE[:size]))
for size in (1022, 1023, 1024, 1025):
    isPacked = size >= 1024
    kind = packedBinary if isPacked else binary
    deflated(
        "RFC 7692, 7.2.1",
        f"{size} octets, with a threshold of 1024",
        packed(PROSE[:size], BINARY),
        kind(PROSE[:size]),
        deflate=True,
    )
for level, strategy, name in (
    (0, zlib.Z_DEFAULT_STRATEGY, "stored"),
    (1, zlib.Z_DEFAULT_STRATEGY, "fast"),
    (9, zlib.Z_DEFAULT_STRATEGY, "best"),
    (6, zlib.Z_FIXED, "fixed"),
    (6, zlib.Z_HUFFMAN_ONLY, "Huffman alone"),
    (6, zlib.Z_RLE, "runs"),
):
    options = {"level": level, "strategy": strategy}
    deflated("RFC 7692, 7.2.2", f"blocks of a kind: {name}", packed(PROSE[:5000], **options), packedText(PROSE[:5000]))
for size in (1, 7, 64, 1000):
    whole = Packer()(PROSE[:5000])
    deflated(
        "RFC 7692, 6",
        f"in pieces of {size} octets",
        fragments(cutInto(whole, size), reserved=RSV1),
        packedText(PROSE[:5000]),
    )
    deflated(
        "RFC 7692, 6",
        f"in pieces of {size} octets, with pings between",
        fragments(cutInto(whole, size), reserved=RSV1, between=makeFrame(b"p", PING)),
        *[pong(b"p")] * (len(cutInto(whole, size)) - 1),
        packedText(PROSE[:5000]),
    )
deflated(
    "RFC 7692, 6",
    "messages that are compressed, and that aren't, in turn",
    (
        lambda pack: b"".join(
            makeFrame(pack(b"4%d" % each), TEXT, reserved=RSV1) + makeFrame(f"4{each}") for each in range(9)
        )
    )(Packer()),
    *[packedText(f"4{each // 2}") for each in range(18)],
)
deflated("RFC 7692, 6", "ping and pong", makeFrame(b"p", PING) + packed(b"4x"), pong(b"p"), packedText("4x"))
deflated(
    "RFC 7692, 6",
    "an empty first piece",
    fragments([b"", Packer()(b"4hello")], reserved=RSV1),
    packedText("4hello"),
)
deflated(
    "RFC 7692, 6", "an empty last piece", fragments([Packer()(b"4hello"), b""], reserved=RSV1), packedText("4hello")
)
for name, frames in {
    "RSV1 on a continuation": fragments([b"", b""], reserved=RSV1)[:HEADER]
    + makeFrame(Packer()(b"4x"), CONTINUATION, reserved=RSV1),
    "RSV1 on a continuation of what isn't compressed": makeFrame("4x", isFinal=False)
    + makeFrame("y", CONTINUATION, reserved=RSV1),
    "RSV1 on a continuation of nothing": makeFrame("y", CONTINUATION, reserved=RSV1),
    "RSV1 on a ping": makeFrame(b"x", PING, reserved=RSV1),
    "RSV1 on a pong": makeFrame(b"x", PONG, reserved=RSV1),
    "RSV1 on a close frame": closeFrame(1000, reserved=RSV1),
    "RSV1 and RSV2": makeFrame(Packer()(b"4x"), TEXT, reserved=6),
    "RSV1 and RSV3": makeFrame(Packer()(b"4x"), TEXT, reserved=5),
    "RSV2": makeFrame("4x", reserved=2),
    "RSV3": makeFrame("4x", reserved=1),
    "not masked": makeFrame(Packer()(b"4x"), TEXT, reserved=RSV1, isMasked=False),
    "a reserved opcode": makeFrame(Packer()(b"4x"), 3, reserved=RSV1),
    "a message inside": makeFrame(Packer()(b"4x"), TEXT, reserved=RSV1, isFinal=False) + HELLO,
}.items():
    deflatedEnds("RFC 7692, 6", name, frames, 1002)
BROKEN = {
    "not deflate": b"\xff" * 100,
    "no such block": b"\x06",
    "a stored block whose length is wrong": b"\0\5\0\0\0hello",
    "gzip": gzip.compress(b"4x", mtime=0),
    "zlib": zlib.compress(b"4x"),
    "back beyond the beginning": b"\x62\x04\x62\x00",
    "no such block behind one": b"\x00\x05\x00\xfa\xff" + b"Hello" + b"\x06",
    "data behind the last block": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00" + b"more",
}
for name, octets in BROKEN.items():
    deflatedEnds("RFC 7692, 7.2.2", f"broken: {name}", makeFrame(octets, BINARY, reserved=RSV1), 1007)
for name, octets in {"octet ff": b"\xff", **CUT, "a surrogate": b"\xed\xa0\x80"}.items():
    deflatedEnds("RFC 7692, 7.2.2", f"not UTF-8: {name}", packed(b"4" + octets), 1007)
    sent = fragments(cutInto(Packer()(b"4" + octets), 1), reserved=RSV1)
    deflatedEnds("RFC 7692, 7.2.2", f"not UTF-8: {name}, in pieces", sent, 1007)
deflatedEnds(
    "RFC 7692, 7.1.1",
    "a client that takes over what it was told not to",
    (lambda pack: b"".join(makeFrame(pack(PROSE[:300]), TEXT, reserved=RSV1) for _ in range(2)))(Packer()),
    1007,
    packedText(PROSE[:300]),
    offer=PLAIN,
    deflate=settingsOf("clientNoContextTakeover"),
    agreed=f"{PLAIN}; client_no_context_takeover",
)
# The examples of 7.2.3, which are of text "Hello": as bytes, since that is no packet.
for name, octets in {
    "one compressed block": b"\xf2\x48\xcd\xc9\xc9\x07\x00",
    "a block without compression": b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    "a block with BFINAL": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
    "two blocks in a message": b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
}.items():
    deflated("RFC 7692, 7.2.3", name, makeFrame(octets, BINARY, reserved=RSV1), packedBinary(b"Hello"))
    deflated(
        "RFC 7692, 7.2.3",
        f"{name}, in two pieces",
        fragments([octets[:3], octets[3:]], BINARY, reserved=RSV1),
        packedBinary(b"Hello"),
    )
deflated(
    "RFC 7692, 7.2.3",
    "sharing the window",
    makeFrame(b"\xf2\x48\xcd\xc9\xc9\x07\x00", BINARY, reserved=RSV1)
    + makeFrame(b"\xf2\x00\x11\x00\x00", BINARY, reserved=RSV1),
    *[packedBinary(b"Hello")] * 2,
)
deflated("RFC 7692, 7.2.3", "an empty message", makeFrame(b"\0", BINARY, reserved=RSV1), packedBinary(b""))
deflated("RFC 7692, 7.2.3", "an empty fixed block", makeFrame(b"\2\0", BINARY, reserved=RSV1), packedBinary(b""))
deflated(
    "RFC 7692, 7.2.3",
    "a message behind one with BFINAL",
    makeFrame(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", BINARY, reserved=RSV1) + packed(b"4hello"),
    packedBinary(b"Hello"),
    packedText("4hello"),
)
deflated(
    "RFC 7692, 7.2.3",
    "a thousand empty blocks in a message",
    makeFrame(b"\0\0\0\xff\xff" * 1000 + Packer()(b"4hello"), TEXT, reserved=RSV1),
    packedText("4hello"),
)
deflated("RFC 7692, 8", "a message that inflates to the limit", packed(b"4" * LIMIT), packedText(b"4" * LIMIT))
for name, frames in {
    "one octet over the limit": packed(b"4" * (LIMIT + 1)),
    "fifty times the limit": packed(b"4" * LIMIT * 50),
    "bytes": packed(b"4" * LIMIT * 2, BINARY),
    "in pieces": fragments(cutInto(Packer()(b"4" * LIMIT * 20), 1000), reserved=RSV1),
    "not compressed at all": makeFrame(b"4" * (LIMIT + 1), TEXT),
    "a compressed frame over the limit": makeFrame(b"", TEXT, reserved=RSV1, length=LIMIT + 1),
}.items():
    deflatedEnds("RFC 7692, 8", f"a bomb: {name}", frames, 1009)


# Playing them


def cuts(data: bytes) -> dict[str, list[bytes]]:
    """What a client says, cut into pieces in several ways."""
    odd = cutInto(data, 997 if len(data) > 10_000 else 7)
    return {"whole": [data], "octets": cutInto(data, 1) if len(data) < 3000 else [], "odd": odd}


def named(case: Case | Opening) -> str:
    return f"{case.section}: {case.name}"
