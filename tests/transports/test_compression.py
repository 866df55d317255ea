"""Responses of polling that are compressed, at once or in pieces."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from engineio_twisted.interfaces import LEFT, Closing
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.transports.compression import COMPRESSED_AT_ONCE

from ..kit.fakes import FORCED, FakeRequest, FakeWriter
from ..kit.polling import polling


def compressed(
    accepted: str = "gzip", size: int = 5000, compress: tuple[bool, ...] = (True,), **options: Any
) -> FakeRequest:
    transport, _ = polling(**options)
    request = FakeRequest(headers={"accept-encoding": [accepted]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * (size - 1) if each else "y" * 2000, each) for each in compress])
    while request.producer is not None:
        request.producer.resumeProducing()
    assert request.finished
    return request


def test_gzip() -> None:
    """A payload over the threshold goes out compressed, with its length."""
    request = compressed()
    assert request.header("content-encoding") == "gzip"
    assert gzip.decompress(request.written) == b"4" + b"x" * 4999
    assert request.header("content-length") == str(len(request.written))
    assert (request.header("content-type"), request.header("cache-control")) == (
        "text/plain; charset=UTF-8",
        "no-store",
    )


def test_engine_deflate() -> None:
    """For clients that want it: in the format of zlib, as HTTP has it."""
    request = compressed("gzip;q=0.5, deflate")
    assert request.header("content-encoding") == "deflate"
    assert zlib.decompress(request.written) == b"4" + b"x" * 4999


@pytest.mark.parametrize(
    ("given", "isCompressed"),
    [
        ({"size": 1024}, True),
        ({"size": 1023}, False),
        ({"size": 10, "httpCompression": {"threshold": 10}}, True),
        ({"size": 9, "httpCompression": {"threshold": 10}}, False),
        ({"size": 1, "httpCompression": {"threshold": 0}}, True),
        ({"httpCompression": False}, False),
        ({"httpCompression": True}, True),
        ({"accepted": ""}, False),
        ({"accepted": "br"}, False),
        ({"compress": (False,)}, False),
        ({"compress": (False, False)}, False),
        ({"compress": (False, True)}, True),
    ],
)
def test_whatIsCompressed(given: dict[str, Any], isCompressed: bool) -> None:
    """By size, by what the client accepts, and unless none of the packets asks for it."""
    assert (compressed(**given).header("content-encoding") == "gzip") is isCompressed


def test_levels() -> None:
    """The level and the memory are those of the settings: none compresses nothing."""
    request = compressed(httpCompression={"level": 0, "memLevel": 1})
    assert len(request.written) > 5000
    assert gzip.decompress(request.written) == b"4" + b"x" * 4999
    assert len(compressed(httpCompression={"level": 9}).written) < 100


def test_aLargePayloadIsCompressedInPieces() -> None:
    """Each piece only when the connection asks for it, so that nobody else waits for all of it."""
    transport, _ = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    text = "".join(str(each) for each in range(100_000))
    transport.send([Packet(PacketType.MESSAGE, text)])
    assert (request.finished, transport.writable) == (False, False)
    assert request.header("content-length") is None
    rounds = 0
    while not request.finished:
        request.producer.resumeProducing()
        rounds += 1
    assert rounds == -(-(len(text) + 1) // COMPRESSED_AT_ONCE)
    assert gzip.decompress(request.written).decode() == "4" + text


def test_closingWhileAPayloadIsCompressed() -> None:
    """All of it goes out at once, whole."""
    transport, _ = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    request.producer.resumeProducing()
    transport.close(FORCED)
    assert request.finished
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000


@pytest.mark.parametrize("closing", [FORCED, LEFT], ids=["close", "discard"])
def test_lettingGoWhileAPayloadIsCompressed(closing: Closing) -> None:
    """Also where the session goes on, on another transport: nobody will tell this one any more."""
    transport, _ = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    transport.close(closing)
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000
    assert request.finished


def test_aHandlerThatClosesBeforeAPayloadIsCompressed() -> None:
    """What was to be compressed in pieces goes out at once."""
    writer = FakeWriter()
    transport, _ = polling(writer=writer)
    writer.announce = lambda *args: transport.close(FORCED)  # type: ignore[assignment]
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000


@pytest.mark.parametrize("hears", ["the producer", "the session"])
def test_aConnectionLostWhileAPayloadIsCompressed(hears: str) -> None:
    """What was in it is lost, so the session ends; nothing is written any more."""
    transport, owner = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    request.producer.resumeProducing()
    written = request.written
    if hears == "the producer":
        request.producer.stopProducing()
    request.lose()
    assert owner.closes == [("transport error", "poll connection closed prematurely")]
    assert (request.written, request.finished) == (written, False)


def test_anotherPollWhileAPayloadIsCompressed() -> None:
    """It waits; the loss of the first ends the session, which tells the second."""
    transport, owner = polling()
    first, second = FakeRequest(headers={"accept-encoding": ["gzip"]}), FakeRequest()
    transport.poll(first.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    transport.poll(second.exchange)
    first.lose()
    assert [reason for reason, _ in owner.closes] == ["transport error"]
    assert (second.status, second.written) == (200, b"1")


def test_theLastPayloadIsNotCompressed() -> None:
    """The connection may be closed right behind it."""
    transport, _ = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.close(FORCED, [Packet(PacketType.MESSAGE, "x" * 200_000)])
    assert request.written == b"4" + b"x" * 200_000 + b"\x1e1"
