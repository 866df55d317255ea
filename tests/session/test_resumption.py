"""
Two ends over a network that loses connections: each message arrives once and in order, whatever happens when.

The ends are those of a server and of a client as far as numbers go; what is between them is a list for each direction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted.interfaces import Closing, ITransport
from engineio_twisted.protocol.errors import CloseReason, HTTPRefusal, SessionClosing
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.resume import Bounds
from engineio_twisted.session.resumption import ResumableTransport, Resumption

BOUNDS = (Bounds(1, 10**6), Bounds(2, 40), Bounds(5, 10**6), Bounds(8, 30), Bounds(100, 10**6))


class Wire:
    """
    A transport of one end of a connection.

    @param kind: C{socket} takes three packets until it is ready again, C{get} all at once, as an answer to a GET, and
        C{post} two at once.
    """

    bufferedAmount = heldBytes = 0

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = "websocket" if kind == "socket" else "polling"
        self.isPolled = kind == "get"
        self.out: deque[Packet] = deque()
        self.other: Wire | None = None
        self.owner: Any = None
        self.room = 3
        self.isClosed = False

    @property
    def writable(self) -> bool:
        return self.room > 0 and not self.isClosed

    def send(self, packets: Sequence[Packet]) -> int:
        assert packets
        most = {"socket": max(1, self.room), "get": len(packets), "post": 2}[self.kind]
        taken = min(most, len(packets))
        self.room = max(0, self.room - taken) if self.kind == "socket" else 0
        self.out.extend(packets[:taken])
        return taken

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        self.send((Packet(PacketType.MESSAGE, data, compress),))

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        self.isClosed = True
        return 0

    def ready(self) -> None:
        self.room = 3
        if not self.isClosed:
            self.owner.transportReady(self)


class Inbox:
    def __init__(self) -> None:
        self.packets: list[Packet] = []

    @property
    def messages(self) -> int:
        return len(self.packets)


class End:
    """
    One end: what a session is to its transports.

    @ivar got: the messages that its application got.
    @ivar buffer: those that wait to be sent.
    """

    logName = "end"

    def __init__(self, own: Bounds, theirs: Bounds) -> None:
        self.resumption = Resumption(own, theirs, 1000)
        self.transport: Any = None
        self.got: list[str] = []
        self.buffer: list[Packet] = []
        self.sent = 0
        self._inbox: Inbox | None = None

    def send(self) -> None:
        packet = Packet(PacketType.MESSAGE, str(self.sent))
        self.sent += 1
        if not self.buffer and self.transport.writable:
            self.transport.sendMessage(packet.data, None, True)
        else:
            self.buffer.append(packet)

    def sendBuffered(self, packets: Sequence[Packet]) -> None:
        self.buffer += packets

    def isFrom(self, transport: ITransport) -> bool:
        return transport is self.transport

    def transportReady(self, transport: Any) -> None:
        while self.buffer and self.transport.writable:
            buffer, self.buffer = self.buffer, []
            self.buffer = buffer[self.transport.send(buffer) :] + self.buffer

    def transportMessage(self, transport: ITransport, data: str) -> HTTPRefusal | None:
        if transport is not self.transport:
            return SessionClosing()
        if self._inbox is None:
            self.got.append(data)
        else:
            self._inbox.packets.append(Packet(PacketType.MESSAGE, data))
        return None

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        return None

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        raise AssertionError(closing)

    def pause(self) -> None:
        self._inbox = self._inbox or Inbox()

    def resume(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            self.got += [str(each.data) for each in inbox.packets]
            self.transport.acknowledge()

    def held(self) -> int:
        held = 0
        if self._inbox is not None:
            held = self._inbox.messages
            self._inbox.packets.clear()
        return held

    def begin(self, wire: Wire) -> None:
        old, self.transport = self.transport, ResumableTransport(wire, self.resumption)
        self.transport.owner = self
        if old is not None:
            old.lose(Closing(CloseReason.TRANSPORT_CLOSE))


class World:
    """A server and a client, and what is between them."""

    def __init__(self, bounds: tuple[Bounds, Bounds], isPolled: bool) -> None:
        self.server, self.client = End(*bounds), End(*bounds[::-1])
        self.isPolled = isPolled
        self.attempt = 0
        self.connect()

    @property
    def ends(self) -> tuple[End, End]:
        return self.server, self.client

    def newWires(self) -> tuple[Wire, Wire]:
        return (Wire("get"), Wire("post")) if self.isPolled else (Wire("socket"), Wire("socket"))

    def connect(self) -> None:
        self.wires = self.newWires()
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.begin(wire)

    def deliver(self, index: int, count: int) -> None:
        """Let the packets arrive that one end has sent first."""
        wire, other = self.wires[index], self.wires[1 - index]
        while count and wire.out:
            count -= 1
            packet = wire.out.popleft()
            if packet.type is PacketType.MESSAGE:
                other.owner.transportMessage(other, packet.data)
            else:
                other.owner.transportPacket(other, packet)

    def comeBack(self, isLostAfter: bool) -> None:
        """Lose what is on its way, and connect again; the response may be lost, too."""
        self.isPolled = not self.isPolled
        self.attempt += 1
        client, server = self.client.resumption, self.server.resumption
        client.forget(self.client.held())
        assert server.mayHave(client.received)
        self.wires = self.newWires()
        self.server.begin(self.wires[0])
        server.forget(self.server.held())
        server.comeBack(self.attempt, client.received)
        self.server.transport.begin([Packet(PacketType.OPEN, "")])
        self.server.transportReady(self.server.transport)
        if isLostAfter:
            self.comeBack(False)
            return
        assert client.mayHave(server.received)
        self.client.begin(self.wires[1])
        client.comeBack(self.attempt, server.received)
        self.client.transport.begin([])
        self.client.transportReady(self.client.transport)

    def upgrade(self) -> None:
        """Move to other transports when all that is on its way has arrived; nothing is lost."""
        while any(each.out for each in self.wires):
            for index in (0, 1):
                self.deliver(index, 10**6)
        self.isPolled = False
        self.wires = self.newWires()
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.transport = ResumableTransport(wire, end.resumption)
            end.transport.owner = end
        for end in self.ends:
            end.transport.goOn()
            end.transportReady(end.transport)

    def do(self, what: str, index: int, count: int) -> None:
        end = self.ends[index]
        if what == "send":
            for _ in range(count):
                end.send()
        elif what == "deliver":
            self.deliver(index, count)
        elif what == "ready":
            self.wires[index].ready()
        elif what == "heartbeat":
            end.transport.sendHeartbeat((PacketType.PING, PacketType.PONG)[index])
        elif what == "pause":
            end.pause()
        elif what == "go-on":
            end.resume()
        elif what == "upgrade":
            self.upgrade()
        else:
            self.comeBack(bool(count % 2))
        self.check()

    def check(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            assert end.got == [str(number) for number in range(len(end.got))]
            # Whatever the other end hasn't got is kept or waits.
            resumption = end.resumption
            assert resumption.sent + len(end.buffer) == end.sent
            assert resumption.acknowledged <= len(other.got)
            assert resumption.size == sum([len(each.data) for each, _ in resumption.kept()])

    def settle(self) -> None:
        """Let all arrive that can; nothing more happens but that."""
        for end in self.ends:
            end.resume()
        for _ in range(10_000):
            if all(len(end.got) == other.sent for end, other in (self.ends, self.ends[::-1])):
                return
            for index in (0, 1):
                self.wires[index].ready()
                self.deliver(index, 10**6)
        raise AssertionError("it stands still")


WHAT = st.tuples(
    st.sampled_from(
        ["send", "send", "deliver", "deliver", "ready", "heartbeat", "pause", "go on", "come back", "upgrade"]
    ),
    st.integers(0, 1),
    st.integers(1, 6),
)


@settings(max_examples=300, deadline=None)
@given(st.tuples(st.sampled_from(BOUNDS), st.sampled_from(BOUNDS)), st.booleans(), st.lists(WHAT, max_size=60))
def test_eachMessageOnceAndInOrder(bounds: Any, isPolled: bool, happening: list[tuple[str, int, int]]) -> None:
    """Whatever is lost when, and whoever waits for what, all that was sent arrives, once and in order."""
    world = World(bounds, isPolled)
    for each in happening:
        world.do(*each)
    world.settle()
    world.check()


def test_theModelCanFail() -> None:
    """If an end forgets what it sent, the model notices."""
    world = World((BOUNDS[-1], BOUNDS[-1]), False)
    world.do("send", 0, 3)
    world.server.resumption.unkeep(1)
    with pytest.raises(AssertionError):
        world.check()


@pytest.mark.parametrize("kind", ["socket", "get"])
def test_aTransportThatFails(kind: str) -> None:
    """Whether the message went out isn't known: the connection counts as lost, and the caller hears of the error."""
    closed: list[Closing] = []

    class Owner(End):
        def transportClosed(self, transport: ITransport, closing: Closing) -> None:
            closed.append(closing)

    class Broken(Wire):
        def send(self, packets: Sequence[Packet]) -> int:
            raise RuntimeError("out of order")

    end = Owner(BOUNDS[-1], BOUNDS[-1])
    end.begin(Broken(kind))
    with pytest.raises(RuntimeError):
        end.transport.sendMessage("a", None, True)
    with pytest.raises(RuntimeError):
        end.transport.send([Packet(PacketType.MESSAGE, "b")])
    assert [(each.reason, each.isLoss) for each in closed] == [(CloseReason.TRANSPORT_ERROR, True)] * 2
    assert [each.data for each, _ in end.resumption.kept()] == ["a", "b"]
