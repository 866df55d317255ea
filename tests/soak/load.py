"""
The clients of the soak: some hundred new ones a second, from one thread, over connections of its own making.

    python -m tests.soak.load PORT SEED FIRST SECONDS RATE

FIRST is the number of the first session. When the last session is over it prints what came of them, as JSON. Progress
goes to stderr.

Most of them vanish, fall silent or break off at a certain byte, which no library does, and one would cost more than the
server: here a session is a few generators, which are all run again whenever anything has happened to it. Some of those
that behave are L{.clients}.
"""

from __future__ import annotations

import heapq
import json
import re
import select
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.testing.requests import takeBody, takeHead
from engineio_twisted.testing.websocket import Frame, takeFrame

from ..kit.wire import CLOSE, TEXT, makeFrame
from .plan import COMPLETE, FROM_CLIENT, FROM_SERVER, PING_INTERVAL, PING_TIMEOUT, Checked, Message, message, planOf

Activity = Generator[None, None, Any]

HOST = "127.0.0.1"
MOST_OPENING = 30
"""Where the machine doesn't keep up, new sessions wait: else, in the end, none would be served in time."""
TOO_LONG = 40.0
"""Seconds; no session is planned to take half of that."""
SILENCE = PING_INTERVAL + PING_TIMEOUT + 2
"""Seconds after which the connections of a client that has fallen silent are closed: its machine is switched off."""
MOST_PROBLEMS = 20
ADDRESSES = 100
_BIND_ADDRESS_NO_PORT = 24
_ABORT = struct.pack("ii", 1, 0)


class LostError(Exception):
    """
    The connection closed before what was waited for had come.

    @ivar isPartial: whether some of it had.
    """

    def __init__(self, isPartial: bool) -> None:
        super().__init__(isPartial)
        self.isPartial = isPartial


