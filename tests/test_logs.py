"""What clients can cause in the log: a line a second of each kind, and the number of those left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.static import Data

from engineio_twisted import listen, logs
from engineio_twisted.logs import LogThrottle, ThrottledLogger
from engineio_twisted.testing import MemoryServer

from .kit.engines import ENGINES
from .kit.memory import Memory
from .kit.resources import Rig, status
from .kit.wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Hostile, Wire, http, makeFrame, target, upgrade


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged, as text, but by what the clients of tests are made of."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        text = formatEvent(event) or str(event.get("log_failure"))
        if event["log_level"] >= LogLevel.info and not text.startswith(("Starting factory", "Stopping factory")):
            found.append(text)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def suppressedIn(lines: list[str]) -> int:
    """How many lines others say were left out."""
    return sum(int(each.rpartition(": ")[2].split(" ")[0]) for each in lines if each.endswith("were suppressed"))


# The throttle


def test_aLineASecond(lines: list[str]) -> None:
    """Of each kind the first line may be logged; how many more there were is one line when the second is over."""
    clock = Clock()
    throttle = LogThrottle(lambda: clock)
    assert [throttle.allows(each) for each in ("a", "b", "a", "a")] == [True, True, False, False]
    assert lines == []
    clock.advance(0.99)
    assert not throttle.allows("a")
    clock.advance(0.01)
    assert lines == ["a: 3 more lines were suppressed"]
    # That was the line of this second.
    assert not throttle.allows("a")
    assert throttle.allows("b")
    clock.advance(1)
    assert lines[1:] == ["a: 1 more lines were suppressed"]
    clock.advance(1)
    assert throttle.allows("a")
    assert clock.getDelayedCalls() == []


def test_aLateReactor(lines: list[str]) -> None:
    """A reactor that is late logs the number first, and there still is one line a second."""
    clock = Clock()
    throttle = LogThrottle(lambda: clock)
    throttle.allows("a")
    throttle.allows("a")
    clock.rightNow += 5
    assert not throttle.allows("a")
    clock.advance(0)
    assert lines == ["a: 2 more lines were suppressed"]
    clock.rightNow += 0.5
    assert not throttle.allows("a")


def test_aClockSetBack(lines: list[str]) -> None:
    """A clock that is set back keeps no line back for longer than a second."""
    clock = Clock()
    clock.rightNow = 1000.0
    throttle = LogThrottle(lambda: clock)
    throttle.allows("a")
    clock.rightNow = 10.0
    assert throttle.allows("a")


def test_flushing(lines: list[str]) -> None:
    """What is counted can be logged without waiting, as when a server closes; no timer stays."""
    clock = Clock()
    throttle = LogThrottle(lambda: clock)
    for _ in range(4):
        throttle.allows("a")
    throttle.allows("b")
    throttle.flush()
    throttle.flush()
    assert lines == ["a: 3 more lines were suppressed"]
    assert clock.getDelayedCalls() == []


def test_withoutAClock(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clock the number takes the place of the next line, and counts that one."""
    now = [0.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    throttle = LogThrottle()
    assert [throttle.allows("a") for _ in range(3)] == [True, False, False]
    now[0] = 1.5
    assert not throttle.allows("a")
    assert lines == ["a: 3 more lines were suppressed"]
    now[0] = 2.4
    assert not throttle.allows("a")
    now[0] = 4
    assert not throttle.allows("a")
    now[0] = 5
    assert throttle.allows("a")
    throttle.allows("a")
    throttle.flush()
    assert lines[1:] == ["a: 2 more lines were suppressed", "a: 1 more lines were suppressed"]


def test_loggersOfOthers(lines: list[str], monkeypatch: pytest.MonkeyPatch, loggedErrors: list[LogEvent]) -> None:
    """A logger for code of others throttles by format, and lets errors pass."""
    monkeypatch.setattr(ThrottledLogger, "throttle", LogThrottle())

    class Chatty:
        log = ThrottledLogger()

    for number in range(3):
        Chatty().log.info("hello {number}", number=number)
        Chatty().log.warn("bye")
        Chatty().log.error("broken")
    assert sorted(lines) == ["broken", "broken", "broken", "bye", "hello 0"]
    assert {each["log_namespace"] for each in loggedErrors} == {f"{__name__}.Chatty"}
    loggedErrors.clear()


# WebSockets


BROKEN = {
    "a reserved opcode": (makeFrame(b"", 3), 1002),
    "a reserved bit": (makeFrame("4a", reserved=2), 1002),
    "no mask": (makeFrame("4a", isMasked=False), 1002),
    "a continuation of nothing": (makeFrame(b"4a", CONTINUATION), 1002),
    "a message within another": (makeFrame("4a", isFinal=False) + makeFrame("4b"), 1002),
    "a ping in pieces": (makeFrame(b"", PING, isFinal=False), 1002),
    "a long ping": (makeFrame(b"x" * 126, PING), 1002),
    "a close code that is none": (makeFrame(b"\3\xec", CLOSE), 1002),
    "half a close code": (makeFrame(b"\3", CLOSE), 1002),
    "text that is not UTF-8": (makeFrame(b"4\xff", TEXT), 1007),
    "text that is not UTF-8, in pieces": (makeFrame(b"4\xff", TEXT, isFinal=False), 1007),
    "a reason that is not UTF-8": (makeFrame(b"\3\xe8\xff", CLOSE), 1007),
    "too large": (makeFrame("4" + "x" * 2000), 1009),
    "too large, in pieces": (makeFrame("4" + "x" * 900, isFinal=False) + makeFrame(b"x" * 900, CONTINUATION), 1009),
    "too large by what it says": (makeFrame(b"4", BINARY, length=2**40), 1009),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_brokenWebSockets(hostile: Hostile, lines: list[str], engine: Any, what: str) -> None:
    """Ten that break the protocol in one way are one line, which names the session, and the number of the others."""
    async with hostile(wsEngine=engine, maxHttpBufferSize=1000) as here:
        lines.clear()
        broken, code = BROKEN[what]
        reasons = []
        for _ in range(10):
            wire = await here.webSocket(upgrade(), broken)
            await wire.text()
            frame = await wire.frame()
            assert frame.code == code
            reasons.append(frame.payload[2:].decode())
            wire.drop()
        names = [each.socket.logName for each in here.records.values()]
        if code == 1009:
            assert set(reasons) == {"a message is larger than maxHttpBufferSize, 1000 bytes"}
        here.server._counters.throttle.flush()
        said = [each for each in lines if "suppressed" not in each]
        # It takes a second or two; in each there is one line, or one number.
        assert len(said) + suppressedIn(lines) == 10
        for line in said:
            found = line.removeprefix("WebSocket of session ").split(" ")[0]
            assert found in names
            assert f" closed with {code}: " in line
            assert code != 1009 or line.endswith(reasons[0])
        assert len(lines) < 10


@pytest.mark.parametrize("engine", ENGINES)
def test_brokenWebSocketsInOneSecond(lines: list[str], engine: Any) -> None:
    """On a clock: a line for the first in a second, and one for the others when it is over."""
    with MemoryServer(lambda server: None, wsEngine=engine, maxHttpBufferSize=100) as kit:
        clients = [kit.connect("websocket") for _ in range(200)]
        for client in clients:
            client.send("x" * 200)
        assert len(lines) == 1
        kit.advance(1)
        assert lines[1:] == ["WebSockets closed with 1009: 199 more lines were suppressed"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_webSocketsThatSayWeAreWrong(hostile: Hostile, lines: list[str], engine: Any) -> None:
    """What a client says in its close frame is in no line of the log."""
    async with hostile(wsEngine=engine) as here:
        for code in (1000, 1002, 1007, 1009, 1011, 3000):
            wire = await here.webSocket(upgrade(), makeFrame(code.to_bytes(2) + b"\nan entry of mine", CLOSE))
            await wire.text()
            await wire.closed()
        assert [each for each in lines if "entry" in each] == []


# What else a client can cause


def test_messagesThatAreNotSent(lines: list[str]) -> None:
    """What is broadcast to clients that take nothing is a line a second, however many they are."""
    rig = Rig(maxBufferedPackets=1, bufferLimitAction="raise")
    for _ in range(5):
        rig.open()
    for _ in range(3):
        rig.server.broadcast("x")
    rig.clock.advance(1)
    assert lines[0].startswith("Session ")
    assert "maxBufferedPackets" in lines[0]
    assert lines[1:] == ["maxBufferedPackets: 9 more lines were suppressed"]


def test_faultsOfOurs(lines: list[str], loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that we fail to answer is 500, and logged once a second for each kind of failure."""
    problems = [ZeroDivisionError(), ZeroDivisionError(), KeyError()]

    def fail(*args: Any) -> None:
        raise problems.pop(0)

    rig = Rig()
    monkeypatch.setattr(rig.server._router, "_classify", fail)
    for _ in range(3):
        connection = rig.connect(b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status(connection) == 500
    assert [each["log_failure"].type for each in loggedErrors] == [ZeroDivisionError, KeyError]
    loggedErrors.clear()
    rig.clock.advance(1)
    assert lines[-1] == "internal errors, ZeroDivisionError: 1 more lines were suppressed"


@pytest.mark.parametrize("engine", ENGINES)
def test_webSocketsThatFail(engine: Any, lines: list[str], loggedErrors: list[LogEvent]) -> None:
    """So are WebSockets that we fail to open: before the 101 is written, or as the session begins."""
    memory = Memory(wsEngine=engine)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    memory.server._factory.open = fail  # type: ignore[method-assign]
    for _ in range(5):
        memory.connect(upgrade())
    assert len(loggedErrors) == 1
    memory.server._webSockets.accept = fail
    for _ in range(5):
        assert b" 500 " in memory.connect(upgrade()).taken()
    assert [each["log_failure"].type for each in loggedErrors] == [ZeroDivisionError] * 2
    loggedErrors.clear()
    memory.advance(1)
    assert sorted(lines[-2:]) == [
        "WebSockets that failed as they began: 4 more lines were suppressed",
        "internal errors, ZeroDivisionError: 4 more lines were suppressed",
    ]
    memory.end()


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 a b",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 ",
        b"PROXY TCP4 \xff 192.0.2.1 1 2",
        b"PROXY TCP6 ::1 \xff 1 2",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 x",
        b"PROXY TCP4 192.0.2.7",
        b"PROXY NOTHING 192.0.2.7 192.0.2.1 1 2",
        b"nothing of this",
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrongHeadersOfTheProxyProtocol(header: bytes, lines: list[str]) -> None:
    """A connection whose PROXY header is wrong is closed, and nothing is logged; one with a right header is served."""
    from twisted.internet import reactor

    server = listen("haproxy:tcp:0:interface=127.0.0.1")
    port = (await server.listening).getHost().port
    wires = [
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), each) for each in (Wire(), Wire(), Wire())
    ]
    *wrong, right = wires
    request = http("GET", target())
    for each in wrong:
        each.send(header + b"\r\n" + request)
    right.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" + request)
    assert [await each.lost() for each in wrong] == [b"", b""]
    assert (await right.response()).status == 200
    (session,) = server.clients.values()
    assert session.remoteAddress == "192.0.2.7"
    await server.close()
    await right.lost()
    assert [each for each in lines if "starting on" not in each and "Port" not in each] == []


def test_closingTheServer(lines: list[str]) -> None:
    """A server that closes logs what was suppressed, and leaves no timer behind."""
    rig = Rig(maxUrlLength=100)
    for _ in range(3):
        rig.connect(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 200)).lose()
    rig.server.close()
    assert lines[-1] == "maxUrlLength: 2 more lines were suppressed"


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_methods(lines: list[str], monkeypatch: pytest.MonkeyPatch, method: bytes) -> None:
    """What twisted.web says of a request by HEAD is said once a second."""
    monkeypatch.setattr(ThrottledLogger, "throttle", LogThrottle())
    rig = Rig()
    rig.site.resource.putChild(b"page", Data(b"a page", "text/plain"))  # type: ignore[attr-defined]
    rig.site.resource.putChild(b"get", OnlyGET())  # type: ignore[attr-defined]
    for _ in range(5):
        for path in (b"page", b"get"):
            assert status(rig.connect(b"%b /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, path))) == 200
    assert len(lines) == (method == b"HEAD")


class OnlyGET(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"a page"

    # Resource has one.
    render_HEAD = property()  # type: ignore[assignment]
