"""Responses of polling that the client has not taken."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.transports.polling import PollingTransport
from engineio_twisted.transports.unread import MAX_UNREAD, UNREAD
from engineio_twisted.web.connections import unsent

from ..kit.fakes import FakeRequest, PlainConnection
from ..kit.polling import polling


class Unread(FakeRequest):
    """A GET on a connection of its own, whose client doesn't read."""

    def __init__(self, connection: PlainConnection) -> None:
        super().__init__(headers={"accept-encoding": ["gzip"]})
        self.connection = connection
        self.channel.transport = connection

    def write(self, data: bytes) -> None:
        super().write(data)
        self.connection.write(data)


def letters(count: int) -> list[Packet]:
    return [Packet(PacketType.MESSAGE, "x" * count)]


def unreadAnswers(transport: PollingTransport, sizes: Sequence[int]) -> list[PlainConnection]:
    """Have GETs answered with so many bytes each, on connections that nobody reads from."""
    connections = []
    for size in sizes:
        connections.append(PlainConnection())
        transport.poll(Unread(connections[-1]).exchange)
        assert transport.send(letters(size - 1)) == 1
    return connections


def test_answersThatAreNotRead() -> None:
    """Are counted, and with too many of them the next GET waits."""
    transport, owner = polling(httpCompression=False)
    first, second = unreadAnswers(transport, [UNREAD - 100, 101])
    assert transport.bufferedAmount == UNREAD + 1
    transport.poll(Unread(PlainConnection()).exchange)
    assert not transport.writable
    first.drain()
    assert (transport.bufferedAmount, transport.writable) == (101, True)
    second.connected = False
    assert (transport.bufferedAmount, transport.writable) == (0, True)
    assert owner.closes == []


def test_answersOnManyConnections() -> None:
    """However small, they are not left on more than a few."""
    transport, _ = polling()
    connections = unreadAnswers(transport, [10] * (MAX_UNREAD + 1))
    transport.poll(Unread(PlainConnection()).exchange)
    assert not transport.writable
    connections[0].drain()
    assert transport.writable


def test_answersThatAreBeingCompressed() -> None:
    """What is to be compressed yet waits too."""
    transport, _ = polling()
    request = Unread(PlainConnection())
    transport.poll(request.exchange)
    transport.send(letters(200_000))
    assert transport.bufferedAmount == 200_001
    transport.poll(Unread(PlainConnection()).exchange)
    for _ in range(3):
        request.producer.resumeProducing()
    assert 0 < transport.bufferedAmount < 200_000
    request.producer.resumeProducing()
    assert 0 < transport.bufferedAmount == unsent(request.connection)
    request.connection.drain()
    assert transport.bufferedAmount == 0


@pytest.mark.parametrize("isReadLater", [False, True])
def test_nothingIsKeptOfACompressedAnswer(isReadLater: bool) -> None:
    """Once the client has read it, be it at once or later, the session lets go of the connection it came on."""
    transport, _ = polling()
    request = Unread(PlainConnection())
    tellers: list[Any] = []
    channel = weakref.ref(request.channel)
    request.channel.tellWhenRead = tellers.append
    transport.poll(request.exchange)
    transport.send(letters(200_000))
    while not request.finished:
        if not isReadLater:
            request.connection.drain()
            request.connection.write = lambda data: None  # type: ignore[method-assign]
        request.producer.resumeProducing()
    if isReadLater:
        assert transport.bufferedAmount > 0
        request.connection.drain()
        (answer,) = tellers
        answer.read()
    tellers.clear()
    answer = request = None  # type: ignore[assignment]
    gc.collect()
    assert channel() is None


def test_abandoningPolling() -> None:
    """Where answers lie about, their connections are cut; a GET that waits is told."""
    transport, _ = polling()
    connections: list[Any] = unreadAnswers(transport, [10, 10])
    compressed = Unread(PlainConnection())
    transport.poll(compressed.exchange)
    transport.send(letters(200_000))
    cut: list[Any] = []
    for each in [*connections, compressed.connection]:
        each.abortConnection = partial(cut.append, each)
    waiting = FakeRequest()
    transport.poll(waiting.exchange)
    transport.close(Closing(CloseReason.BUFFER_LIMIT_EXCEEDED))
    assert set(cut) == {*connections, compressed.connection}
    assert waiting.written == b"1"


def test_abandoningWhatCannotBeCut() -> None:
    """A connection that isn't one of Twisted's is left to itself."""
    transport, _ = polling()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send(letters(200_000))
    transport.close(Closing(CloseReason.BUFFER_LIMIT_EXCEEDED))
    assert not request.finished
