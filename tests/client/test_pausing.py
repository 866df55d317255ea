"""A client that receives nothing for long, and a server of ours, in memory."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted import Socket
from engineio_twisted.client import Client
from engineio_twisted.testing import MemoryServer

from ..kit.client_memory import InMemory


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("sends", [True, False])
def test_sessionSurvivesAPause(transport: str, sends: bool) -> None:
    """However long receiving is paused, the session lives, and all that was sent meanwhile comes in order."""
    sockets: list[Socket] = []
    with MemoryServer(lambda server: server.on("connection", sockets.append)) as kit:
        endpoint = InMemory(kit._network)
        client = Client("http://server.test", reactor=kit.clock, endpoint=endpoint, transports=[transport])
        received: list[Any] = []
        client.on("message", received.append)
        client.connect()
        kit.settle()
        client.pauseReceiving()
        sent = [str(each) for each in range(12)]
        for each in sent:
            if sends:
                sockets[0].send(each)
            kit.advance(10)
        assert received == []
        assert (client.readyState, sockets[0].readyState) == ("open", "open")
        client.resumeReceiving()
        kit.settle()
        assert received == (sent if sends else [])
        kit.advance(120)
        assert (client.readyState, sockets[0].readyState) == ("open", "open")
        closed: list[None] = []
        client.close().addCallback(closed.append)
        kit.advance(1)
        assert closed == [None]
