"""Polling from the client's end, in every state, over an agent that does what a test says."""

from __future__ import annotations

import gzip
import zlib
from http.cookiejar import CookieJar
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss

from engineio_twisted import ServerObserver
from engineio_twisted.client.polling import LAST_GET, PollingTransport
from engineio_twisted.ends import CLOSE_TIMEOUT
from engineio_twisted.interfaces import LEFT, Closing, ITransport
from engineio_twisted.protocol.errors import CloseReason, SessionClosing
from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.client_agents import FORCED, BrokenJar, Polling
from ..kit.client_servers import OPEN
from ..kit.engines import everyMessageTakesATurn
from ..kit.turns import turn


class TestOpening:
    """The first GET."""

    def test_isATransport(self) -> None:
        """It has what a session asks of a transport."""
        assert ITransport.implementedBy(PollingTransport)
        polling = Polling()
        for name in ITransport:
            assert hasattr(polling.transport, name), name

    def test_firstRequest(self) -> None:
        """It asks for a session, is the only one until it is answered, and the next has the id."""
        polling = Polling(query={"token": "a b"}, extraHeaders={"X-Mine": "1", "Host": "other.test"})
        polling.transport.open()
        [first] = polling.agent.requests
        assert first.url.startswith("http://server.test:3000/engine.io/?token=a%20b&")
        stamp = first.query.pop("t")
        assert first.query == {"token": "a b", "EIO": "4", "transport": "polling"}
        assert first.headers == {
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            "host": "other.test",
            "x-mine": "1",
        }
        assert not polling.transport.writable
        first.answer(OPEN)
        assert [each.type for each in polling.owner.packets] == [PacketType.OPEN]
        [_, second] = polling.agent.requests
        assert second.query.pop("t") != stamp
        assert second.query == {"token": "a b", "EIO": "4", "transport": "polling", "sid": "S"}
        assert polling.transport.writable

    @pytest.mark.parametrize(("given", "isThere"), [(True, True), (None, True), (False, False)])
    def test_timestamps(self, given: bool | None, isThere: bool) -> None:
        """Each request has another one, under the name that was given, unless that isn't wanted."""
        polling = Polling(timestampRequests=given, timestampParam="ts").opened()
        stamps = [each.query.get("ts") for each in polling.agent.requests]
        assert [each is not None for each in stamps] == [isThere, isThere]
        assert not isThere or stamps[0] != stamps[1]

    def test_moreParameters(self) -> None:
        """The first request may have parameters of its own, and no other has them."""
        polling = Polling()
        polling.transport.open(received="7")
        assert polling.get.query["received"] == "7"
        polling.get.answer(OPEN)
        assert "received" not in polling.get.query

    def test_whatComesWithTheOpenPacket(self) -> None:
        """It is delivered behind it, and then the next GET begins."""
        polling = Polling()
        polling.transport.open()
        polling.get.answer(OPEN + b"\x1e4hello")
        assert [each.type for each in polling.owner.packets] == [PacketType.OPEN, PacketType.MESSAGE]
        assert polling.isPolling

    @pytest.mark.parametrize(
        ("body", "kind", "type_", "description"),
        [
            (b"4hello", "text/plain", "handshake", "the first packet is message, 5 characters: expected the open"),
            (b"1", "text/plain", "handshake", "the first packet is close"),
            (b"<html>log in</html>", "text/html", "not engine.io", "text/html"),
            (b"<html>log in</html>", "text/plain", "not engine.io", "text/plain, b'<html>log in"),
            (b'{"ok":true}', "application/json", "not engine.io", "application/json"),
            (b"", "text/plain", "not engine.io", "isn't of Engine.IO"),
            (b"\xff\xfe", "text/plain", "not engine.io", "xff"),
        ],
    )
    def test_noSession(self, body: bytes, kind: str, type_: str, description: str) -> None:
        """What isn't an open packet is told by name, with the response if it isn't Engine.IO's."""
        polling = Polling()
        polling.transport.open()
        polling.get.answer(body, kind=kind)
        assert polling.failure.type == type_
        assert description in polling.failure.description
        assert polling.failure.transport == "polling"
        assert (polling.failure.response is not None) == (type_ == "not engine.io")
        assert len(polling.owner.closings) == 1
        assert polling.posts == []
        polling.assertGone()

    def test_closedBefore(self) -> None:
        """A transport that is closed before it is open gives its GET up; there is nobody to be told."""
        for closing in (FORCED, LEFT):
            polling = Polling()
            polling.transport.open()
            polling.transport.close(closing)
            assert polling.gets[0].isCancelled
            assert polling.posts == []
            polling.assertGone()


