"""A client in memory, which polls, upgrades and answers pings by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from twisted.internet.interfaces import IDelayedCall

from ..clock import cancel
from ..protocol.errors import DecodeError
from ..protocol.packet import PROBE, Packet, PacketType
from ..protocol.payload import codecFor
from ..session.outbox import Message, messageOf
from ..session.socket import Socket
from ..session.states import ReadyState
from .network import Line
from .payloads import PollingFormat
from .requests import HandshakeRefused, ProtocolViolation, Requests, Response
from .serving import End, Serving
from .websocket import ClientWebSocket, Owner


class ClientListener(Protocol):
    """What hears of a client's session as it happens: the argument C{listener} of L{MemoryServer.connect}."""

    def opened(self, client: MemoryClient) -> None:
        """Called when the session is open, before the client upgrades."""
        ...

    def received(self, client: MemoryClient, data: str | bytes) -> None:
        """Called with each message that comes."""
        ...

    def ended(self, client: MemoryClient, end: End) -> None:
        """Called when the session has ended, or was refused."""
        ...


class MemoryClient:
    """
    A client, made by L{MemoryServer.connect}, that does by itself what clients do: it polls, upgrades, answers pings.

    It is strict: what the server may not send raises L{ProtocolViolation}, in the test.

    @ivar handshake: what the server said in its open packet: C{sid}, C{upgrades}, C{pingInterval} and so on.
    @ivar protocol: the revision of the protocol it speaks.
    @ivar transport: the name of the transport it is on.
    @ivar readyState: a L{ReadyState}.
    @ivar closed: an L{End}, how its session ended; None as long as it lasts.
    @ivar refused: a L{HandshakeRefused}, if it was refused.
    @ivar upgradeFailed: why an upgrade came to nothing; None where it didn't, or there was none.
    @ivar packets: all packets that came, each a L{Packet}.
    @ivar answersPings: whether it does; one that doesn't is taken for lost, in time.
    """

    def __init__(
        self,
        server: Serving,
        transport: str,
        isUpgrading: bool,
        protocol: int,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        path: str,
        isJSONP: bool,
        address: str,
        answersPings: bool,
        listener: ClientListener | None,
    ) -> None:
        self._server = server
        self._listener = listener
        self._network = server._network
        self._settle = server.settle
        self.transport: str = transport
        self._isUpgrading = isUpgrading
        self.protocol = protocol
        self._codec = codecFor(protocol)
        self._headers = list(headers.items())
        self._query = {"EIO": str(protocol), "transport": transport, **({"j": "0"} if isJSONP else {}), **query}
        self._path = path
        self._format = PollingFormat(self._codec, isJSONP)
        self._line = Line(self._network, address)
        self.answersPings = answersPings
        self.handshake: dict[str, Any] = {}
        self.readyState: ReadyState = ReadyState.OPENING
        self.closed: End | None = None
        self.refused: HandshakeRefused | None = None
        self.upgradeFailed: str | None = None
        self.packets: list[Packet] = []
        self._messages: list[str | bytes] = []
        self._taken = 0
        self._outbox: list[Packet] = []
        self._poll = Requests(self._line.connect)
        self._post = Requests(self._line.connect)
        self._webSocket: ClientWebSocket | None = None
        self._candidate: ClientWebSocket | None = None
        self._owner = Owner(self._webSocketOpened, self._webSocketRefused, self._webSocketReceived, self._webSocketOver)
        self._isPausing = False
        self._heartbeat: IDelayedCall | None = None
        self._awaitsPong = False

    def __repr__(self) -> str:
        ended = "" if self.closed is None else f", {self.closed.reason}: {self.closed.description}"
        return f"<MemoryClient {self.sid} on {self.transport}, {self.readyState}{ended}>"

    # What a test does

    @property
    def at(self) -> int | Callable[[], int] | None:
        """
        The number of the worker that each new connection of the client reaches, or a function that returns one.

        It can be changed. None has the workers take turns; so does the number of one that is gone. Connections that are
        open stay where they are.
        """
        return self._line.at

    @at.setter
    def at(self, worker: int | Callable[[], int] | None) -> None:
        self._line.at = worker

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

    def send(self, data: Message) -> None:
        """
        Send a message. When this returns, the application's handler was called, unless something is late on its way.

        @param data: text, bytes or a number, as for L{Socket.send}.
        @raise TypeError: it is something else.
        @raise AssertionError: the session isn't open.
        """
        message, _ = messageOf(data)
        self._settle()
        if self.readyState is not ReadyState.OPEN:
            raise AssertionError(f"{data!r:.100} can't be sent: {self!r}")
        self._send(Packet(PacketType.MESSAGE, message))
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

        On polling that ends the session if a request waits for its response; otherwise the next one connects again.

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
        cancel(self._heartbeat)
        self._line.vanish()

    def delay(self, seconds: float) -> None:
        """Delay what is sent from now on, in both directions; L{MemoryServer.advance} lets it arrive."""
        self._settle()
        self._line.delay = seconds
        self._line.arrange()

    def split(self, size: int | None) -> None:
        """
        Split what is sent from now on, in both directions, into pieces.

        @param size: the bytes of a piece, at least 1; None for pieces as they are written.
        """
        if size is not None and size < 1:
            raise ValueError(f"pieces of {size} bytes: expected at least 1, or None")
        self._settle()
        self._line.pieceSize = size
        self._line.arrange()

    def pauseReading(self) -> None:
        """Read nothing any more: what the server sends piles up, until it waits. What this client sends arrives."""
        self._settle()
        self._line.isHeld = True
        self._line.arrange()

    def resumeReading(self) -> None:
        """Read again, what has come meanwhile first."""
        self._line.isHeld = False
        self._line.arrange()
        self._settle()

    # Connections

    def _target(self, **changes: str) -> str:
        query = {**self._query, **changes}
        if self.sid is not None:
            query["sid"] = self.sid
        return f"{self._path}?{urlencode(query, quote_via=quote)}"

    def _begin(self) -> None:
        if self.transport == "websocket":
            self._webSocket = ClientWebSocket(self._owner, self._line.connect, self._target(), self._headers)
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
        for packet in self._format.read(response):
            self._received(packet)
        self._afterPolling()

    def _afterPolling(self) -> None:
        if self._isPausing:
            self._completeUpgrade()
        elif self.readyState is ReadyState.OPEN and self._webSocket is None and not self._poll.isWaiting:
            self._pollAgain()

    def _postPackets(self) -> None:
        headers, body = self._format.write(self._takeOutbox())
        self._post.ask("POST", self._target(), [*self._headers, *headers], body, self._posted, self._postLost)

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
            self._owner, self._line.connect, self._target(transport="websocket"), self._headers
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
                if self._listener is not None:
                    self._listener.received(self, packet.data)
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
        if self._listener is not None:
            self._listener.opened(self)
        isOnPolling = self._webSocket is None and self.readyState is ReadyState.OPEN
        if self._isUpgrading and isOnPolling and "websocket" in opening["upgrades"]:
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
        if not self._line.isVanished:
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
            self._line.lose()
        self._poll.drop()
        self._post.drop()
        if self._webSocket is not None and code is None:
            self._webSocket.connection.lose()
        if self._listener is not None:
            self._listener.ended(self, self.closed)
