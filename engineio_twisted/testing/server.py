"""
A server and its clients in memory, for the tests of an application: no socket, no waiting.

L{MemoryServer} serves an application as any server does, on a clock; L{MemoryClient} is a whole client of it, which
polls, upgrades and answers pings by itself. Between the two are bytes, that may be late, in pieces or lost.
docs/testing.md has examples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self, Unpack, cast
from urllib.parse import quote, urlencode

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.pages import notFound

from ..clock import cancel
from ..protocol.errors import DecodeError, EngineIOError, OptionError
from ..protocol.options import OptionKeywords
from ..protocol.packet import PROBE, Packet, PacketType
from ..protocol.payload import codecFor
from ..server import Server
from ..session.socket import Socket
from ..session.states import ReadyState
from ..web.fast import siteFor
from .client import ClientWebSocket, Owner, ProtocolViolation, Requests, Response
from .network import MemoryConnection, MemoryNetwork, Receiver


class HandshakeRefused(EngineIOError):
    """
    A client was refused.

    @ivar status: the HTTP status; 0 where there was none, as the connection was lost.
    @ivar message: what the answer says.
    @ivar code: the protocol's code, an L{ErrorCode}; None where the answer has none, as to a WebSocket.
    @ivar response: the answer, a L{Response}; None where there was none.
    """

    def __init__(self, status: int, message: str, code: int | None = None, response: Response | None = None) -> None:
        super().__init__(f"{status} {message}" if code is None else f"{status} {message} (code {code})")
        self.status, self.message, self.code, self.response = status, message, code, response


@attrs.frozen
class End:
    """
    How a session ended, as its client sees it.

    @ivar reason: C{forced close} where the client closed it; C{transport close}, C{transport error}, C{ping timeout}.
    @ivar description: what happened.
    @ivar code: of the server's close frame, where there was one.
    """

    reason: str
    description: str
    code: int | None = None


class MemoryClient:
    """
    A client, made by L{MemoryServer.connect}, that does by itself what clients do: it polls, upgrades, answers pings.

    It is strict: what the server may not send raises L{ProtocolViolation}, in the test.

    @ivar handshake: what the server said in its open packet: C{sid}, C{upgrades}, C{pingInterval} and so on.
    @ivar protocol: the revision of the protocol it speaks.
    @ivar transport: the name of the transport it is on.
    @ivar readyState: a L{ReadyState}.
    @ivar closed: an L{End}, how its session ended; None as long as it lasts.
    @ivar refused: a L{HandshakeRefused}, where it was.
    @ivar upgradeFailed: why an upgrade came to nothing; None where it didn't, or there was none.
    @ivar packets: all packets that came, each a L{Packet}.
    @ivar answersPings: whether it does; one that doesn't is taken for lost, in time.
    """

    def __init__(
        self,
        server: MemoryServer,
        transport: str,
        isUpgrading: bool,
        protocol: int,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        path: str,
        isJSONP: bool,
        address: str,
        answersPings: bool,
    ) -> None:
        self._server = server
        self._network = server._network
        self._settle = server.settle
        self.transport = transport
        self._isUpgrading = isUpgrading
        self.protocol = protocol
        self._codec = codecFor(protocol)
        self._headers = list(headers.items())
        self._query = {"EIO": str(protocol), "transport": transport, **({"j": "0"} if isJSONP else {}), **query}
        self._path = path
        self._isJSONP = isJSONP
        self._address = address
        self.answersPings = answersPings
        self.handshake: dict[str, Any] = {}
        self.readyState = ReadyState.OPENING
        self.closed: End | None = None
        self.refused: HandshakeRefused | None = None
        self.upgradeFailed: str | None = None
        self.packets: list[Packet] = []
        self._messages: list[str | bytes] = []
        self._taken = 0
        self._outbox: list[Packet] = []
        self._poll = Requests(self._connect)
        self._post = Requests(self._connect)
        self._webSocket: ClientWebSocket | None = None
        self._candidate: ClientWebSocket | None = None
        self._owner = Owner(self._webSocketOpened, self._webSocketRefused, self._webSocketReceived, self._webSocketOver)
        self._isPausing = False
        self._heartbeat: IDelayedCall | None = None
        self._awaitsPong = False
        self._connections: list[MemoryConnection] = []
        self._delay = 0.0
        self._pieceSize: int | None = None
        self._isHeld = False
        self._isVanished = False

    def __repr__(self) -> str:
        ended = "" if self.closed is None else f", {self.closed.reason}: {self.closed.description}"
        return f"<MemoryClient {self.sid} on {self.transport}, {self.readyState}{ended}>"

    # What a test does

    @property
    def sid(self) -> str | None:
        """The id of the session; None as long as there is none."""
        return self.handshake.get("sid")

    @property
    def socket(self) -> Socket:
        """
        The server's end of the session, which is kept when it has ended.

        @raise AssertionError: there was never one.
        """
        socket = self._server._sockets.get(self.sid or "")
        assert socket is not None, f"no session was opened for {self!r}"
        return socket

    def send(self, data: str | bytes) -> None:
        """
        Send a message. When this returns, the application's handler was called, unless something is late on its way.

        @param data: text, or bytes.
        @raise AssertionError: the session isn't open.
        """
        self._settle()
        if self.readyState is not ReadyState.OPEN:
            raise AssertionError(f"{data!r:.100} can't be sent: {self!r}")
        self._send(Packet(PacketType.MESSAGE, data))
        self._settle()

    @property
    def received(self) -> list[str | bytes]:
        """All messages that came, in order."""
        self._settle()
        return list(self._messages)

    @property
    def unread(self) -> list[str | bytes]:
        """Those that L{receive} hasn't returned yet."""
        return self.received[self._taken :]

    def receive(self) -> str | bytes:
        """
        Return the next message, that this hasn't returned before.

        @raise AssertionError: none has come.
        """
        unread = self.unread
        if not unread:
            failed = "".join(f"; the application failed: {each!r}" for each in self._server.errors)
            before = f"all {len(self._messages)} were read" if self._messages else "none came"
            raise AssertionError(f"no message to receive, {before}: {self!r}{failed}")
        self._taken += 1
        return unread[0]

    def receiveAll(self) -> list[str | bytes]:
        """Return all messages that L{receive} hasn't returned yet; it won't any more."""
        unread = self.unread
        self._taken += len(unread)
        return unread

    def upgrade(self) -> None:
        """
        Move from polling to WebSocket, as L{MemoryServer.connect} does unless told not to.

        Look at C{transport} then, and at C{upgradeFailed}.

        @raise AssertionError: the session isn't open, or isn't on polling, or is upgrading already.
        """
        self._settle()
        if self.readyState is not ReadyState.OPEN or self.transport != "polling" or self._candidate is not None:
            raise AssertionError(f"no session on polling that could upgrade: {self!r}")
        self._beginUpgrade()
        self._settle()

    def close(self) -> None:
        """End the session as clients do: what was sent goes out first. Once it is over, this does nothing."""
        self._settle()
        if self.readyState is ReadyState.OPENING:
            self._ended("forced close", "closed by the client")
        elif self.readyState is ReadyState.OPEN:
            self._abandonUpgrade("the session was closed")
            self.readyState = ReadyState.CLOSING
            if self._webSocket is None:
                self._send(Packet(PacketType.CLOSE))
            else:
                self._webSocket.close()
        self._settle()

    def drop(self, connection: str | None = None) -> None:
        """
        Lose connections, without a word; the server learns that they are lost, but not why.

        On polling that ends the session where a request waits for its answer; else the next one connects again.

        @param connection: which one: C{poll} (of the GET that waits), C{post}, or C{websocket}, which may be one that
            is to take the session over. By default all.
        @raise AssertionError: there is no such connection.
        """
        self._settle()
        if connection is None:
            self._ended("transport error", "connection lost", isAbrupt=True)
        elif connection == "websocket" and self._candidate is not None:
            self._abandonUpgrade("connection lost")
        else:
            held = {"poll": self._poll, "post": self._post, "websocket": self._webSocket}.get(connection)
            if held is None or held.connection is None:
                raise AssertionError(f"no connection {connection!r} to drop: {self!r}")
            held.connection.lose()
            if isinstance(held, Requests) and not held.isWaiting:
                held.forget()
            else:
                self._ended("transport error", "connection lost")
        self._settle()

    def vanish(self) -> None:
        """
        Be gone, as when a cable is pulled: nothing arrives any more, in either direction, and the server isn't told.

        It finds out by itself: for the application the session goes on until then.
        """
        self._settle()
        self._isVanished = True
        cancel(self._heartbeat)
        for each in self._connections:
            each.vanish()

    def delay(self, seconds: float) -> None:
        """Have what is sent from now on, in both directions, take so long; L{MemoryServer.advance} lets it arrive."""
        self._settle()
        self._delay = seconds
        self._apply()

    def split(self, size: int | None) -> None:
        """
        Have what is sent from now on, in both directions, arrive in pieces.

        @param size: the bytes of a piece, at least 1; None for pieces as they are written.
        """
        if size is not None and size < 1:
            raise ValueError(f"pieces of {size} bytes: expected at least 1, or None")
        self._settle()
        self._pieceSize = size
        self._apply()

    def pauseReading(self) -> None:
        """Read nothing any more: what the server sends piles up, until it waits. What this client sends arrives."""
        self._settle()
        self._isHeld = True
        self._apply()

    def resumeReading(self) -> None:
        """Read again, what has come meanwhile first."""
        self._isHeld = False
        self._apply()
        self._settle()

    def _apply(self) -> None:
        for each in self._connections:
            self._arrange(each)

    def _arrange(self, connection: MemoryConnection) -> None:
        for way in (connection.toServer, connection.toClient):
            way.delay, way.pieceSize = self._delay, self._pieceSize
        connection.toClient.isHeld = self._isHeld
        if self._isVanished:
            connection.vanish()
        self._network.wake(connection)

    # Connections

    def _connect(self, receiver: Receiver) -> MemoryConnection:
        self._connections = [each for each in self._connections if not each.isOver]
        connection = self._network.connect(receiver, self._address)
        self._connections.append(connection)
        self._arrange(connection)
        return connection

    def _target(self, **changes: str) -> str:
        query = {**self._query, **changes}
        if self.sid is not None:
            query["sid"] = self.sid
        return f"{self._path}?{urlencode(query, quote_via=quote)}"

    def _begin(self) -> None:
        if self.transport == "websocket":
            self._webSocket = ClientWebSocket(self._owner, self._connect, self._target(), self._headers)
        else:
            self._pollAgain()

    # Polling

    def _pollAgain(self) -> None:
        self._poll.ask("GET", self._target(), self._headers, b"", self._polled, self._pollLost)

    def _pollLost(self) -> None:
        self._failed("the connection of a GET was lost")

    def _polled(self, response: Response) -> None:
        if response.status != 200:
            self._notAnswered("GET", response)
            return
        for packet in self._packetsIn(response):
            self._received(packet)
        self._afterPolling()

    def _afterPolling(self) -> None:
        if self._isPausing:
            self._completeUpgrade()
        elif self.readyState is ReadyState.OPEN and self._webSocket is None and not self._poll.isWaiting:
            self._pollAgain()

    def _packetsIn(self, response: Response) -> list[Packet]:
        payload: str | bytes = response.body
        types = response.headers.getRawHeaders(b"content-type", [b""])
        try:
            if self._isJSONP:
                script = re.fullmatch(r"___eio\[0\]\((.*)\);", response.text, re.DOTALL)
                if script is None:
                    raise ProtocolViolation(f"the script {response.body[:64]!r}: expected a call of ___eio[0]")
                payload = json.loads(script[1])
            elif types != [b"application/octet-stream"]:
                payload = response.text
            return list(self._codec.decodePayload(payload))
        except (DecodeError, UnicodeDecodeError) as error:
            raise ProtocolViolation(f"the payload {payload[:64]!r}: {error}") from None

    def _postPackets(self) -> None:
        packets = self._takeOutbox()
        payload = self._codec.encodePayload(packets)
        headers = list(self._headers)
        if self._isJSONP:
            assert isinstance(payload, str)
            # A newline would be changed on its way through a form.
            body = urlencode({"d": payload.replace("\\n", "\\\\n").replace("\n", "\\n")}).encode()
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        elif isinstance(payload, bytes):
            body = payload
            headers.append(("Content-Type", "application/octet-stream"))
        else:
            body = payload.encode()
            headers.append(("Content-Type", "text/plain;charset=UTF-8"))
        self._post.ask("POST", self._target(), headers, body, self._posted, self._postLost)

    def _takeOutbox(self) -> list[Packet]:
        """Take out of the outbox what one POST may carry, and one packet at least."""
        left = self.handshake["maxPayload"]
        count = 0
        for packet in self._outbox:
            payload = self._codec.encodePayload([packet])
            # And what separates it from the next.
            left -= len(payload.encode() if isinstance(payload, str) else payload) + 1
            if left < 0 and count:
                break
            count += 1
        taken, self._outbox = self._outbox[:count], self._outbox[count:]
        return taken

    def _postLost(self) -> None:
        self._failed("the connection of a POST was lost")

    def _posted(self, response: Response) -> None:
        if response.status != 200:
            self._notAnswered("POST", response)
        elif response.body != b"ok":
            raise ProtocolViolation(f"a POST was answered {response.body[:64]!r}: expected ok")
        elif self.readyState is ReadyState.CLOSING and not self._outbox:
            self._ended("forced close", "closed by the client")
        elif self._isPausing:
            self._completeUpgrade()
        else:
            self._flush()

    def _notAnswered(self, method: str, response: Response) -> None:
        if self.readyState is ReadyState.OPENING:
            self._isRefused(response)
        else:
            self._failed(f"a {method} was answered {response.status} {response.text}")

    def _isRefused(self, response: Response) -> None:
        code, message = None, response.text
        if response.headers.getRawHeaders(b"content-type") == [b"application/json"]:
            answer = json.loads(message)
            code, message = answer.get("code"), answer["message"]
        self.refused = HandshakeRefused(response.status, message, code, response)
        self._ended("transport error", str(self.refused))

    # WebSocket

    def _webSocketOpened(self, webSocket: ClientWebSocket) -> None:
        if webSocket is self._candidate:
            # By then a GET waits, as it mostly does: without one the server would take a tenth of a second more.
            self._network.whenQuiet(lambda: webSocket.send(f"{PacketType.PING:d}{PROBE}"))

    def _webSocketRefused(self, webSocket: ClientWebSocket, response: Response) -> None:
        webSocket.connection.finish()
        if webSocket is self._candidate:
            self._abandonUpgrade(f"{response.status} {response.text}")
        else:
            self._isRefused(response)

    def _webSocketReceived(self, webSocket: ClientWebSocket, data: str | bytes) -> None:
        try:
            packet = self._codec.decodePacket(data)
        except DecodeError as error:
            raise ProtocolViolation(f"the message {data[:64]!r}: {error}") from None
        if webSocket is self._webSocket:
            self._received(packet)
        elif webSocket is self._candidate:
            if (packet.type, packet.data) != (PacketType.PONG, PROBE):
                raise ProtocolViolation(f"{packet} on a WebSocket that is to take over: expected a pong, probe")
            self.packets.append(packet)
            # Two may not be read at once: what polling still brings comes first.
            self._isPausing = True
            self._completeUpgrade()

    def _webSocketOver(self, webSocket: ClientWebSocket, description: str) -> None:
        if webSocket is self._candidate:
            self._abandonUpgrade(description)
        elif webSocket is self._webSocket:
            if self.readyState is ReadyState.CLOSING:
                self._ended("forced close", "closed by the client", webSocket.code)
            elif self.readyState is ReadyState.OPENING:
                self._failed(description)
            else:
                self._ended("transport close", description, webSocket.code)

    # Upgrade

    def _beginUpgrade(self) -> None:
        self._candidate = ClientWebSocket(
            self._owner, self._connect, self._target(transport="websocket"), self._headers
        )

    def _completeUpgrade(self) -> None:
        if self._poll.isWaiting or self._post.isWaiting or self._candidate is None:
            return
        self._webSocket, self._candidate = self._candidate, None
        self._isPausing = False
        self.transport = "websocket"
        self._poll.drop()
        self._post.drop()
        self._webSocket.send(f"{PacketType.UPGRADE:d}")
        self._flush()

    def _abandonUpgrade(self, reason: str) -> None:
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            self.upgradeFailed = reason
            candidate.connection.lose()
            self._isPausing = False
            self._afterPolling()
            self._flush()

    # Packets

    def _received(self, packet: Packet) -> None:
        if self.readyState is ReadyState.CLOSED:
            raise ProtocolViolation(f"{packet} behind the end: {self!r}")
        self.packets.append(packet)
        if self.readyState is ReadyState.OPENING:
            self._receivedFirst(packet)
            return
        match packet.type:
            case PacketType.MESSAGE:
                self._messages.append(packet.data)
            case PacketType.PING if self.protocol == 4:
                self._waitForPing()
                if self.answersPings:
                    self._send(Packet(PacketType.PONG, packet.data))
            case PacketType.PONG if self.protocol == 3 and self._awaitsPong:
                self._awaitsPong = False
                self._setHeartbeat(self.handshake["pingInterval"], self._ping)
            case PacketType.CLOSE:
                self._ended("transport close", "close packet")
            case PacketType.NOOP if self._webSocket is None:
                pass
            case _:
                raise ProtocolViolation(f"{packet}, which no server may send now: {self!r}")

    def _receivedFirst(self, packet: Packet) -> None:
        opening = json.loads(packet.data) if packet.type is PacketType.OPEN else {}
        if not {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"} <= set(opening):
            raise ProtocolViolation(f"{packet} first: expected an open packet, and all that belongs to it")
        self.handshake = opening
        self.readyState = ReadyState.OPEN
        if self.protocol == 4:
            self._waitForPing()
        else:
            self._setHeartbeat(opening["pingInterval"], self._ping)
        if self._isUpgrading and self._webSocket is None and "websocket" in opening["upgrades"]:
            self._beginUpgrade()

    def _send(self, packet: Packet) -> None:
        self._outbox.append(packet)
        self._flush()

    def _flush(self) -> None:
        if self.readyState is ReadyState.OPENING or self._isPausing:
            return
        if self._webSocket is not None:
            packets, self._outbox = self._outbox, []
            for packet in packets:
                self._webSocket.send(self._codec.encodePacket(packet))
        elif self._outbox and not self._post.isWaiting:
            self._postPackets()

    # Heartbeat

    def _setHeartbeat(self, milliseconds: int, what: Callable[[], object]) -> None:
        cancel(self._heartbeat)
        if not self._isVanished:
            self._heartbeat = self._network.clock.callLater(milliseconds / 1000, what)

    def _waitForPing(self) -> None:
        self._setHeartbeat(self.handshake["pingInterval"] + self.handshake["pingTimeout"], self._noHeartbeat)

    def _ping(self) -> None:
        if self.answersPings:
            self._awaitsPong = True
            self._send(Packet(PacketType.PING))
            self._setHeartbeat(self.handshake["pingTimeout"], self._noHeartbeat)

    def _noHeartbeat(self) -> None:
        self._ended("ping timeout", "no ping of the server" if self.protocol == 4 else "no pong of the server")

    # The end

    def _failed(self, description: str) -> None:
        if self.readyState is ReadyState.OPENING:
            self.refused = HandshakeRefused(0, description)
        self._ended("transport error", description)

    def _ended(self, reason: str, description: str, code: int | None = None, isAbrupt: bool = False) -> None:
        if self.readyState is ReadyState.CLOSED:
            return
        self.readyState = ReadyState.CLOSED
        self.closed = End(reason, description, code)
        self._outbox.clear()
        cancel(self._heartbeat)
        self._abandonUpgrade("the session has ended")
        if isAbrupt:
            for each in self._connections:
                each.lose()
        self._poll.drop()
        self._post.drop()
        if self._webSocket is not None and code is None:
            self._webSocket.connection.lose()


class MemoryServer:
    """
    A server of an application in memory, on a clock, for tests; and, as a context manager, closed behind them.

    Nothing waits: when a call returns, all has happened that does without time passing. L{advance} lets it pass.

    @param application: what C{twistd engineio --app} takes: called with the L{Server}; a coroutine function too. Or a
        L{Server}, made with a C{Clock} as its reactor.
    @param site: the site on which the server is to be reached, ours or any other, made with the same clock as its
        reactor; a C{Server} has to be attached to it. By default one that has nothing else.
    @param leavesTimers: whether the application may have timers of its own on the clock in the end.
    @param options: options of the server, as in L{ServerOptions}, where it isn't one that is there.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the server, or the site, has another reactor than a clock.
    @ivar clock: a L{twisted.internet.task.Clock}, the reactor of the server.
    @ivar server: the L{Server}.
    @ivar clients: the L{MemoryClient}s that were connected, in this order.
    @ivar errors: what handlers and others called by the server raised, and anything else that was logged with its
        failure. L{close} raises unless this is empty: a test that expects some takes them out.
    """

    # The one for which something happens just now: what is logged is of its application.
    _present: ClassVar[MemoryServer | None] = None

    def __init__(
        self,
        application: Callable[[Server], object] | Server,
        *,
        site: Any = None,
        leavesTimers: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> None:
        self._leavesTimers = leavesTimers
        self.errors: list[BaseException] = []
        self._failures: list[Failure] = []
        self.clients: list[MemoryClient] = []
        self._sockets: dict[str, Socket] = {}
        self._isClosed = False
        if isinstance(application, Server):
            if options:
                raise OptionError("options", options, "expected none beside a server, which has its own")
            self.server = application
            if not isinstance(self.server.reactor, Clock):
                raise ValueError(f"a server on {self.server.reactor!r}: expected one made with reactor=Clock()")
        else:
            self.server = Server(reactor=site.reactor if site is not None else Clock(), **options)
        self.clock: Clock = self.server.reactor
        if site is None:
            site = siteFor(notFound(), self.clock)
            self.server.attach(site)
        elif site.reactor is not self.clock:
            raise ValueError(f"a site on {site.reactor!r}: expected the clock of the server, as reactor=")
        elif not isinstance(application, Server):
            self.server.attach(site)
        self._network = MemoryNetwork(self.clock, site)
        self.server.on("connection", self._opened)
        self._observer = cast("Any", self._logged)
        globalLogPublisher.addObserver(self._observer)
        try:
            result = None if isinstance(application, Server) else application(self.server)
            if isinstance(result, Awaitable):
                Deferred.fromCoroutine(_awaited(result)).addErrback(self._failed)
            self.settle()
        except BaseException:
            globalLogPublisher.removeObserver(self._observer)
            raise

    def _opened(self, socket: Socket) -> None:
        self._sockets[socket.id] = socket

    def _logged(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and MemoryServer._present in (None, self):
            self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        self._failures.append(failure)
        self.errors.append(error)

    # What a test does

    def connect(
        self,
        transport: str = "polling",
        upgrade: bool = True,
        *,
        protocol: int = 4,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        path: str | None = None,
        jsonp: bool = False,
        address: str = "127.0.0.1",
        answersPings: bool = True,
        delay: float = 0,
        split: int | None = None,
        wait: bool = True,
    ) -> MemoryClient:
        """
        Connect a client. When this returns, its session is open, handlers of the application were called, and it has
        upgraded where it does.

        @param transport: C{polling} or C{websocket}.
        @param upgrade: whether it moves from polling to WebSocket, where the server lets it.
        @param protocol: the revision of the protocol, 4 or 3.
        @param headers: of all its requests.
        @param query: parameters of the address, besides the protocol's own or in their place.
        @param path: the path; by default that of the server's options.
        @param jsonp: whether it polls by scripts, as in old browsers.
        @param address: its IP address.
        @param answersPings: whether it answers pings, or, in revision 3, sends them.
        @param delay: as of L{MemoryClient.delay}; needs C{wait=False}.
        @param split: as of L{MemoryClient.split}.
        @param wait: False returns it in any case. Look at its C{readyState} and C{refused}, and L{advance}.
        @raise HandshakeRefused: it was refused.
        @raise AssertionError: it wasn't answered, as the application takes its time.
        @raise ValueError: an argument isn't one of those above.
        """
        if transport not in ("polling", "websocket"):
            raise ValueError(f"transport {transport!r}: expected polling or websocket")
        if protocol not in (3, 4):
            raise ValueError(f"protocol {protocol!r}: expected 4 or 3")
        if jsonp and transport != "polling":
            raise ValueError(f"jsonp on {transport}: expected polling")
        client = MemoryClient(
            self,
            transport,
            upgrade,
            protocol,
            headers or {},
            query or {},
            self.server.opts.path.rstrip("/") + "/" if path is None else path,
            jsonp,
            address,
            answersPings,
        )
        self.clients.append(client)
        client.split(split)
        client.delay(delay)
        client._begin()
        self.settle()
        if wait:
            if client.refused is not None:
                raise client.refused
            if client.readyState is ReadyState.OPENING:
                client.drop()
                raise AssertionError(
                    "the client wasn't answered yet; to let time pass, connect(wait=False) and advance()"
                )
        return client

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """
        Send a request, and return the answer: for what is no session, such as what else the site has.

        @param target: path and query.
        @raise AssertionError: it wasn't answered, as it waits for something.
        """
        answers: list[Response] = []
        requests = Requests(lambda receiver: self._network.connect(receiver, "127.0.0.1"))
        requests.ask(method, target, list((headers or {}).items()), body, answers.append, lambda: None)
        self.settle()
        requests.drop()
        self.settle()
        if not answers:
            raise AssertionError(f"{method} {target} wasn't answered")
        return answers[0]

    def advance(self, seconds: float) -> None:
        """
        Let time pass: timers run, pings are sent and answered, and what is late arrives, each at its time.

        @raise ValueError: the time is negative.
        """
        self._while(lambda: self._network.advance(seconds))

    def settle(self) -> None:
        """Let happen what does without time passing: after something was done to a socket of the server's directly."""
        self._while(self._network.settle)

    def _while(self, what: Callable[[], object]) -> None:
        before, MemoryServer._present = MemoryServer._present, self
        try:
            what()
        finally:
            MemoryServer._present = before

    # The end

    def close(self) -> None:
        """
        Close the server, with the sessions that are left, and make sure that nothing else is. Again, it does nothing.

        @raise AssertionError: the application failed; or there is a session, a connection or a timer left.
        """
        if not self._isClosed:
            left = self._close()
            failed = [each.getTraceback() for each in self._failures if each.value in self.errors]
            failed += [repr(each) for each in self.errors if each not in [failure.value for failure in self._failures]]
            if failed:
                raise AssertionError("the application failed:\n" + "\n".join(failed)) from self.errors[0]
            assert not left, "; ".join(left)

    def _close(self) -> list[str]:
        self._isClosed = True
        try:
            self.settle()
            for client in self.clients:
                if not client._isVanished:
                    client.delay(0)
                    client.resumeReading()
            closing = self.server.close()
            self.settle()
            # Clients that say nothing any more are cut off. No time passes: timers that are left would run.
            for client in self.clients:
                client.drop()
            for connection in list(self._network.connections):
                connection.lose()
            self.settle()
        finally:
            globalLogPublisher.removeObserver(self._observer)
        left = [] if closing.called else ["the server doesn't close"]
        left += [f"the session of {each!r} is left" for each in self.server.clients.values()]
        left += [f"{each!r} is left" for each in self._network.connections]
        if not self._leavesTimers:
            left += [f"a timer is left: {each}" for each in self.clock.getDelayedCalls()]
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._isClosed:
            # What failed first is what matters.
            self._close()
            for failure in self._failures:
                error.add_note(f"the application failed:\n{failure.getTraceback()}")


async def _awaited(what: Awaitable[object]) -> None:
    await what
