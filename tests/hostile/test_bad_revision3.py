"""What a hostile or broken client may say in revision 3, which the server speaks with `allowEIO3`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload_v3 import CodecV3

from ..kit.wire import (
    BINARY,
    SEPARATOR,
    Arena,
    Frame,
    Hostile,
    Response,
    Wire,
    eventually,
    http,
    makeFrame,
    pause,
    target,
    upgrade,
)

pytestmark = [pytest.mark.no_cover, pytest.mark.everySite]

OCTETS = [("Content-Type", "application/octet-stream")]


def text3(*packets: str) -> str:
    """A payload of text: JavaScript counts in UTF-16."""
    return "".join(f"{len(each.encode('utf-16-le')) // 2}:{each}" for each in packets)


def element(data: bytes, isBinary: bool = False) -> bytes:
    """One packet of a payload of bytes."""
    return bytes([isBinary, *map(int, str(len(data))), 255]) + data


def sidOf(response: Response) -> str:
    """The id in the payload that opens a session."""
    assert response.status == 200
    length, _, packet = response.body.decode().partition(":")
    assert (int(length), packet[0]) == (len(packet), "0")
    return str(json.loads(packet[1:])["sid"])


async def open3(here: Arena, **query: object) -> str:
    """Open a session of revision 3 on polling; return its id."""
    return sidOf(await here.ask(http("GET", target(**{"EIO": 3, **query}))))


async def poll3(here: Arena, sid: str) -> Wire:
    """Have a GET wait, and make sure that it does."""
    wire = await here.say(http("GET", target(EIO=3, sid=sid)))
    await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
    return wire


async def post3(here: Arena, sid: str, body: str | bytes) -> Response:
    """Deliver a payload, bytes as such."""
    headers = OCTETS if isinstance(body, bytes) else []
    return await here.ask(
        http("POST", target(EIO=3, sid=sid), headers, body.encode() if isinstance(body, str) else body)
    )


async def goesOn3(here: Arena, sid: str) -> None:
    """Make sure that a session on polling works, in both directions, and end it as a client does."""
    assert (await post3(here, sid, text3("4still €"))).body == b"ok"
    assert here.records[sid].messages[-1] == "still €"
    assert (await here.get(sid, EIO=3)).body.decode().endswith(text3("4still €"))
    assert (await post3(here, sid, "1:1")).body == b"ok"
    assert await here.records[sid].closed() == ("transport close", "close packet")


async def webSocket3(here: Arena) -> tuple[str, Wire]:
    """Open a session of revision 3 on WebSocket."""
    wire = await here.webSocket(upgrade(target(EIO=3, transport="websocket")))
    return str(json.loads((await wire.text())[1:])["sid"]), wire


async def breaks(here: Arena, body: str | bytes, *delivered: str | bytes, said: str = "") -> None:
    """A POST that has to be refused: what is before the break is delivered, and the waiting GET is told of the end."""
    sid = await open3(here)
    waiting = await poll3(here, sid)
    response = await post3(here, sid, body)
    assert response.status == 400
    assert len(response.json["message"]) < 500
    reason, description = await here.records[sid].closed()
    assert reason == "parse error"
    assert said in description
    assert here.records[sid].messages == list(delivered)
    assert (await waiting.response()).body == b"1:1"


BAD_TEXT = {
    "negative": "-1:4",
    "minus sign": "\N{MINUS SIGN}1:4",
    "plus": "+2:4x",
    "space before": " 2:4x",
    "space behind": "2 :4x",
    "newline": "2\n:4x",
    "NUL": "2\0:4x",
    "underscore": "0_2:4x",
    "exponent": "2e0:4x",
    "hexadecimal": "0x2:4x",
    "fraction": "2.0:4x",
    "fullwidth digit": "\N{FULLWIDTH DIGIT TWO}:4x",
    "Arabic digit": "\N{ARABIC-INDIC DIGIT TWO}:4x",
    "superscript": "\N{SUPERSCRIPT TWO}:4x",
    "fullwidth colon": "2\N{FULLWIDTH COLON}4x",
    "a colon in two halves": "2\u3a00\u4100:4x",
    "a colon in two halves alone": "2\u3a00\u4100",
    "no length": ":4x",
    "no colon": "4hello",
    "no colon after digits": "12345",
    "revision 4": f"4x{SEPARATOR}4y",
    "zero": "0:",
    "zeros": "0:0:0:",
    "zero and data": "0:4x",
    "huge": "9999999999:4x",
    "enormous": "9" * 5000 + ":4x",
    "many zeros": "0" * 5000 + "2:4x",
    "emoji counted once": "2:4😀",
    "begins in a surrogate pair": "2:4😀2:4x",
    "unknown type": "2:7x",
    "emoji for a type": "2:😀",
    "b alone": "1:b",
    "b and no message": "6:b2AQID",
    "b9": "6:b9AQID",
    "base64 cut": "7:b4AQIDA",
    "base64 padded wrongly": "6:b4=AQI",
    "no base64": "6:b4!!!!",
    "base64 with a tab": "7:b4AQID\t",
}


# The last of a payload: what is wrong with it would be found out later if something followed.
LAST_TEXT: dict[str, tuple[str, list[str | bytes]]] = {
    "one too long": ("3:4x", []),
    "one too short": ("1:4x", [""]),
    "emoji counted once": ("2:4😀", []),
    "emoji counted in UTF-8": ("5:4😀", []),
    "euro counted in UTF-8": ("4:4€", []),
    "ends in a surrogate pair": ("3:4x😀", []),
    "binary one too long": ("7:b4AQID", []),
    "binary one too short": ("5:b4AQID", [b"\1\2"]),
    "length alone": ("2", []),
    "length and colon": ("2:", []),
    "cut": ("2:4x2:4", ["x"]),
}


class TestText:
    """Payloads of text with lengths that are none."""

    @pytest.mark.parametrize("bad", BAD_TEXT.values(), ids=list(BAD_TEXT))
    @pytest_twisted.ensureDeferred
    async def test_broken(self, hostile: Hostile, bad: str) -> None:
        """What comes before the break is delivered, nothing after it; then the session ends with `parse error`."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            await breaks(here, text3("4first €😀", "b4AQID") + bad + text3("4last"), "first €😀", b"\1\2\3")

    @pytest.mark.parametrize(("bad", "delivered"), LAST_TEXT.values(), ids=list(LAST_TEXT))
    @pytest_twisted.ensureDeferred
    async def test_brokenLast(self, hostile: Hostile, bad: str, delivered: list[str | bytes]) -> None:
        """So it is where nothing follows."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            await breaks(here, text3("4first") + bad, "first", *delivered)

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", []),
            (b"2:4\xff", []),
            (b"3:4\xed\xa0\x80", []),
            (text3("4x").encode("utf-16"), []),
            (element(b"4x"), []),
            (element(b"4x"), [("Content-Type", "application/octet-streams")]),
            (b"2:4x", OCTETS),
            (b"2:4x", [("Content-Type", "Application/Octet-Stream ; a=b")]),
        ],
        ids=[
            "empty",
            "not UTF-8",
            "surrogate",
            "UTF-16",
            "bytes",
            "bytes, another type",
            "text as bytes",
            "parameters",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_badBody(self, hostile: Hostile, body: bytes, headers: list[tuple[str, str]]) -> None:
        """A body that is no payload of its content type gets 400 and ends the session."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            response = await here.ask(http("POST", target(EIO=3, sid=sid), headers, body))
            assert response.status == 400
            assert "message" in response.json
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []

    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile) -> None:
        """Lengths that are unusual but right are read."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            sid = await open3(here)
            assert (await post3(here, sid, "0000000002:4x1:43:4😀2:4:2:b4")).body == b"ok"
            assert here.records[sid].messages == ["x", "", "😀", ":", b""]
            await goesOn3Silently(here, sid)


async def goesOn3Silently(here: Arena, sid: str) -> None:
    """The same where nothing is echoed."""
    here.server.clients[sid].send("to the client")
    assert (await here.get(sid, EIO=3)).body.decode().endswith(text3("4to the client"))
    assert (await post3(here, sid, "1:1")).body == b"ok"


GOOD = element(b"\4\1\2\3", True)
BAD_BINARY = {
    **{f"cut at {size}": element(b"4" + b"x" * 10)[:size] for size in range(1, 15)},
    **{f"binary cut at {size}": GOOD[:size] for size in range(1, len(GOOD))},
    "kind 2": b"\2\2\xff4x",
    "kind 254": b"\xfe\2\xff4x",
    "kind 255": b"\xff\2\xff4x",
    "kind in ASCII": b"0\2\xff4x",
    "digit 10": b"\0\x0a\xff4xxxxxxxxx",
    "digit in ASCII": b"\0002\xff4x",
    "digit 254": b"\0\xfe\xff4x",
    "a digit that is none": b"\0\1\x0a\xff4xxxxxxxxxxxxxxxxxxx",
    "no end of the length": b"\0\2" + b"4x" * 50,
    "no length": b"\0\xff4x",
    "no length but binary": b"\1\xff\4x",
    "zero": b"\0\0\xff",
    "binary zero": b"\1\0\xff",
    "huge": b"\0" + b"\x09" * 10 + b"\xff4x",
    "enormous": b"\0" + b"\x09" * 5000 + b"\xff4x",
    "many zeros": b"\0" + b"\0" * 5000 + b"\2\xff4x",
    "not UTF-8": element(b"4\xff"),
    "cut UTF-8": element(b"4\xe2\x82"),
    "surrogate": element(b"4\xed\xa0\x80"),
    "unknown type": element(b"7x"),
    "no base64": element(b"b4!!!!"),
    "b9": element(b"b9AQID"),
    "binary of another type": element(b"\2\1", True),
    "binary with a type in ASCII": element(b"4\1", True),
    "binary with b4": element(b"b4AQID", True),
    "text": b"2:4x",
    "revision 4": b"4x",
}


class TestBinary:
    """Payloads of bytes with headers that are none."""

    @pytest.mark.parametrize("bad", BAD_BINARY.values(), ids=list(BAD_BINARY))
    @pytest_twisted.ensureDeferred
    async def test_broken(self, hostile: Hostile, bad: bytes) -> None:
        """What comes before the break is delivered, nothing after it; then the session ends with `parse error`."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            await breaks(here, element("4first €".encode()) + GOOD + bad, "first €", b"\1\2\3")

    @pytest.mark.parametrize(
        ("bad", "delivered"),
        [
            (b"\0\3\xff4x", []),
            (b"\0\1\xff4x", [""]),
            (b"\0\2\xff4" + "€".encode(), []),
            (b"\1\2\xff\4", []),
            (b"\1\1\xff\4x", [b""]),
        ],
        ids=["one too long", "one too short", "length in UTF-16", "binary too long", "binary too short"],
    )
    @pytest_twisted.ensureDeferred
    async def test_brokenLast(self, hostile: Hostile, bad: bytes, delivered: list[str | bytes]) -> None:
        """So it is where nothing follows."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            await breaks(here, GOOD + bad, b"\1\2\3", *delivered)

    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile) -> None:
        """Headers that are unusual but right are read."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            sid = await open3(here)
            zeros = b"\0" + b"\0" * 9 + b"\2\xff4x"
            body = zeros + element(b"4") + element(b"\4", True) + element(b"b4AQID") + element(b"\4\xff\0\1", True)
            assert (await post3(here, sid, body)).body == b"ok"
            assert here.records[sid].messages == ["x", "", b"", b"\1\2\3", b"\xff\0\1"]
            await goesOn3Silently(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_revision4(self, hostile: Hostile) -> None:
        """A session of revision 4 takes no bytes from a POST, whatever the server can read."""
        async with hostile(allowEIO3=True) as here:
            sid = await here.open()
            response = await here.ask(http("POST", target(sid=sid), OCTETS, element(b"4x") + GOOD))
            assert response.status == 400
            assert "octet-stream" in response.json["message"]
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []


class TestMuch:
    """A megabyte of nothing."""

    @pytest.mark.parametrize(
        "junk",
        [":", "1", "0:", "9", "0", "11", "\0", "😀", "\u3a00", "1:7", "99999999:", " "],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_junk(self, hostile: Hostile, junk: str) -> None:
        """It is refused at its beginning."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            body = junk * (1_000_000 // len(junk.encode()))
            await breaks(here, body)

    @pytest.mark.parametrize(
        "junk", [b"\0", b"\1", b"\xff", b"\0\xff", b"\0\x09", b"\x09", b"\0\0\xff", b":"], ids=ascii
    )
    @pytest_twisted.ensureDeferred
    async def test_binaryJunk(self, hostile: Hostile, junk: bytes) -> None:
        """So it is as bytes."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            await breaks(here, junk * (1_000_000 // len(junk)))

    @pytest.mark.parametrize("isBinary", [False, True], ids=["text", "bytes"])
    @pytest_twisted.ensureDeferred
    async def test_tooLarge(self, hostile: Hostile, isBinary: bool) -> None:
        """A body over maxHttpBufferSize is refused, and ends the session."""
        async with hostile(allowEIO3=True, maxHttpBufferSize=1000) as here:
            sid = await open3(here)
            message = "4" + "x" * 1000
            one: str | bytes = element(message.encode()) if isBinary else text3(message)
            assert (await post3(here, sid, one)).status == 413
            assert await here.records[sid].closed() == (
                "transport error",
                "the body is larger than maxHttpBufferSize, 1000 bytes",
            )

    @pytest.mark.parametrize("isBinary", [False, True], ids=["text", "bytes"])
    @pytest_twisted.ensureDeferred
    async def test_tinyPackets(self, hostile: Hostile, isBinary: bool) -> None:
        """As many packets as fit into a payload, and are allowed, are read, each once."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            record = here.records[sid]
            one: str | bytes = element(b"6") if isBinary else text3("6")
            count = 1_000_000 // len(one)
            before = record.happened.count("packet")
            assert (await post3(here, sid, one * count)).body == b"ok"
            assert record.happened.count("packet") == before + count
            await goesOn3(here, sid)


def read(payload: str | bytes) -> tuple[list[Packet], DecodeError | None]:
    """Decode a payload; return the packets before the break, and the break, if there is one."""
    packets = []
    try:
        for each in CodecV3().decodePayload(payload):
            packets.append(each)
    except DecodeError as error:
        return packets, error
    return packets, None


class CountedBytes(bytes):
    """Bytes that count how many of them are looked at."""

    looked: list[int]

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.looked[0] += len(found) if isinstance(found, bytes) else 1
        return found

    def find(self, sub: Any, start: Any = None, end: Any = None) -> int:
        first, last, _ = slice(start, end).indices(len(self))
        found = super().find(sub, start, end)
        self.looked[0] += max(0, (last if found < 0 else found) - first)
        return found

    def decode(self, *how: str) -> str:
        self.looked[0] += len(self)
        return super().decode(*how)


class CountedText(str):
    """Text whose encodings are counted."""

    looked: list[int]

    def encode(self, *how: str) -> bytes:
        encoded = CountedBytes(super().encode(*how))
        encoded.looked = self.looked
        return encoded


def decoding(payload: str | bytes) -> tuple[list[Packet], int]:
    """Decode a payload; return the packets before the break, if there is one, and how many bytes were looked at."""
    counted: Any = CountedText(payload) if isinstance(payload, str) else CountedBytes(payload)
    counted.looked = [0]
    return read(counted)[0], counted.looked[0]


class TestSteps:
    """Decoding takes time in proportion to the size of what is decoded, and to what is right of it."""

    @pytest.mark.parametrize("one", ["1:6", "2:4x", "3:4😀", "6:b4AQID", "0000000001:6"])
    def test_text(self, one: str) -> None:
        """A payload of many packets is looked at a constant number of times."""
        packets, looked = decoding(one * 20_000)
        assert len(packets) == 20_000
        assert looked < 6 * len((one * 20_000).encode("utf-16-le"))

    @pytest.mark.parametrize("one", [element(b"6"), element(b"4x"), element(b"\4x", True), element("4€".encode())])
    def test_bytes(self, one: bytes) -> None:
        """So are bytes."""
        packets, looked = decoding(one * 20_000)
        assert len(packets) == 20_000
        assert looked < 6 * len(one * 20_000)

    @pytest.mark.parametrize("junk", [":", "1", "9:", "\u3a00", "0", b"\0", b"\xff", b"\1\x09", b"\0\0"], ids=ascii)
    def test_junk(self, junk: str | bytes) -> None:
        """Junk is not looked at beyond its beginning."""
        packets, looked = decoding(junk * 1_000_000)
        assert packets == []
        assert looked < 300


class TestWebSocket:
    """Frames of revision 3."""

    @pytest.mark.parametrize(
        "frame",
        [b"", b"\0", b"\3x", b"\5", b"4x", b"b4AQID", "", "7", "b", "b9AQID", "b4!!!!", "b4A", "bAQID", "\4x"],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_broken(self, hostile: Hostile, frame: str | bytes) -> None:
        """A frame that is no packet ends the session with `parse error`, after those before it were delivered."""
        async with hostile(allowEIO3=True) as here:
            sid, wire = await webSocket3(here)
            wire.send(makeFrame("4first") + makeFrame(b"\4\1") + makeFrame("b4Ag=="))
            assert await wire.text() == "4first"
            assert await wire.frame() == Frame(BINARY, b"\4\1")
            assert await wire.frame() == Frame(BINARY, b"\4\2")
            wire.send(makeFrame(frame) + makeFrame("4last"))
            assert await wire.closed() == 1000
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == ["first", b"\1", b"\2"]

    @pytest.mark.parametrize("frame", [b"\4\1", b"2probe", b"\2probe", "b4AQID", "4x", "3probe"], ids=ascii)
    @pytest_twisted.ensureDeferred
    async def test_brokenCandidate(self, hostile: Hostile, frame: str | bytes) -> None:
        """On a WebSocket that is to take a session over, none of them harms the session."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            where = target(EIO=3, transport="websocket", sid=sid)
            wire = await here.webSocket(upgrade(where), makeFrame("2probe"), makeFrame(frame), makeFrame("5"))
            assert await wire.text() == "3probe"
            assert await wire.closed() == 1000
            assert here.records[sid].messages == []
            wire = await here.webSocket(upgrade(where), makeFrame("2probe"))
            assert await wire.text() == "3probe"
            wire.send(makeFrame("5") + makeFrame(b"\4\1"))
            assert await wire.frame() == Frame(BINARY, b"\4\1")
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000


class TestHeartbeat:
    """In revision 3 the client pings."""

    @pytest.mark.parametrize("pong", ["3", "3probe", "3x"])
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_wrongDirection(self, hostile: Hostile, transport: str, pong: str) -> None:
        """A pong from the client ends the session, and what comes after it isn't delivered."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            if transport == "polling":
                sid = await open3(here)
                waiting = await poll3(here, sid)
                await post3(here, sid, text3("4before", pong, "4after"))
                assert (await waiting.response()).body == b"1:1"
            else:
                sid, wire = await webSocket3(here)
                wire.send(makeFrame("4before") + makeFrame(pong) + makeFrame("4after"))
                assert await wire.closed() == 1000
            assert await here.records[sid].closed() == ("transport error", "invalid heartbeat direction")
            assert here.records[sid].messages == ["before"]

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_noPing(self, hostile: Hostile, transport: str) -> None:
        """A client that doesn't ping is given up after pingInterval and pingTimeout, however much it says."""
        async with hostile(allowEIO3=True, pingInterval=100, pingTimeout=200) as here:
            if transport == "polling":
                sid = await open3(here)
                await post3(here, sid, text3(*["4x"] * 100))
            else:
                sid, wire = await webSocket3(here)
                wire.send(makeFrame("4x") * 100)
            reason, description = await here.records[sid].closed()
            assert reason == "ping timeout"
            assert "300" in description

    @pytest_twisted.ensureDeferred
    async def test_pingsUnheard(self, hostile: Hostile) -> None:
        """A client that pings and never polls, thousands of times, doesn't pile up pongs."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            socket = here.server.clients[sid]
            for _ in range(3):
                assert (await post3(here, sid, text3(*["2"] * 2000))).body == b"ok"
            assert len(socket.writeBuffer) < 100
            assert (await here.get(sid, EIO=3)).body.decode().startswith("1:3")
            # After that they count as before.
            assert (await post3(here, sid, "1:2")).body == b"ok"
            assert (await here.get(sid, EIO=3)).body == b"1:3"
            await goesOn3(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_pingsAlone(self, hostile: Hostile) -> None:
        """Nor do its pings keep it alive, and with it what is sent to it: it is given up like one that is gone."""
        async with hostile(allowEIO3=True, pingInterval=100, pingTimeout=900) as here:
            sid = await open3(here)
            record = here.records[sid]
            statuses = []
            # More than can be in that time.
            for _ in range(1000):
                if record.end is not None:
                    break
                here.server.clients[sid].send("x")
                statuses.append((await post3(here, sid, "1:2")).status)
                await pause(0.01)
            assert (await record.closed())[0] == "ping timeout"
            assert set(statuses[:-1]) == {200}

    @pytest.mark.sockets
    @pytest_twisted.ensureDeferred
    async def test_pingsUnread(self, hostile: Hostile) -> None:
        """Over a WebSocket whose client doesn't read, they don't fill the server's memory either."""
        from twisted.internet import reactor

        async with hostile(allowEIO3=True, maxHttpBufferSize=100_000) as here:
            sid, wire = await webSocket3(here)
            wire.transport.pauseProducing()
            connection = here.server.clients[sid].transport.webSocket.transport
            socket = here.server.clients[sid]
            socket.send("x" * 20_000_000)
            pings = makeFrame("2") * 10_000
            for _ in range(20):
                wire.send(pings)
            await eventually(lambda: connection not in reactor.getReaders(), "the server to stop reading")
            assert here.records[sid].happened.count("heartbeat") < 50_000


class TestMismatch:
    """Requests of one revision to a session of the other, and of one that there isn't."""

    @pytest.mark.parametrize("revision", [3, 4])
    @pytest_twisted.ensureDeferred
    async def test_later(self, hostile: Hostile, revision: int) -> None:
        """A client can't change the revision in the middle of a session, which goes on."""
        async with hostile(allowEIO3=True) as here:
            sid = await (open3(here) if revision == 3 else here.open())
            others = ["4"] if revision == 3 else ["3", None, "", "2"]
            for other in others:
                for method, transport in (("GET", "polling"), ("POST", "polling"), ("GET", "websocket")):
                    where = target(sid=sid, EIO=other, transport=transport)
                    if transport == "websocket":
                        wire = await here.say(upgrade(where))
                        response = await wire.response()
                        assert await wire.lost() == b""
                    else:
                        response = await here.ask(http(method, where, body=b"4x" if method == "POST" else None))
                    assert response.status == 400
                    context = here.refusals[-1].context
                    assert context["name"] == "PROTOCOL_MISMATCH"
                    assert (context["protocol"], context["previousProtocol"]) == (7 - revision, revision)
            await (goesOn3 if revision == 3 else Arena.goesOn)(here, sid)

    @pytest.mark.parametrize("revision", [None, "", "3", "2", "5", "04", "four", "%00"])
    @pytest_twisted.ensureDeferred
    async def test_anythingElse(self, hostile: Hostile, revision: str | None) -> None:
        """Whatever isn't 4 is revision 3, on the handshake as later."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here, EIO=revision)
            assert here.server.clients[sid].protocol == 3
            await goesOn3(here, sid)

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_off(self, hostile: Hostile, transport: str) -> None:
        """Without allowEIO3 a client of revision 3 learns that: code 5."""
        async with hostile() as here:
            where = target(EIO=3, transport=transport)
            wire = await here.say(http("GET", where) if transport == "polling" else upgrade(where))
            response = await wire.response()
            assert response.status == 400
            if transport == "polling":
                assert response.json == {"code": 5, "message": "Unsupported protocol version"}
            else:
                assert response.body == b"Unsupported protocol version"
            assert here.refusals[-1].context == {"protocol": 3}


class TestOverlap:
    """Two requests at a time, and one that breaks off."""

    @pytest_twisted.ensureDeferred
    async def test_get(self, hostile: Hostile) -> None:
        """A second GET ends the session: the first is told so in revision 3."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            waiting = await poll3(here, sid)
            assert (await here.get(sid, EIO=3)).status == 400
            assert (await waiting.response()).body == b"1:1"
            assert (await here.records[sid].closed())[0] == "transport error"

    @pytest_twisted.ensureDeferred
    async def test_close(self, hostile: Hostile) -> None:
        """A close packet in the middle of a payload ends the session, and the waiting GET with a noop."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            for body in (text3("4x", "1", "4y"), element(b"4x") + element(b"1") + element(b"4y")):
                sid = await open3(here)
                waiting = await poll3(here, sid)
                assert (await post3(here, sid, body)).body == b"ok"
                assert (await waiting.response()).body == b"1:6"
                assert here.records[sid].messages == ["x"]

    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile) -> None:
        """A client that vanishes while it polls is noticed at once."""
        async with hostile(allowEIO3=True) as here:
            sid = await open3(here)
            (await poll3(here, sid)).drop()
            assert await here.records[sid].closed() == ("transport error", "poll connection closed prematurely")


# Any payload


def pieces(joined: Callable[[list[Any]], Any], *strategies: Any) -> Any:
    """Something that looks like a payload in places."""
    return st.lists(st.one_of(*strategies), max_size=8).map(joined)


someText = st.one_of(
    st.text(max_size=40),
    st.text(":0123456789b4😀", max_size=40),
    pieces("".join, st.sampled_from(["1:6", "2:4x", "3:4😀", "2:b4", ":", "0:"]), st.text(max_size=3)),
)
someBytes = st.one_of(
    st.binary(max_size=40),
    pieces(
        b"".join,
        st.sampled_from([element(b"4x"), GOOD, b"\0", b"\1", b"\xff", b"\x09"]),
        st.binary(max_size=3),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(someText, someBytes))
def test_anyPayload(payload: str | bytes) -> None:
    """Whatever comes, it is packets up to a place that isn't one, and nothing but DecodeError says so."""
    packets, error = read(payload)
    assert error is None or len(str(error)) < 1000
    assert all(isinstance(each.data, str) or each.type is PacketType.MESSAGE for each in packets)
    assert len(packets) <= len(payload)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=8), st.binary(max_size=8)))
