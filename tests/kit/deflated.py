"""Compressed messages on a WebSocket, as clients send them."""

from __future__ import annotations

import json
import zlib

from .wire import (
    TEXT,
    Arena,
    Wire,
    makeFrame,
    upgrade,
)


def deflate(data: bytes, isLast: bool = False) -> bytes:
    """A message as a client compresses it; with `isLast` as one that ends its stream with it (RFC 7692, 7.2.3.4)."""
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    if isLast:
        return packing.compress(data) + packing.flush() + b"\0"
    return (packing.compress(data) + packing.flush(zlib.Z_SYNC_FLUSH))[:-4]


def packed(data: bytes, opcode: int = TEXT) -> bytes:
    """The frame of a compressed message."""
    return makeFrame(deflate(data), opcode, reserved=4)


async def offering(here: Arena, *offers: str, where: str | None = None) -> tuple[Wire, str | None]:
    """Open a WebSocket with offers; return it, and what was accepted."""
    extra = "".join(f"Sec-WebSocket-Extensions: {each}\r\n" for each in offers)
    wire = await here.say(upgrade(where, extra=extra))
    response = await wire.response()
    assert response.status == 101
    return wire, response.headers.get("sec-websocket-extensions")


async def openDeflated(here: Arena) -> tuple[str, Wire]:
    """Open a session on a WebSocket whose messages may be compressed."""
    wire, accepted = await offering(here, "permessage-deflate")
    assert accepted == "permessage-deflate"
    return json.loads((await wire.text())[1:])["sid"], wire
