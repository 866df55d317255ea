"""A session without a network: its opening, what it receives, and handlers that do anything."""

from __future__ import annotations

import json

import pytest
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import ISessionHost, ITransport, ITransportOwner
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.factory import SocketFactory

from ..kit.fakes import FakeHost, FakeRequest, FakeTransport
from ..kit.sessions import EVENTS, Session, polling

pytestmark = pytest.mark.usefixtures("isServerHeard")


def test_fakesProvideTheInterfaces() -> None:
    """What these tests rest on is what a session sees in life."""
    session = Session()
    verifyObject(ITransport, session.transport)
    verifyObject(ITransportOwner, session.socket)
    verifyObject(ISessionHost, session.host)
    verifyObject(ISessionHost, SocketFactory(FakeHost(session.clock), session.clock, session.host.addressOf))


def test_openPacket() -> None:
    """The first packet tells the client its id, and what it needs to know."""
    session = Session(isOpen=False, pingInterval=300)
    assert session.socket.readyState == "opening"
    session.socket.open()
    assert session.socket.readyState == "open"
    (packet,) = session.transport.sent
    assert packet.type is PacketType.OPEN
    assert json.loads(packet.data)["sid"] == "sid-12345678"
    assert session.names() == ["packetCreate", "flush", "drain"]


def test_openOnPollingWaitsForThePoll() -> None:
    """On polling the open packet goes out with the GET that asked for the session."""
    session = Session("polling", isOpen=False)
    session.socket.open()
    assert session.transport.sent == []
    session.transport.ready()
    assert session.transport.types() == [PacketType.OPEN]
    assert json.loads(session.transport.sent[0].data)["upgrades"] == ["websocket"]


@pytest.mark.parametrize("initial", ["hello", b"\x01\x02", ""])
@pytest.mark.parametrize("name", ["polling", "websocket"])
def test_initialPacket(name: str, initial: str | bytes) -> None:
    """It goes out right behind the open packet: in the same payload, or as the next frame."""
    session = Session(name, isOpen=False, initialPacket=initial)
    session.socket.open()
    if name == "polling":
        session.transport.ready()
    assert session.transport.types() == [PacketType.OPEN, PacketType.MESSAGE]
    assert session.transport.sent[1].data == initial


def test_attributes() -> None:
    """What an application sees."""
    socket = Session().socket
    assert (socket.id, socket.protocol, socket.remoteAddress) == ("sid-12345678", 4, "192.0.2.7")
    assert (socket.upgraded, socket.upgrading, socket.transport.name) == (False, False, "websocket")
    assert isinstance(socket.request, FakeRequest)
    assert isinstance(socket.server, FakeHost)
    assert "1234567" not in socket.logName, "a session id is a secret"


@pytest.mark.parametrize(
    ("host", "expected"), [("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::1"), (None, None)]
)
def test_remoteAddress(host: str | None, expected: str | None) -> None:
    """An IPv4 client of a dual-stack port has its IPv4 address; one on a UNIX socket has none."""
    session = Session()
    address = type("Address", (), {} if host is None else {"host": host})()
    session.socket.request.getClientAddress = lambda: address
    assert session.socket.remoteAddress == expected


def test_orderOfEventsWithinAMessage() -> None:
    """`packet`, then `data`, then `message`."""
    session = Session()
    session.transport.receive(PacketType.MESSAGE, "hi")
    assert session.events == [("packet", Packet(PacketType.MESSAGE, "hi")), ("data", "hi"), ("message", "hi")]


@pytest.mark.parametrize("data", ["", b"", "123", '{"a":1}', "€😀", b"\x00\xff"])
def test_messagesStayWhatTheyAre(data: str | bytes) -> None:
    """A str stays a str, bytes stay bytes, and nothing is guessed."""
    session = Session()
    session.transport.receive(PacketType.MESSAGE, data)
    assert session.events[-1] == ("message", data)
    assert type(session.events[-1][1]) is type(data)