def test_anyFrame(frame: str | bytes) -> None:
    """So it is with a frame."""
    try:
        packet = CodecV3().decodePacket(frame)
    except DecodeError:
        return
    assert CodecV3().encodePacket(packet, isinstance(frame, bytes)) == frame or isinstance(packet.data, bytes)


messages = st.builds(Packet, st.just(PacketType.MESSAGE), st.one_of(st.text(max_size=20), st.binary(max_size=20)))
others = st.builds(Packet, st.sampled_from(PacketType), st.text(max_size=20))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(messages, others), min_size=1, max_size=8), st.booleans())
def test_roundTrip(packets: list[Packet], supportsBinary: bool) -> None:
    """What is written is read."""
    codec = CodecV3()
    payload = codec.encodePayload(packets, supportsBinary)
    assert isinstance(payload, bytes) == (supportsBinary and any(isinstance(each.data, bytes) for each in packets))
    assert list(codec.decodePayload(payload)) == packets
    for each in packets:
        assert codec.decodePacket(codec.encodePacket(each, supportsBinary)) == each


@settings(max_examples=100, deadline=None)
@given(st.lists(messages, max_size=4), st.booleans(), st.integers(0, 10**6))
def test_cut(packets: list[Packet], isBinary: bool, where: int) -> None:
    """Of a payload that is cut somewhere all that is whole is read, and the rest is an error."""
    codec = CodecV3()
    # The first one decides for the beginnings of the payload as for all of it.
    packets = [Packet(PacketType.MESSAGE, b"\0"), *packets]
    payload = codec.encodePayload(packets, isBinary)
    wholes = [len(codec.encodePayload(packets[:count], isBinary)) for count in range(1, len(packets) + 1)]
    size = where % len(payload)
    whole, error = read(payload[:size])
    assert whole == packets[: sum(each <= size for each in wholes)]
    assert (error is None) == (size in wholes)
