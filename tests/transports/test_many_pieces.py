"""A message in very many pieces, as frames of a WebSocket or chunks of a POST: pieces cost no more than their bytes."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from ..kit.engines import ENGINES
from ..kit.footprint import footprint
from ..kit.memory import Connection
from ..kit.sites import SITES, Here, request

PIECES = 9_000
"""So many are sent, in which what each costs shows: lists of pieces are joined after a thousand or so."""

MILLION = 1_000_000
MOST = 4 * 2**20
"""Bytes that a million of pieces, a byte each, may cost."""


def costOfAMillion(here: Here, connection: Connection, piece: bytes) -> float:
    """The most that a connection has kept at some time, and would by the growth between them."""
    kept = []
    for _ in range(3):
        for _ in range(10):
            connection.say(piece * (PIECES // 30))
        kept.append(here.kept(connection))
    gc.collect()
    growth = (kept[-1] - kept[0]) / (PIECES * 2 // 3)
    return max(kept) + growth * MILLION


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("site", SITES)
def test_fragments(site: str, engine: Any, opcode: int) -> None:
    """Of one message on a WebSocket."""
    here = Here(site, wsEngine=engine)
    connection = here.connect(request(b"websocket"))
    mask = bytes(4)
    connection.say(bytes([opcode, 0x81]) + mask + b"4")
    assert costOfAMillion(here, connection, b"\0\x81" + mask + b"x") < MOST
    got: list[Any] = []
    here.sockets[0].on("message", got.append)
    connection.say(b"\x80\x81" + mask + b"x")
    size = PIECES // 30 * 30 + 1
    assert [len(each) for each in got] == [size + (opcode == 2)]
    here.close()


@pytest.mark.parametrize("site", SITES)
def test_chunks(site: str) -> None:
    """Of the body of one POST."""
    here = Here(site)
    here.connect(request(b"polling"))
    sid = here.sockets[0].id.encode()
    got: list[Any] = []
    here.sockets[0].on("message", got.append)
    post = request(b"polling", query=b"&sid=" + sid, method=b"POST", lines=[b"Transfer-Encoding: chunked"])
    connection = here.connect(post, b"1\r\n4\r\n")
    assert costOfAMillion(here, connection, b"1\r\nx\r\n") < MOST
    connection.say(b"0\r\n\r\n")
    assert [len(each) for each in got] == [PIECES // 30 * 30]
    assert footprint(got) < MOST
    here.close()