class TestSending:
    """The POSTs."""

    def test_oneAtATime(self) -> None:
        """It takes nothing more while a POST runs, and says when it does again."""
        polling = Polling().opened()
        polling.transport.sendMessage("hello", None, True)
        post = polling.post
        assert post.body == b"4hello"
        assert post.query["sid"] == "S"
        assert post.headers["content-type"] == "text/plain;charset=UTF-8"
        assert not polling.transport.writable
        assert polling.transport.bufferedAmount == 6
        assert polling.owner.readies == 0
        post.answer()
        assert polling.transport.writable
        assert polling.transport.bufferedAmount == 0
        assert polling.owner.readies == 1
        assert len(polling.gets) == 2

    def test_manyInOne(self) -> None:
        """Packets of any type, text and bytes, go in one payload."""
        polling = Polling().opened()
        packets = [
            Packet(PacketType.PONG),
            *(Packet(PacketType.MESSAGE, each) for each in ("é😀", b"\x00\xff", "", b"")),
        ]
        assert polling.transport.send(packets) == 5
        assert polling.post.body == "3\x1e4é😀\x1ebAP8=\x1e4\x1eb".encode()

    @pytest.mark.parametrize(
        ("limit", "messages", "body", "taken"),
        [
            (8, ["abc", "def"], b"4abc", 1),
            (9, ["abc", "def", "g"], b"4abc\x1e4def", 2),
            (11, ["abc", "def", "g"], b"4abc\x1e4def", 2),
            (12, ["abc", "def", "g"], b"4abc\x1e4def\x1e4g", 3),
            (5, ["é", "é"], "4é".encode(), 1),
            (7, ["é", "é"], "4é\x1e4é".encode(), 2),
            (10, [b"\x00\x00", b"\x00"], b"bAAA=", 1),
            (11, [b"\x00\x00", b"\x00"], b"bAAA=\x1ebAA==", 2),
            (2, ["too long", "x"], b"4too long", 1),
            (None, ["x" * 100, "y"], b"4" + b"x" * 100 + b"\x1e4y", 2),
        ],
    )
    def test_batches(self, limit: int | None, messages: list[str | bytes], body: bytes, taken: int) -> None:
        """A POST has as many packets as the server takes in one, and one at least; the rest stays with the session."""
        polling = Polling().opened(b'0{"sid":"S"}' if limit is None else b'0{"sid":"S","maxPayload":%d}' % limit)
        assert polling.send(*messages) == taken
        assert polling.post.body == body

    @pytest.mark.parametrize(("options", "taken"), [({}, 16), ({"maxPacketsPerPayload": 3}, 3), ({"EIO": 3}, 16)])
    def test_packets(self, options: dict[str, Any], taken: int) -> None:
        """A POST has no more packets than a server takes that isn't told otherwise, or than the option says."""
        polling = Polling(**options).opened()
        assert polling.send(*("a" for _ in range(20))) == taken
        assert polling.post.body.count(b"4a") == taken

    @pytest.mark.parametrize(
        ("options", "messages", "body", "kind"),
        [
            ({}, ["hello", "é😀"], "6:4hello4:4é😀".encode(), "text/plain;charset=UTF-8"),
            ({}, ["hé", b"\x01"], b"\x00\x04\xff4h\xc3\xa9\x01\x02\xff\x04\x01", "application/octet-stream"),
            ({"forceBase64": True}, ["a", b"\x01"], b"2:4a6:b4AQ==", "text/plain;charset=UTF-8"),
        ],
    )
    def test_revision3(self, options: dict[str, Any], messages: list[str | bytes], body: bytes, kind: str) -> None:
        """Lengths before the packets; bytes as they are, unless that isn't wanted."""
        polling = Polling(EIO=3, **options).opened()
        assert ("b64" in polling.gets[0].query, "b64" in polling.gets[1].query) == ("forceBase64" in options, False)
        assert polling.gets[0].query["EIO"] == "3"
        polling.send(*messages)
        assert polling.post.body == body
        assert polling.post.headers["content-type"] == kind

    @pytest.mark.parametrize("limit", [25, 26, 27, 28, 29, 30])
    @pytest.mark.parametrize("messages", [["é" * 9, "b", "c"], [b"a" * 9, "bcde", "c"], ["a", b"\x00", "b", "c", "d"]])
    def test_batchesOfRevision3(self, limit: int, messages: list[str | bytes]) -> None:
        """No POST of several packets is larger than what the server takes."""
        polling = Polling(EIO=3).opened(b'0{"sid":"S","maxPayload":%d}' % limit)
        assert polling.send(*messages) >= 1
        assert len(polling.post.body) <= limit

    @pytest.mark.parametrize(("body", "kind"), [(b"ok", "text/html"), (b"", None), (b"OK\n", "x/y"), (b"1", "x/y")])
    def test_anyBody(self, body: bytes, kind: str | None) -> None:
        """A POST is taken if its status says so, whatever the body, unless that is a web page."""
        polling = Polling().opened()
        polling.send("x")
        polling.post.answer(body, kind=kind)
        assert polling.transport.writable

    def test_bodyWithoutLength(self) -> None:
        """And however it ends."""
        for error in (PotentialDataLoss(), ResponseFailed([Failure(ConnectionLost())])):
            polling = Polling().opened()
            polling.send("x")
            polling.post.begin().end(error)
            assert polling.transport.writable
            assert polling.failure is None

    def test_counts(self) -> None:
        """Packets and bytes are counted, and observers told."""

        told: list[Any] = []

        class Observer(ServerObserver):
            def packetsSent(self, socket: Any, packets: Any, transport: Any) -> None:
                told.append(("sent", [each.data for each in packets]))

            def packetsReceived(self, socket: Any, packets: Any, transport: Any) -> None:
                told.append(("received", [each.data for each in packets]))

            def bytesSent(self, socket: Any, size: int) -> None:
                told.append(("bytesSent", size))

            def bytesReceived(self, socket: Any, size: int) -> None:
                told.append(("bytesReceived", size))

        polling = Polling().opened()
        counters = polling.counters
        polling.get.answer(b"4one")
        polling.get.answer(gzip.compress(b"4two\x1e4three", mtime=0), Content_Encoding="gzip")
        polling.transport.sendMessage("x", None, True)
        polling.post.answer()
        polling.send("y", "z")
        assert (counters.packetsReceived, counters.packetsSent) == (4, 3)
        size = len(OPEN) + 4 + len(gzip.compress(b"4two\x1e4three", mtime=0))
        assert (counters.bytesReceived, counters.bytesSent) == (size, 2 + 5)
        polling.post.answer()
        counters.add(Observer())
        polling.get.answer(b"4a")
        polling.transport.sendMessage("b", None, True)
        assert told == [("bytesReceived", 2), ("received", ["a"]), ("sent", ["b"]), ("bytesSent", 2)]


