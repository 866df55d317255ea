"""
A client of ours and a server of ours in memory, whose connections are cut at a byte: at each byte that there is.

Whatever that byte is of, and in whichever direction it goes, each message arrives once and in order.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from engineio_twisted import FastSite, Server
from engineio_twisted.client import Client, ConnectionFailed
from engineio_twisted.testing import MemoryNetwork

from ..kit.memory import Nothing
from ..kit.network import ClientTransport

STEP = 97
"""Bytes from one place to cut to the next, unless all are tried."""

MESSAGES = 4
PINGS = {"pingInterval": 3000, "pingTimeout": 2000}


@implementer(IStreamClientEndpoint)
class CutEndpoint:
    """
    Connects in memory, and cuts one connection at one byte.

    @ivar passed: how many bytes have passed, on all connections, by direction.
    @ivar isCut: whether a connection was cut.
    """

    def __init__(self, network: MemoryNetwork, direction: str, at: int) -> None:
        self._network = network
        self._direction, self._at = direction, at
        self.passed = {"up": 0, "down": 0}
        self.isCut = False

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.doStart()
        protocol = factory.buildProtocol(None)
        transport: Any = ClientTransport(self._network, protocol)
        for direction, owner, name in (("up", transport, "write"), ("down", transport, "dataReceived")):
            setattr(owner, name, self._passing(transport, direction, getattr(owner, name)))
        protocol.makeConnection(transport)
        return succeed(protocol)

    def _passing(self, transport: Any, direction: str, passOn: Any) -> Any:
        def passing(data: bytes) -> None:
            before = self.passed[direction]
            self.passed[direction] += len(data)
            if direction != self._direction or self.isCut or self.passed[direction] <= self._at:
                passOn(data)
                return
            self.isCut = True
            if self._at > before:
                passOn(data[: self._at - before])
            # What was written has to arrive.
            self._network.clock.callLater(0.001, transport.abortConnection)

        return passing


class Talk:
    """
    A client and a server that send each other numbers.

    @ivar got: what has come, at the server and at the client.
    """

    def __init__(self, transports: list[str], direction: str, at: int) -> None:
        self.clock = Clock()
        self.server = Server(reactor=self.clock, resumeTimeout=60_000, **PINGS)
        site = FastSite(Nothing(), reactor=self.clock)
        self.server.attach(site)
        self.network = MemoryNetwork(self.clock, site)
        self.endpoint = CutEndpoint(self.network, direction, at)
        self.got: list[list[str]] = [[], []]
        self.closed: list[tuple[str, str]] = []
        self.client = Client(
            "http://localhost", reactor=self.clock, endpoint=self.endpoint, transports=transports, resume=True
        )
        self.client.on("message", lambda data: self.got[1].append(str(data)))
        self.client.on("close", lambda reason, text: self.closed.append((str(reason), text)))
        self.server.on("connection", self._connected)
        self.failure: BaseException | None = None
        self.client.connect().addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        self.failure = failure.value

    def _connected(self, socket: Any) -> None:
        socket.on("message", lambda data: self.got[0].append(str(data)))
        self.socket = socket

    def play(self) -> None:
        for number in range(MESSAGES):
            self.network.advance(0.4)
            if self.client.readyState == "closed":
                return
            self.socket.send(f"server {number}")
            self.client.send(f"client {number}")
        # More than a ping, and more than a try whose response doesn't come.
        self.network.advance(20)

    def end(self) -> None:
        self.client.close()
        self.network.advance(1)
        self.server.close()
        self.network.advance(40)
        assert self.clock.getDelayedCalls() == []


WAYS = [["websocket"], ["polling"], ["polling", "websocket"]]


def lengthOf(transports: list[str], direction: str) -> int:
    """How many bytes pass if nothing is cut."""
    talk = Talk(transports, direction, 10**9)
    talk.play()
    assert talk.got[0] == [f"client {number}" for number in range(MESSAGES)]
    passed = talk.endpoint.passed[direction]
    talk.end()
    return passed


def cutEverywhere(transports: list[str], direction: str, step: int) -> None:
    length = lengthOf(transports, direction)
    resumed = 0
    for at in range(0, length, step):
        talk = Talk(transports, direction, at)
        talk.play()
        assert talk.endpoint.isCut, at
        if talk.failure is not None:
            # The handshake was cut: there was nothing to come back to.
            assert isinstance(talk.failure, ConnectionFailed)
            assert talk.got == [[], []]
        else:
            assert talk.closed == [], at
            assert talk.got[0] == [f"client {number}" for number in range(MESSAGES)], at
            assert talk.got[1] == [f"server {number}" for number in range(MESSAGES)], at
            resumed += talk.server.stats().resumed
        talk.end()
    assert resumed


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("transports", WAYS, ids=", ".join)
def test_somewhere(transports: list[str], direction: str) -> None:
    """At every so many bytes."""
    cutEverywhere(transports, direction, STEP)


@pytest.mark.apart
@pytest.mark.slow
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("transports", WAYS, ids=", ".join)
def test_everywhere(transports: list[str], direction: str) -> None:
    """At each byte."""
    cutEverywhere(transports, direction, 1)