def trigger(session: Session) -> None:
    """Make every event of a polling session happen that can, up to its end."""
    session.transport.ready()
    session.transport.receive(PacketType.MESSAGE, "a")
    session.socket.send("b")
    session.clock.advance(session.host.opts.pingInterval / 1000)
    session.transport.ready()
    session.transport.receive(PacketType.PONG)
    candidate = FakeTransport()
    if session.socket.tryUpgrade(candidate):
        candidate.receive(PacketType.PING, "probe")
        candidate.receive(PacketType.UPGRADE)
    session.socket.close(discard=True)


HAPPENING = [each for each in EVENTS if each not in ("open", "error", "suspend", "resume")]


@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatRaises(event: str, loggedErrors: list[LogEvent]) -> None:
    """Is logged with its session, and emitted as `error`; everything else happens as if it hadn't."""
    quiet, session = polling(), polling()
    trigger(quiet)

    def fail(*_: object) -> None:
        raise ValueError(event)

    session.socket.on(event, fail)
    trigger(session)
    assert [each for each in session.names() if each != "error"] == quiet.names()
    assert {type(each[1]) for each in session.events if each[0] == "error"} == {ValueError}
    assert {(each["event"], each["session"]) for each in loggedErrors} == {(event, "sid-12…")}
    loggedErrors.clear()
    assert session.isQuiet()


def test_anErrorHandlerThatRaises(loggedErrors: list[LogEvent]) -> None:
    """Is logged, and no more."""
    session = Session()

    def fail(*_: object) -> None:
        raise ValueError

    session.socket.on("error", fail)
    session.socket.on("message", fail)
    session.transport.receive(PacketType.MESSAGE, "a")
    assert [event["event"] for event in loggedErrors] == ["message", "error"]
    loggedErrors.clear()


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatCloses(event: str, discard: bool) -> None:
    """From inside any event: the session ends once, cleanly, and leaves nothing."""
    session = polling()
    session.socket.on(event, lambda *_: session.socket.close(discard))
    trigger(session)
    assert len(session.closes) == 1
    assert session.names()[-1] == "close"
    assert (session.socket.readyState, session.isQuiet(), len(session.ended)) == ("closed", True, 1)


@pytest.mark.parametrize("event", HAPPENING)
def test_aHandlerThatSends(event: str) -> None:
    """From inside any event: what it sends arrives once, in the order of sending."""
    session = polling()
    sent: list[str] = []

    def send(*_: object) -> None:
        if len(sent) < 20:
            sent.append(f"{event} {len(sent)}")
            session.socket.send(sent[-1])

    session.socket.on(event, send)
    trigger(session)
    transports = [session.transport, *([session.socket.transport] if session.socket.upgraded else [])]
    arrived = [each for transport in transports for each in transport.texts() if each != "b"]
    unsent = [each.data for each in session.socket.writeBuffer]
    if event == "close":
        assert (arrived, unsent) == ([], [])
    elif event == "packetCreate":
        assert sorted(arrived + unsent) == sorted(sent)
    else:
        assert arrived + unsent == sent
    assert session.isQuiet()


def test_aChainOfCallbacks() -> None:
    """A callback that sends the next message may do so for ever: it is no recursion."""
    session = Session()
    left = [2000]

    def sendNext(_: object = None) -> None:
        if left[0]:
            left[0] -= 1
            session.socket.send(str(left[0]), sendNext)

    sendNext()
    assert session.transport.texts() == [str(each) for each in range(1999, -1, -1)]


def test_callbacksThatSend() -> None:
    """Callbacks come in the order of sending, and what they send comes behind what was sent before."""
    session = Session()
    happened: list[str] = []

    def first(_: object) -> None:
        session.socket.send("b", lambda _: happened.append("b"))
        session.socket.send("c", lambda _: happened.append("c"))
        happened.append("a")

    session.socket.send("a", first)
    assert happened == ["a", "b", "c"]
    assert session.transport.texts() == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["plain", "café"])
def test_aPacketThatAHandlerChanges(text: str) -> None:
    """What goes out is what the packet holds in the end."""
    session = Session()

    def shout(packet: Packet) -> None:
        packet.data = str(packet.data).upper()

    session.socket.on("packetCreate", shout)
    session.socket.send(text)
    (packet,) = [each for each in session.transport.sent if each.type is PacketType.MESSAGE]
    assert packet.data == text.upper()