class TestReceiving:
    """What a GET brings."""

    def test_inOrder(self) -> None:
        """All packets of a payload in order, then the next GET."""
        polling = Polling().opened()
        polling.get.answer("4a\x1e2\x1ebAP8=\x1e4é😀\x1e6".encode())
        assert polling.received == ["a", "", b"\x00\xff", "é😀", ""]
        assert polling.isPolling
        assert polling.owner.deliveries == 0

    @pytest.mark.parametrize("kind", ["text/plain", "TEXT/PLAIN;charset=utf-8", "application/octet-stream", None])
    def test_contentTypes(self, kind: str | None) -> None:
        """In revision 4 each payload is text."""
        polling = Polling().opened()
        polling.get.answer("4é", kind=kind)
        assert polling.received == ["é"]

    def test_revision3(self) -> None:
        """Payloads of text and of bytes."""
        polling = Polling(EIO=3).opened()
        polling.get.answer("4:4é😀2:4b", kind="text/plain; charset=UTF-8")
        polling.get.answer(b"\x00\x02\xff4a\x01\x03\xff\x04\x00\xff", kind="application/octet-stream")
        assert polling.received == ["é😀", "b", "a", b"\x00\xff"]
        assert polling.isPolling

    def test_heldBack(self) -> None:
        """Nothing is delivered while receiving is paused; then all comes in order, in a later turn."""
        polling = Polling().opened()
        transport = polling.transport
        transport.pauseReceiving()
        polling.get.answer(b"4a\x1e4b")
        assert polling.received == []
        assert (transport.isDelivering, transport.heldBytes) == (True, 5)
        # The server takes one that doesn't poll for gone.
        polling.get.answer(b"2")
        polling.get.answer(b"4c")
        assert (transport.isDelivering, transport.heldBytes) == (True, 8)
        polling.clock.advance(60)
        assert polling.received == []
        transport.resumeReceiving()
        assert polling.received == []
        turn(polling.clock)
        assert polling.received == ["a", "b", "", "c"]
        assert (transport.isDelivering, transport.heldBytes) == (False, 0)
        assert polling.isPolling
        assert polling.owner.deliveries == 1

    @pytest.mark.parametrize(("body", "most"), [(b"4" + b"x" * 299, 3), (b"2", 10)])
    def test_heldBackUpToABound(self, body: bytes, most: int) -> None:
        """No GET begins while as much waits as a response may have, and with many payloads less than that."""
        polling = Polling(maxHttpBufferSize=1000).opened()
        polling.transport.pauseReceiving()
        count = 0
        while polling.isPolling:
            polling.get.answer(body)
            count += 1
        assert count == most
        polling.transport.resumeReceiving()
        assert not polling.isPolling
        turn(polling.clock)
        assert len(polling.received) == count
        assert polling.isPolling

    def test_heldBackByAHandler(self) -> None:
        """A handler that pauses stops what is behind the packet it got, one packet or many; the next GET goes on."""
        for body, rest in ((b"4a\x1e4b\x1e4c", ["b", "c"]), (b"4a", [])):
            polling = Polling().opened()
            take = polling.owner.transportMessage

            def pause(transport: Any, data: Any, take: Any = take, polling: Polling = polling) -> Any:
                if data == "a":
                    transport.pauseReceiving()
                return take(transport, data)

            polling.owner.transportMessage = pause  # type: ignore[method-assign]
            polling.get.answer(body)
            assert polling.received == ["a"]
            polling.get.answer(b"4d")
            assert polling.received == ["a"]
            polling.transport.resumeReceiving()
            turn(polling.clock)
            assert polling.received == ["a", *rest, "d"]
            assert polling.isPolling

    def test_answeredWhileDelivering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a GET brings that began while receiving was paused comes behind what is being delivered."""
        polling = Polling().opened()
        everyMessageTakesATurn(monkeypatch)
        polling.transport.pauseReceiving()
        polling.get.answer(b"4a\x1e4b")
        polling.transport.resumeReceiving()
        turn(polling.clock)
        assert polling.received == ["a"]
        polling.get.answer(b"4c\x1e4d")
        assert not polling.isPolling
        turn(polling.clock, 4)
        assert polling.received == ["a", "b", "c", "d"]
        assert polling.isPolling
        assert polling.owner.deliveries == 1

    def test_failsWhileHeldBack(self) -> None:
        """A GET that fails while receiving is paused ends it behind what waits, or at once if nothing does."""
        for body in (b"4a", b""):
            polling = Polling().opened()
            polling.transport.pauseReceiving()
            if body:
                polling.get.answer(body)
            polling.get.fail(ConnectionLost())
            assert len(polling.owner.closings) == (not body)
            polling.transport.resumeReceiving()
            turn(polling.clock)
            assert polling.received == ["a"] * bool(body)
            assert [each.reason for each in polling.owner.closings] == [CloseReason.TRANSPORT_CLOSE]

    def test_dropped(self) -> None:
        """What waits is dropped if the session wants that."""
        polling = Polling().opened()
        polling.transport.pauseReceiving()
        polling.get.answer(b"4a\x1e4b")
        polling.transport.resumeReceiving(False)
        turn(polling.clock, 2)
        assert polling.received == []
        assert polling.isPolling

    def test_inTurns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A long payload is delivered in several turns of the reactor; the next GET begins behind it."""
        polling = Polling().opened()
        everyMessageTakesATurn(monkeypatch)
        polling.get.answer(b"4a\x1e4b\x1e4c")
        assert polling.received == ["a"]
        assert (polling.transport.isDelivering, polling.isPolling) == (True, False)
        turn(polling.clock)
        assert polling.received == ["a", "b"]
        turn(polling.clock, 2)
        assert polling.received == ["a", "b", "c"]
        assert (polling.transport.isDelivering, polling.isPolling) == (False, True)
        assert polling.owner.deliveries == 1

    def test_whatIsNotTaken(self) -> None:
        """A session that is closing takes no messages; polling goes on, as it may still be sending."""
        polling = Polling().opened()
        polling.owner.transportMessage = lambda transport, data: SessionClosing()  # type: ignore[method-assign]
        polling.get.answer(b"4a\x1e4b")
        assert polling.isPolling
        assert polling.failure is None

    def test_arriving(self) -> None:
        """A body that is coming is known as such, by how much of it is there."""
        polling = Polling().opened()
        transport = polling.transport
        assert (transport.arriving, transport.heldBytes) == (None, 0)
        response = polling.get.begin()
        begun = transport.arriving
        response.say(b"4he")
        more = transport.arriving
        assert None not in (begun, more)
        assert begun != more
        assert transport.heldBytes == 3
        response.say(b"llo")
        response.end()
        assert (transport.arriving, transport.heldBytes) == (None, 0)
        assert polling.received == ["hello"]

    @pytest.mark.parametrize(
        ("coding", "compressed"),
        [
            ("gzip", gzip.compress(b"4hello", mtime=0)),
            ("X-GZIP", gzip.compress(b"4hello", mtime=0)),
            ("deflate", zlib.compress(b"4hello")),
            ("deflate", zlib.compress(b"4hello")[2:-4]),
            ("identity", b"4hello"),
            ("", b"4hello"),
        ],
    )
    def test_compressed(self, coding: str, compressed: bytes) -> None:
        """Bodies are inflated, in whatever pieces they come."""
        polling = Polling().opened()
        response = polling.get.begin(Content_Encoding=coding)
        for each in compressed:
            response.say(bytes([each]))
        response.end()
        assert polling.received == ["hello"]

    @pytest.mark.parametrize(
        ("coding", "body", "type_", "description"),
        [
            ("br", b"4hello", "not engine.io", "compressed by 'br': expected gzip or deflate"),
            ("gzip, gzip", b"4hello", "not engine.io", "compressed by"),
            ("gzip", b"4hello", "parse", "the body isn't gzip"),
            ("deflate", b"\xff\xff", "parse", "the body isn't deflate"),
            ("gzip", gzip.compress(b"4hello", mtime=0)[:-9], "lost", "ends before what it inflates to"),
            ("gzip", gzip.compress(b"4hello", mtime=0) + b"more", "parse", "more behind the end of its gzip"),
            ("gzip", gzip.compress(b"4" * 1001, mtime=0), "too large", "larger than maxHttpBufferSize, 1000 bytes"),
            ("gzip", gzip.compress(bytes(30_000_000)), "too large", "larger than maxHttpBufferSize"),
        ],
    )
    def test_compressedWrongly(self, coding: str, body: bytes, type_: str, description: str) -> None:
        """What isn't what it says, or inflates to more than it may, is no payload."""
        polling = Polling(maxHttpBufferSize=1000).opened()
        response = polling.get.begin(Content_Encoding=coding)
        if response.protocol is not None:
            response.say(body)
            if not response.isLost:
                response.end()
        assert polling.received == []
        assert polling.failure.type == type_
        assert description in polling.failure.description

    def test_largest(self) -> None:
        """A body as large as it may be is taken; of a larger one no more is read than tells that it is."""
        polling = Polling(maxHttpBufferSize=1000).opened()
        polling.get.answer(b"4" * 1000)
        assert polling.received == ["4" * 999]
        response = polling.get.begin()
        response.say(b"4" * 1000)
        assert not response.isLost
        response.say(b"4")
        assert response.isLost
        assert polling.failure.type == "too large"
        # The server is still there.
        assert polling.post.body == b"1"