class Connection:
    """One connection of a session: what came and wasn't read yet, what couldn't be sent yet, whether it is lost."""

    def __init__(self, load: Load, session: Session) -> None:
        self.load, self.session = load, session
        self.received = bytearray()
        self.unsent = b""
        self.isLost = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        # From many addresses: each has some 28 000 ports, of which each is taken for a minute after its connection. But
        # from no more than come while the server gets warm, as it remembers some of each.
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((f"127.1.0.{session.plan.serial % ADDRESSES + 1}", 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex((HOST, load.port))
        self.number = self.socket.fileno()
        self.events = select.EPOLLIN
        load.connections[self.number] = self
        load.epoll.register(self.number, self.events)
        session.connections.add(self)

    def send(self, data: bytes) -> None:
        self.unsent += data
        self._flush()

    def _flush(self) -> None:
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.lost()
            return
        self._listen(select.EPOLLIN | select.EPOLLOUT if self.unsent else select.EPOLLIN)

    def _listen(self, events: int) -> None:
        if events != self.events:
            self.load.epoll.modify(self.number, events)
            self.events = events

    def happened(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT and not self.isLost:
            try:
                data = self.socket.recv(262_144)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self.received += data
            else:
                self.lost()

    def lost(self) -> None:
        self.isLost = True
        self.close()

    def mute(self) -> None:
        """Notice nothing any more, but stay."""
        # The number may be another's by now.
        if self.load.connections.get(self.number) is self:
            del self.load.connections[self.number]
            self.load.epoll.unregister(self.number)

    def close(self, abort: bool = False) -> None:
        self.mute()
        self.load.silent.discard(self)
        if abort:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.socket.close()
        self.session.connections.discard(self)

    def taken(self, take: Callable[[], Any]) -> Activity:
        """Wait until something can be taken out of what came."""
        while (found := take()) is None:
            if self.isLost:
                raise LostError(bool(self.received))
            yield
        return found

    def response(self) -> Activity:
        """Read a response: its status and its body."""
        status, headers = yield from self.taken(lambda: takeHead(self.received))
        if status == 101:
            return status, b""
        body = yield from self.taken(lambda: takeBody(status, headers, self.received))
        return status, zlib.decompress(body, 31) if headers.getRawHeaders(b"content-encoding") == [b"gzip"] else body

    def frame(self) -> Activity:
        """Read a frame."""
        return (yield from self.taken(lambda: takeFrame(self.received)))


def packetOf(said: Message) -> Packet:
    """A packet, of which a session has text with its digit, and bytes."""
    return Packet(PacketType.MESSAGE, said) if isinstance(said, bytes) else Packet(PacketType(int(said[0])), said[1:])


def saidBy(packet: Packet) -> Message:
    """The other way."""
    return packet.data if isinstance(packet.data, bytes) else f"{packet.type:d}{packet.data}"


EVENT = re.compile(r"4(0|2|3|51-)([0-9]*)(.*)", re.DOTALL)
"""What the server says of Socket.IO: the type, the id, and the rest."""


def eventOf(data: Message, number: int) -> list[Message]:
    """A message as an event of Socket.IO that is to be acknowledged."""
    if isinstance(data, bytes):
        return [f'451-{number}["m",{{"_placeholder":true,"num":0}}]', data]
    return [f'42{number}["m",{json.dumps(data)}]']


class VanishedError(Exception):
    """The plan says that the client is gone from here on."""


class Session:
    """One session, as its plan wants it."""

    def __init__(self, load: Load, serial: int) -> None:
        self.load = load
        self.plan = planOf(load.seed, serial)
        self.codec = codecFor(self.plan.revision)
        self.checked = Checked(serial, FROM_SERVER)
        self.connections: set[Connection] = set()
        self.webSocket: Connection | None = None
        self.queue: list[Message] = []
        self.said = 0
        self.isOpen = self.isOver = self.isGone = self.isPausing = self.isPolling = self.isPosting = False
        self.isUpgrading = self.plan.way == "upgrade"
        self.kept: dict[str, Connection] = {}
        self.activities: list[Activity] = [self.live()]
        self.load.later(TOO_LONG, self.tooLong)

    # What drives it

    def run(self) -> None:
        """Let every activity go on, until none gets any further."""
        state: object = None
        while not self.isGone and state != (state := self.state):
            for each in tuple(self.activities):
                try:
                    next(each)
                except StopIteration:
                    if not self.isGone:
                        self.activities.remove(each)
                except VanishedError:
                    self.vanish()
                except LostError:
                    self.finish("a connection was lost")
                except Exception as error:
                    self.finish(f"{type(error).__name__}: {error}")
                if self.isGone:
                    return

    @property
    def state(self) -> object:
        return (
            len(self.activities),
            len(self.queue),
            self.said,
            self.checked.count,
            self.webSocket,
            self.isOpen,
            self.isOver,
            self.isPausing,
            self.isPolling,
            self.isPosting,
            self.isUpgrading,
        )

    def after(self, seconds: float) -> Activity:
        until = self.load.now + seconds
        self.load.later(seconds, self.run)
        while self.load.now < until:
            yield

    def vanish(self) -> None:
        """Be gone, without a word."""
        self.end(self.plan.how)
        self.load.finished(self, "")

    def finish(self, problem: str) -> None:
        self.end("fin")
        self.load.finished(self, problem)

    def end(self, how: str) -> None:
        self.isGone = True
        for each in self.activities:
            # One of them is the caller, and over anyway.
            with suppress(ValueError):
                each.close()
        self.activities = []
        connections = tuple(self.connections)
        if how == "silent":
            for each in connections:
                each.mute()
                self.load.silent.add(each)
                self.load.later(SILENCE, each.close)
        else:
            for each in connections:
                each.close(how == "rst")

    def tooLong(self) -> None:
        if not self.isGone:
            self.finish(f"not over after {TOO_LONG} s")

    # HTTP

    def request(self, method: str, transport: str = "polling", headers: str = "", body: bytes | None = None) -> bytes:
        plan = self.plan
        sid = f"&sid={self.sid}" if self.isOpen else f"&{plan.query}"
        path = "socket.io" if plan.isSocketIO else "engine.io"
        lines = f"{method} /{path}/?EIO={plan.revision}&transport={transport}{sid}"
        if self.usesBase64:
            lines += "&b64=1"
        lines += f" HTTP/1.1\r\nHost: localhost\r\n{headers}"
        if body is not None:
            lines += f"Content-Length: {len(body)}\r\n"
            if plan.revision == 3 and body[:1] in b"\x00\x01":
                lines += "Content-Type: application/octet-stream\r\n"
        elif plan.gzip:
            lines += "Accept-Encoding: gzip\r\n"
        return lines.encode() + b"\r\n" + (body or b"")

    def packets(self, body: bytes) -> list[Message]:
        """The packets of a payload."""
        isBinary = self.plan.revision == 3 and body[:1] in b"\x00\x01"
        return [saidBy(each) for each in self.codec.decodePayload(body if isBinary else body.decode())]

    @property
    def usesBase64(self) -> bool:
        # On a WebSocket of revision 3 it would change what frames are.
        return self.plan.base64 and self.plan.way == "polling"

    def upgradeRequest(self) -> bytes:
        return self.request(
            "GET",
            "websocket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )

    def ask(self, method: str, body: bytes | None = None) -> Activity:
        connection = self.kept.pop(method, None)
        if connection is None or connection.isLost:
            connection = Connection(self.load, self)
        connection.send(self.request(method, body=body))
        answer = yield from connection.response()
        if self.plan.keepAlive:
            self.kept[method] = connection
        else:
            connection.close()
        return answer

    # The session

    def live(self) -> Activity:
        plan = self.plan
        yield from self.open()
        self.activities.append(self.write())
        self.activities.append(self.talk())
        if plan.revision == 3:
            self.activities.append(self.ping())
        if plan.end == "deaf":
            yield from self.after(SILENCE)
            raise VanishedError
        self.activities.append(self.listen() if self.webSocket else self.poll())
        if plan.way != "websocket":
            self.activities.append(self.moves())
        if plan.end == "vanish":
            yield from self.after(plan.vanishAfter)
            raise VanishedError
        yield from self.leave()
        for each in COMPLETE.get(plan.end, ()):
            if each == "server" and self.checked.count != plan.fromServer:
                self.finish(f"{self.checked.count} of {plan.fromServer} messages came")
        if not self.isGone:
            self.finish("")

    def open(self) -> Activity:
        plan = self.plan
        connection = Connection(self.load, self)
        request = self.upgradeRequest() if plan.way == "websocket" else self.request("GET")
        if plan.end == "vanish in a handshake":
            connection.send(request[: plan.serial % len(request)])
            yield from self.after(0.02)
            raise VanishedError
        connection.send(request)
        if plan.end == "vanish unread":
            yield from self.after(plan.serial % 3 * 0.01)
            raise VanishedError
        status, body = yield from connection.response()
        if plan.way == "websocket":
            assert status == 101, f"{status} {body!r}"
            packets: list[Message] = [(yield from connection.frame()).text]
            self.webSocket = connection
        else:
            assert status == 200, f"{status} {body!r}"
            packets = self.packets(body)
            connection.close()
        self.sid = json.loads(str(packets[0])[1:])["sid"]
        self.isOpen = True
        self.load.opening -= 1
        self.load.opened += 1
        if plan.isSocketIO and plan.revision == 4:
            self.queue.append("40")
        for packet in packets[1:]:
            self.take(packet)

    def talk(self) -> Activity:
        """Say what is to be said."""
        for delay, count in self.plan.delays:
            yield from self.after(delay)
            for _ in range(count):
                data = message(self.plan.serial, FROM_CLIENT, self.said)
                if self.plan.isSocketIO:
                    self.queue += eventOf(data, self.said)
                else:
                    self.queue.append("4" + data if isinstance(data, str) else data)
                self.said += 1

    def ping(self) -> Activity:
        while True:
            yield from self.after(PING_INTERVAL)
            self.queue.append("2")

    def write(self) -> Activity:
        """Send what is in the queue, as the stock client does: all of it with one POST, and none while upgrading."""
        while True:
            while not self.queue or self.isPausing or self.isOver:
                yield
            packets, self.queue = self.queue, []
            if self.webSocket is not None:
                data = b"".join(makeFrame(self.codec.encodePacket(packetOf(each))) for each in packets)
                if self.plan.end == "vanish in a frame" and self.said:
                    self.webSocket.send(data[: -1 - self.plan.serial % (len(data) - 1)])
                    raise VanishedError
                self.webSocket.send(data)
                continue
            self.isPosting = True
            payload = self.codec.encodePayload([packetOf(each) for each in packets])
            body = payload.encode() if isinstance(payload, str) else payload
            if self.plan.end == "vanish in a body" and self.said:
                request = self.request("POST", body=body)
                Connection(self.load, self).send(request[: -1 - self.plan.serial % (len(body) + 20)])
                yield from self.after(0.02)
                raise VanishedError
            try:
                status, answer = yield from self.ask("POST", body)
            except LostError:
                if not self.mayEnd:
                    raise
            else:
                assert answer == b"ok" or self.mayEnd, f"POST was answered {status} {answer!r}"
            self.isPosting = False

    def poll(self) -> Activity:
        self.isPolling = True
        while not self.isPausing and not self.isOver:
            status, body = yield from self.ask("GET")
            if status != 200:
                assert self.mayEnd, f"GET was answered {status} {body!r}"
                self.isOver = True
                break
            for packet in self.packets(body):
                self.take(packet)
        self.isPolling = False

    def listen(self) -> Activity:
        connection = self.webSocket
        assert connection is not None
        while True:
            try:
                frame = yield from connection.frame()
            except LostError:
                assert self.mayEnd, "the WebSocket was lost"
                break
            if frame.opcode == CLOSE:
                if not self.mayEnd:
                    self.closed(frame)
                connection.send(makeFrame(frame.payload[:2], CLOSE))
            else:
                self.take(saidBy(self.codec.decodePacket(frame.text if frame.opcode == TEXT else frame.payload)))
        self.isOver = True

    def closed(self, frame: Frame) -> None:
        raise AssertionError(f"the WebSocket was closed: {frame}")

    @property
    def mayEnd(self) -> bool:
        """Whether the session may end on the other side: the server is the one to end it, or was told to."""
        return self.plan.end.startswith(("server", "deaf")) or self.isLeaving or self.isOver

    isLeaving = False

    def take(self, packet: Message) -> None:
        if self.plan.isSocketIO and (isinstance(packet, bytes) or packet[0] == "4"):
            self.takeEvent(packet)
        elif isinstance(packet, bytes):
            self.checked.take(packet)
        elif packet[0] == "4":
            self.checked.take(packet[1:])
        elif packet == "2":
            self.queue.append("3")
            self.load.pings += 1
        elif packet == "1":
            self.isOver = True
        else:
            assert packet in ("3", "6"), f"an odd packet: {packet!r}"

    def takeEvent(self, packet: Message) -> None:
        """Take a message of Socket.IO: an event, which may ask for an acknowledgement, or one itself."""
        if isinstance(packet, bytes):
            assert self.asked is not None, "bytes that no packet has announced"
            self.checked.take(packet)
            asked, self.asked = self.asked, None
        else:
            found = EVENT.fullmatch(packet)
            assert found is not None, f"an odd packet: {packet[:80]!r}"
            kind, asked, data = found.groups()
            if kind == "0":
                self.isJoined = True
                return
            if kind == "3":
                self.acknowledged += 1
                return
            assert self.isJoined, f"before CONNECT: {packet[:40]!r}"
            if kind == "51-":
                self.asked = asked
                return
            self.checked.take(json.loads(data)[1])
        if asked:
            self.queue.append(f"43{asked}[]")

    isJoined = False
    acknowledged = 0
    # The id of an event whose attachment is to come.
    asked: str | None = None

    def moves(self) -> Activity:
        """Upgrade, perhaps after some attempts that come to nothing, or perhaps only those."""
        plan = self.plan
        self.isUpgrading = self.isUpgrading or plan.failures > 0
        yield from self.after(plan.upgradeAfter)
        for number in range(plan.failures):
            yield from self.breakOff((plan.serial + number) % 5, ("fin", "rst")[(plan.serial + number) % 2])
        if plan.way == "upgrade" and not self.isOver:
            yield from self.upgrade()
        self.isUpgrading = False

    def breakOff(self, phase: int, how: str) -> Activity:
        """Cut an attempt to upgrade, on which the session goes on polling."""
        connection = Connection(self.load, self)
        request = self.upgradeRequest() + makeFrame("2probe") * (phase > 1)
        connection.send(request[: self.plan.serial % len(request)] if phase == 0 else request)
        if phase > 2:
            try:
                yield from connection.response()
                if phase == 3:
                    yield from connection.frame()
                else:
                    connection.send(makeFrame("4too early"))
                    while (yield from connection.frame()).opcode != CLOSE:
                        pass
            except LostError:
                pass
        connection.close(how == "rst")
        # The server is to know of it, as it would close another one that comes meanwhile.
        yield from self.after(0.5)

    def upgrade(self) -> Activity:
        plan = self.plan
        connection = Connection(self.load, self)
        request = self.upgradeRequest()
        if plan.end == "vanish in an opening":
            connection.send(request[: plan.serial % len(request)])
            yield from self.after(0.02)
            raise VanishedError
        connection.send(request)
        if plan.end == "vanish opened":
            yield from self.after(plan.serial % 3 * 0.01)
            raise VanishedError
        try:
            status, body = yield from connection.response()
            if status != 101:
                self.upgradeRefused(status, body)
            connection.send(makeFrame("2probe"))
            if plan.end == "vanish probing":
                yield from self.after(plan.serial % 3 * 0.01)
                raise VanishedError
            answer = yield from connection.frame()
            assert answer.text == "3probe", f"the probe was answered {answer!r}"
        except (LostError, AssertionError):
            # The session has ended meanwhile, as was planned, and the client hears of that by its poll.
            if self.mayEnd:
                return
            # Or the server doesn't know yet that another attempt was broken off.
            if not plan.failures:
                raise
            connection.close()
            yield from self.after(0.5)
            yield from self.upgrade()
            return
        if plan.end == "vanish probed":
            yield from self.after(plan.serial % 3 * 0.01)
            raise VanishedError
        self.isPausing = True
        while self.isPolling or self.isPosting:
            yield
        if self.isOver:
            return
        connection.send(makeFrame("5"))
        self.load.upgraded += 1
        self.webSocket = connection
        self.isPausing = False
        self.activities.append(self.listen())

    def upgradeRefused(self, status: int, body: bytes) -> None:
        raise AssertionError(f"{status} {body!r}")

    def leave(self) -> Activity:
        """Wait until the session is over, by whoever is to end it."""
        plan = self.plan
        if plan.end.startswith("vanish"):
            # The moment in which it was to doesn't come, as it moves or says all before.
            while self.said < plan.fromClient or self.queue or self.isPosting or self.isUpgrading:
                yield
            raise VanishedError
        if plan.end in ("client", "client early"):
            while self.said < plan.fromClient or self.isUpgrading:
                yield
            if plan.end == "client":
                while self.queue or self.isPosting or self.checked.count < plan.fromServer:
                    yield
                yield from self.after(plan.linger)
            self.isLeaving = True
            self.queue.append("1")
            # Something may have come into the queue behind it, which nobody sends any more.
            while not self.isOver and (self.queue or self.isPosting or self.webSocket is not None):
                yield
            self.isOver = True
        while not self.isOver:
            yield
        # What a connection still holds would be one message too many.
        while self.isPolling:
            yield


class Load:
    """
    All sessions, and what runs them.

    @cvar sessionType: what a session is.
    @cvar hasAll: whether it has the sessions too that clients of the package may have, L{.clients}.
    """

    sessionType: type[Session] = Session
    hasAll = False

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.seed = port, seed
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        # Those of clients that fell silent.
        self.silent: set[Connection] = set()
        self.timers: list[tuple[float, int, Any]] = []
        self.timerCount = 0
        self.now = time.monotonic()
        self.live = self.mostLive = self.opening = self.opened = self.upgraded = self.pings = 0
        self.said = self.received = self.problemCount = self.begun = 0
        # Clients whose sessions were broken off: they come back.
        self.again = 0
        self.longest = 0.0
        self.ends: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.problems: list[str] = []

    def later(self, seconds: float, call: Any) -> None:
        self.timerCount += 1
        heapq.heappush(self.timers, (self.now + seconds, self.timerCount, call))

    def begin(self, serial: int) -> None:
        self.live += 1
        self.opening += 1
        self.mostLive = max(self.mostLive, self.live)
        self.sessionType(self, serial).run()

    def finished(self, session: Session, problem: str) -> None:
        plan = session.plan
        self.live -= 1
        self.opening -= not session.isOpen
        self.said += session.said
        self.received += session.checked.count
        self.ends[plan.end if not plan.end.startswith("vanish") else f"{plan.end}: {plan.how}"] += 1
        self.ways[f"{plan.way}, revision {plan.revision}"] += 1
        for each in filter(None, (problem, session.checked.problem)):
            self.problemCount += 1
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(f"client of session {plan.serial} ({plan.way}, {plan.end}): {each}")

    def turn(self) -> None:
        """Let happen what there is."""
        wait = 0.005 if not self.timers else min(max(self.timers[0][0] - time.monotonic(), 0.0), 0.005)
        happened = self.epoll.poll(wait)
        was, self.now = self.now, time.monotonic()
        self.longest = max(self.longest, self.now - was)
        sessions = {}
        for number, events in happened:
            connection = self.connections.get(number)
            if connection is not None:
                connection.happened(events)
                sessions[connection.session] = None
        for each in sessions:
            each.run()
        while self.timers and self.timers[0][0] <= self.now:
            heapq.heappop(self.timers)[2]()

    def soak(self, first: int, seconds: float, rate: float) -> dict[str, Any]:
        began = self.now = time.monotonic()
        serial, told = first, began
        while self.now - began < seconds:
            while (serial - first) < (self.now - began) * rate + self.again and self.opening < MOST_OPENING:
                if self.hasAll or not planOf(self.seed, serial).isOurs:
                    self.begin(serial)
                    self.begun += 1
                serial += 1
            self.turn()
            if self.now - told > 30:
                told = self.now
                print(f"{serial - first} sessions, {self.live} now, {self.problemCount} problems", file=sys.stderr)
        took = self.now - began
        while self.live or self.connections or self.silent:
            self.turn()
        return {
            "sessions": self.begun,
            "next": serial,
            "seconds": took,
            "opened": self.opened,
            "upgraded": self.upgraded,
            "mostLive": self.mostLive,
            "pings": self.pings,
            "longest": self.longest,
            "sent": self.said,
            "received": self.received,
            "ends": self.ends,
            "ways": self.ways,
            "problemCount": self.problemCount,
            "problems": self.problems,
        }


if __name__ == "__main__":
    port, seed, first, seconds, rate = sys.argv[1:]
    print(json.dumps(Load(int(port), int(seed)).soak(int(first), float(seconds), float(rate))))