class TestFailing:
    """What ends it."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        ("status", "headers", "body", "type_", "description"),
        [
            (302, {"Location": "https://login.test/"}, b"", "redirect", "https://login.test/"),
            (
                400,
                {},
                b'{"code":1,"message":"Session ID unknown"}',
                "refused",
                "Session ID unknown (status 400, code 1)",
            ),
            (401, {"WWW-Authenticate": "Basic"}, b"", "authentication", "401"),
            (403, {}, b'{"code":4,"message":"Forbidden"}', "refused", "Forbidden"),
            (404, {"Content-Type": "text/html"}, b"<h1>Not Found</h1>", "http", "status 404, expected 200"),
            (407, {"Proxy-Authenticate": "Basic"}, b"", "proxy", "407"),
            (413, {}, b"", "http", "413"),
            (500, {}, b"oops", "http", "500"),
            (502, {}, b"", "unavailable", "502"),
            (503, {"Retry-After": "5"}, b'{"message":"the server is closing"}', "unavailable", "try again in 5 s"),
            (504, {}, b"x" * 100_000, "unavailable", "504"),
            (204, {}, b"", "http", "204"),
        ],
    )
    def test_statuses(
        self, method: str, status: int, headers: dict[str, str], body: bytes, type_: str, description: str
    ) -> None:
        """Each kind has its name, and the response comes along, as much of it as is kept. None is told the server."""
        polling = Polling().opened()
        if method == "POST":
            polling.send("x")
        request = polling.get if method == "GET" else polling.post
        response = request.begin(status, None, **headers)
        response.say(body)
        if not response.isLost:
            response.end()
        failure = polling.failure
        assert failure.type == type_
        assert description in failure.description
        assert failure.response.status == status
        assert failure.response.body == body[:4096]
        assert failure.response.headers.hasHeader("Content-Type") == ("Content-Type" in headers)
        assert polling.owner.closings == [Closing(failure.reason, failure.description)]
        assert failure.reason == CloseReason.TRANSPORT_ERROR
        assert len(polling.posts) == (method == "POST")
        polling.assertGone()

    def test_bodyOfAFailureWithoutEnd(self) -> None:
        """It isn't waited for longer than a moment."""
        polling = Polling().opened()
        polling.get.begin(503, "text/html").say(b"<h1>Service")
        assert polling.failure is None
        polling.clock.advance(CLOSE_TIMEOUT)
        assert polling.failure.type == "unavailable"
        assert polling.failure.response.text == "<h1>Service"
        assert polling.gets[-1].response.isLost
        polling.assertGone()

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        ("error", "type_"),
        [
            (DNSLookupError("no such name"), "dns"),
            (Refused(), "connect"),
            (ResponseNeverReceived([Failure(ConnectionLost())]), "lost"),
            (ResponseNeverReceived([Failure(ConnectionDone())]), "lost"),
            (ValueError("whatever an agent fails with"), "connect"),
        ],
    )
    def test_connections(self, method: str, error: Exception, type_: str) -> None:
        """So has each way in which a request fails that isn't answered; nothing is tried again."""
        polling = Polling().opened()
        if method == "POST":
            polling.send("x")
        (polling.get if method == "GET" else polling.post).fail(error)
        assert polling.failure.type == type_
        assert polling.failure.response is None
        assert len(polling.owner.closings) == 1
        assert len(polling.gets) == 2
        polling.assertGone()

    @pytest.mark.parametrize("error", [ResponseFailed([Failure(ConnectionDone())]), PotentialDataLoss()])
    def test_cutBodies(self, error: Exception) -> None:
        """Nothing is delivered of a payload that isn't whole, or mayn't be."""
        polling = Polling().opened()
        response = polling.get.begin()
        response.say(b"4hello\x1e4")
        response.end(error)
        assert polling.received == []
        assert polling.failure.type == "lost"
        assert polling.failure.reason == CloseReason.TRANSPORT_CLOSE
        polling.assertGone()

    @pytest.mark.parametrize(
        ("body", "received", "type_", "description"),
        [
            (b"4a\x1ex\x1e4b", ["a"], "parse", "expected it to start with a packet type"),
            (b"", [], "parse", "an empty packet"),
            (b"4a\x1e", ["a"], "parse", "an empty packet"),
            (b"b!", [], "parse", "expected base64"),
            (b"4a\xff", [], "parse", "expected UTF-8"),
        ],
    )
    def test_noPackets(self, body: bytes, received: list[str], type_: str, description: str) -> None:
        """What comes before a broken packet is delivered, nothing behind it; the server is told that it is over."""
        polling = Polling().opened()
        polling.get.answer(body)
        assert polling.received == received
        assert polling.failure.type == type_
        assert description in polling.failure.description
        assert [each.reason for each in polling.owner.closings] == [CloseReason.PARSE_ERROR]
        assert polling.post.body == b"1"
        polling.post.answer()
        polling.assertGone()

    @pytest.mark.parametrize("kind", ["text/html", "application/json", "image/png"])
    def test_otherContent(self, kind: str) -> None:
        """A web page in place of a payload is told as such, even if it begins like a packet."""
        polling = Polling().opened()
        polling.get.answer(b"404 not found", kind=kind)
        assert polling.received == []
        assert polling.failure.type == "not engine.io"
        assert polling.failure.response.text == "404 not found"
        polling.assertGone()

    def test_requestTimeout(self) -> None:
        """A request that takes longer than it may ends it, with its head there or not."""
        for isBegun in (False, True):
            polling = Polling(requestTimeout=1500).opened()
            polling.send("x")
            polling.clock.advance(1)
            polling.post.answer()
            if isBegun:
                polling.get.begin().say(b"4a")
            polling.clock.advance(0.5)
            turn(polling.clock, 20)
            assert polling.failure.type == "timeout"
            assert polling.failure.description == "a GET took longer than requestTimeout, 1500 ms"
            assert polling.gets[-1].isGivenUp
            polling.assertGone()

    def test_behindWhatCame(self) -> None:
        """An end that comes while packets wait is told behind them."""
        polling = Polling().opened()
        polling.send("x")
        polling.transport.pauseReceiving()
        polling.get.answer(b"4a\x1e4b")
        polling.post.fail(ConnectionLost())
        assert polling.owner.closings == []
        assert not polling.transport.writable
        polling.transport.resumeReceiving()
        turn(polling.clock)
        assert polling.received == ["a", "b"]
        assert [each.reason for each in polling.owner.closings] == [CloseReason.TRANSPORT_CLOSE]
        assert polling.failure.type == "lost"
        polling.assertGone()

    def test_whatComesFirstIsTold(self) -> None:
        """Of two ends in that order, the one in the payload."""
        for body, type_, reason in ((b"4a\x1ex", "parse", "parse error"), (b"4a\x1e1", "closed", "transport close")):
            polling = Polling().opened()
            polling.send("x")
            polling.transport.pauseReceiving()
            polling.get.answer(body)
            polling.post.answer(b"", 500)
            polling.transport.resumeReceiving()
            turn(polling.clock)
            assert polling.failure.type == type_
            assert [each.reason for each in polling.owner.closings] == [reason]

    def test_agentsThatFail(self) -> None:
        """An agent that raises, or gives no response, ends it like one that fails."""
        polling = Polling().opened()

        def fails(*args: Any) -> Any:
            raise RuntimeError("no agent")

        polling.agent.request = fails  # type: ignore[method-assign]
        polling.send("x")
        assert (polling.failure.type, polling.failure.description) == ("connect", "no agent")
        polling = Polling().opened()
        polling.get.deferred.callback(None)
        assert polling.failure.type == "connect"
        assert len(polling.owner.closings) == 1


class TestClosing:
    """How it ends."""

    def test_byTheServer(self) -> None:
        """A close packet ends it; what is behind isn't delivered, and nobody is told."""
        polling = Polling().opened()
        polling.send("x")
        polling.get.answer(b"4a\x1e1\x1e4b")
        assert polling.received == ["a"]
        [closing] = polling.owner.closings
        assert (closing.reason, closing.isByClient) == (CloseReason.TRANSPORT_CLOSE, True)
        assert polling.failure.type == "closed"
        assert polling.posts[0].isCancelled
        assert len(polling.posts) == 1
        polling.assertGone()

    def test_byTheClient(self) -> None:
        """The server is told, and the GET that runs is left to be answered."""
        polling = Polling().opened()
        assert polling.transport.close(FORCED) == 0
        assert polling.post.body == b"1"
        assert not polling.get.isCancelled
        polling.post.answer()
        assert polling.gone == []
        polling.get.answer(b"6")
        polling.assertGone()
        assert polling.owner.closings == []

    def test_lastPackets(self) -> None:
        """What is still to be sent goes with it."""
        polling = Polling().opened()
        packets = [Packet(PacketType.MESSAGE, each) for each in "ab"]
        assert polling.transport.close(FORCED, packets) == 2
        assert polling.post.body == b"4a\x1e4b\x1e1"
        assert polling.transport.close(FORCED) == 0
        assert len(polling.posts) == 1

    def test_lastPacketsThatFillAPOST(self) -> None:
        """No POST is larger than what the server takes; the close packet has one of its own then."""
        polling = Polling().opened(b'0{"sid":"S","maxPayload":6}')
        packets = [Packet(PacketType.MESSAGE, each) for each in ("a", "bc", "d")]
        assert polling.transport.close(FORCED, packets) == 2
        assert polling.post.body == b"4a\x1e4bc"
        polling.post.answer()
        assert polling.post.body == b"1"
        polling.post.answer()
        polling.get.answer(b"6")
        polling.assertGone()

    def test_behindAPOST(self) -> None:
        """The server is told behind the POST that runs; packets aren't taken meanwhile."""
        polling = Polling().opened()
        polling.send("x")
        assert polling.transport.close(FORCED, [Packet(PacketType.MESSAGE, "y")]) == 0
        assert [each.body for each in polling.posts] == [b"4x"]
        polling.post.answer()
        assert [each.body for each in polling.posts] == [b"4x", b"1"]
        polling.post.answer()
        polling.get.answer(b"6")
        polling.assertGone()

    def test_GETThatIsNotAnswered(self) -> None:
        """It is given up a moment after the server was told: some servers leave it."""
        polling = Polling().opened()
        polling.transport.close(FORCED)
        polling.post.answer()
        polling.clock.advance(LAST_GET - 0.01)
        assert polling.gone == []
        polling.clock.advance(0.01)
        assert polling.gets[-1].isCancelled
        polling.assertGone()

    def test_POSTThatIsNotAnswered(self) -> None:
        """Everything is given up at the last deadline, which may be later."""
        for deadline, seconds in ((0.0, CLOSE_TIMEOUT), (10.0, 10.0)):
            polling = Polling().opened()
            polling.transport.close(FORCED._replace(deadline=deadline))
            polling.clock.advance(seconds - 0.01)
            assert polling.gone == []
            polling.clock.advance(0.01)
            assert polling.posts[-1].isCancelled
            polling.assertGone()

    def test_POSTThatFails(self) -> None:
        """A server that can't be told isn't waited for."""
        for isRunning in (True, False):
            polling = Polling().opened()
            if isRunning:
                polling.send("x")
            polling.transport.close(FORCED)
            polling.post.answer(b"", 400)
            assert len(polling.posts) == 1
            assert polling.gets[-1].isCancelled
            polling.assertGone()
            assert polling.owner.closings == []

    def test_GETThatFails(self) -> None:
        """What becomes of the GET is nobody's concern any more, and what it brings neither."""
        for isGood in (True, False):
            polling = Polling().opened()
            polling.transport.close(FORCED)
            if isGood:
                polling.get.answer(b"4late")
            else:
                polling.get.fail(ConnectionLost())
            assert polling.received == []
            polling.post.answer()
            polling.assertGone()
            assert polling.owner.closings == []

    def test_whileDelivering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing more is delivered of a payload, and nothing of it is left."""
        polling = Polling().opened()
        everyMessageTakesATurn(monkeypatch)
        polling.get.answer(b"4a\x1e4b")
        polling.transport.close(FORCED)
        polling.post.answer()
        turn(polling.clock, 3)
        assert polling.received == ["a"]
        polling.assertGone()

    def test_byAHandler(self) -> None:
        """A handler may close it, from inside of a payload."""
        for body in (b"4a\x1e4b", b"4a"):
            polling = Polling().opened()

            def close(transport: Any, data: Any, polling: Polling = polling) -> Any:
                polling.owner.packets.append(Packet(PacketType.MESSAGE, data))
                transport.close(FORCED)
                polling.owner.transportMessage = lambda transport, data: SessionClosing()  # type: ignore[method-assign]

            polling.owner.transportMessage = close  # type: ignore[method-assign]
            polling.get.answer(body)
            assert polling.received == ["a"]
            polling.post.answer()
            polling.assertGone()

    def test_goneLater(self) -> None:
        """C{whenGone} fires at once when the transport is gone already."""
        polling = Polling().opened()
        polling.transport.close(FORCED)
        polling.post.answer()
        polling.get.answer(b"6")
        assert polling.transport.whenGone().called


class TestUpgrading:
    """How it makes room for a WebSocket."""

    def test_pause(self) -> None:
        """Nothing new begins, and who asked is told when neither a GET nor a POST runs."""
        polling = Polling().opened()
        polling.send("x")
        paused: list[str] = []
        polling.transport.pause(lambda: paused.append("paused"))
        polling.post.answer()
        assert polling.owner.readies == 0
        assert not polling.transport.writable
        assert paused == []
        polling.get.answer(b"4a\x1e6")
        assert polling.received == ["a", ""]
        assert paused == ["paused"]
        assert len(polling.gets) == 2
        polling.transport.close(LEFT)
        assert polling.posts[-1].body == b"4x"
        polling.assertGone()

    def test_nothingRuns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told at once if nothing runs; what has come is still delivered after the upgrade."""
        polling = Polling().opened()
        everyMessageTakesATurn(monkeypatch)
        polling.get.answer(b"4a\x1e4b")
        paused: list[str] = []
        polling.transport.pause(lambda: paused.append("paused"))
        assert paused == ["paused"]
        polling.transport.close(LEFT)
        turn(polling.clock, 2)
        assert polling.received == ["a", "b"]
        assert polling.owner.deliveries == 1
        polling.assertGone()

    @pytest.mark.parametrize(
        ("rest", "reason"), [(b"x", CloseReason.PARSE_ERROR), (b"1", CloseReason.TRANSPORT_CLOSE), (b"", None)]
    )
    def test_brokenBehindTheUpgrade(self, rest: bytes, reason: CloseReason | None) -> None:
        """What comes of the rest of a payload after an upgrade ends the session as well."""
        polling = Polling().opened()
        polling.transport.pauseReceiving()
        polling.transport.pause(lambda: polling.transport.close(LEFT))
        polling.get.answer(b"4a\x1e" + (rest or b"4b"))
        polling.transport.resumeReceiving()
        turn(polling.clock)
        assert polling.received == ["a"] + ["b"] * (reason is None)
        assert [each.reason for each in polling.owner.closings] == [reason] * (reason is not None)
        assert polling.posts == []
        polling.assertGone()

    def test_heldBack(self) -> None:
        """What is held back after an upgrade is delivered when receiving goes on."""
        polling = Polling().opened()
        polling.transport.pauseReceiving()
        polling.transport.pause(lambda: polling.transport.close(LEFT))
        polling.get.answer(b"4a\x1e4b")
        polling.assertGone()
        polling.transport.resumeReceiving()
        turn(polling.clock)
        assert polling.received == ["a", "b"]
        assert polling.owner.deliveries == 1
        assert not polling.isPolling

    def test_unpause(self) -> None:
        """It goes on if the WebSocket fails: from the pause, and while it waits for it."""
        for isAnswered in (True, False):
            polling = Polling().opened()
            paused: list[str] = []
            polling.transport.pause(lambda paused=paused: paused.append("paused"))  # type: ignore[misc]
            if isAnswered:
                polling.get.answer(b"6")
            polling.transport.unpause()
            assert polling.owner.readies == 1
            assert polling.isPolling
            polling.get.answer(b"6")
            assert polling.isPolling
            assert paused == ["paused"] * isAnswered

    def test_failsMeanwhile(self) -> None:
        """A request that fails ends it, paused or not."""
        polling = Polling().opened()
        polling.transport.pause(lambda: pytest.fail("paused"))
        polling.get.fail(ConnectionLost())
        assert polling.failure.type == "lost"
        assert len(polling.owner.closings) == 1
        polling.assertGone()

    def test_GETThatIsLeft(self) -> None:
        """A GET that runs is left to be answered, as the server ends it, or given up; the server is told nothing."""
        for isAnswered in (True, False):
            polling = Polling().opened()
            polling.transport.close(LEFT)
            assert polling.posts == []
            if isAnswered:
                polling.get.answer(b"6")
            else:
                polling.clock.advance(CLOSE_TIMEOUT)
                assert polling.gets[-1].isCancelled
            polling.assertGone()


class TestCookies:
    """The cookies of requests."""

    def test_keptAndSent(self) -> None:
        """Cookies of any response, of a failed one too, come with the next requests."""
        jar = CookieJar()
        polling = Polling(withCredentials=jar)
        polling.transport.open()
        assert "cookie" not in polling.get.headers
        polling.get.answer(OPEN, Set_Cookie="io=1; Path=/; HttpOnly")
        assert polling.get.headers["cookie"] == "io=1"
        polling.send("x")
        assert polling.post.headers["cookie"] == "io=1"
        polling.post.answer(b"", 503, Set_Cookie="node=b; Path=/engine.io")
        assert sorted(each.name for each in jar) == ["io", "node"]
        after = Polling(withCredentials=jar, url="http://server.test:3000").opened()
        assert after.gets[0].headers["cookie"] == "node=b; io=1"

    def test_besidesOwn(self) -> None:
        """A request has one such header: what the application sets, and behind it what is kept."""
        polling = Polling(withCredentials=True, extraHeaders={"cookie": "own=1"})
        polling.transport.open()
        polling.get.answer(OPEN, Set_Cookie="io=1")
        polling.send("x")
        for request in (polling.get, polling.post):
            assert request.headers["cookie"] == "own=1; io=1"
            assert "own=1" in polling.gets[0].headers["cookie"]

    @pytest.mark.parametrize("broken", ["add", "extract"])
    @pytest.mark.parametrize("isOpen", [False, True])
    def test_brokenJar(self, broken: str, isOpen: bool) -> None:
        """A jar that raises ends the transport, with what it raised."""
        jar = BrokenJar()
        polling = Polling(withCredentials=jar)
        if isOpen:
            polling.opened()
            jar.broken = broken
            polling.get.begin(Set_Cookie="a=1") if broken == "extract" else polling.send("x")
        else:
            jar.broken = broken
            polling.transport.open()
            if broken == "extract":
                polling.get.begin(Set_Cookie="a=1")
        assert polling.failure.description == "the jar is broken"
        assert len(polling.owner.closings) == 1
        polling.assertGone()

    def test_notWithout(self) -> None:
        """They are ignored unless they are wanted."""
        polling = Polling()
        polling.transport.open()
        polling.get.answer(OPEN, Set_Cookie="io=1")
        assert "cookie" not in polling.get.headers
