"""
RFC 6455 and RFC 7692, section by section: what a client may and may not say, and what has to come of it.

Every case of the list is played against a whole server: with our own engine, which is Autobahn's, and with Twisted's
own WebSocket where that can do it. What the client says comes in one piece, octet by octet, and cut at odd places; and
once more over real sockets. docs/rfc6455.md is made of the list: C{python -m tests.transports.test_rfc6455} writes it.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from engineio_twisted import AutobahnEngine
from engineio_twisted.ends import CLOSE_TIMEOUT

from ..kit.engines import TwistedEngine
from ..kit.memory import Memory
from ..kit.rfc6455 import (
    BYE,
    CASES,
    DEVIATIONS,
    LIMIT,
    OPEN,
    OPENINGS,
    RSV1,
    TAIL,
    TITLES,
    Case,
    Opening,
    asks,
    cuts,
    named,
)
from ..kit.wire import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    Wire,
    connectTo,
    eventually,
    framesOf,
    makeFrame,
    takeFrame,
    within,
)

pytestmark = pytest.mark.no_cover


def optionsOf(case: Case | None) -> tuple[tuple[str, Any], ...]:
    if case is None or not case.deflate:
        return ()
    deflate = case.deflate
    return (("perMessageDeflate", tuple(deflate.items()) if isinstance(deflate, dict) else deflate),)


WAYS: dict[str, dict[str, Any]] = {
    "Autobahn": {"wsEngine": AutobahnEngine},
    "Twisted": {"wsEngine": TwistedEngine},
}
ENGINES_THERE = {name: way for name, way in WAYS.items() if way["wsEngine"] is not None}


def applies(way: str, case: Case | Opening) -> bool:
    """Whether a case can be played: Twisted's engine can't compress."""
    return way != "Twisted" or not isinstance(case, Case) or not case.deflate


def dictOf(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, tuple) else value for name, value in options}


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str, Case | None], Memory]]:
    """The server of a way, with the options of a case: one for all cases that have the same."""

    @functools.cache
    def made(way: str, options: tuple[tuple[str, Any], ...]) -> Memory:
        memory = Memory(maxHttpBufferSize=LIMIT, **WAYS[way], **dictOf(options))
        there.append(memory)
        return memory

    there: list[Memory] = []
    yield lambda way, case: made(way, optionsOf(case))
    for each in there:
        assert not each.server.clients
        # What was not logged in this second is counted in the next.
        each.clock.advance(1)
        assert each.clock.getDelayedCalls() == []


def headOf(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status and the headers of an answer, and what is behind them."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, data
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    assert len(headers) == len(lines), f"a header twice: {lines}"
    return int(line.split(" ")[1]), headers, rest


def requestOf(case: Case) -> bytes:
    return asks(*([] if case.offer is None else [("Sec-WebSocket-Extensions", case.offer)]))


STILL = makeFrame(b"still there")
END = STILL + BYE
"""What a client says at last: it shows that the WebSocket is open, or that nothing is read any more."""


def inflated(frames: list[Frame], agreed: str | None) -> list[Frame]:
    """The frames as the client reads them: inflated, with what was agreed on and nothing more."""
    words = (agreed or "").replace("=", " ").replace(";", " ").split()
    bits = int(words[words.index("server_max_window_bits") + 1]) if "server_max_window_bits" in words else 15
    unpacking = zlib.decompressobj(-bits)
    read = []
    for frame in frames:
        if frame.reserved == RSV1:
            assert agreed is not None, "a compressed message that wasn't agreed on"
            assert frame.opcode in (TEXT, BINARY)
            frame = attrs.evolve(frame, payload=unpacking.decompress(frame.payload + TAIL))
            assert not unpacking.unconsumed_tail
            if "server_no_context_takeover" in words:
                unpacking = zlib.decompressobj(-bits)
        read.append(frame)
    return read


def judge(case: Case, way: str, data: bytes) -> None:
    """Make sure that what a server sent, from its 101 to the end, is what has to come of a case."""
    status, headers, rest = headOf(data)
    assert status == 101
    agreed = headers.get("sec-websocket-extensions")
    assert agreed == case.agreed
    frames = inflated(framesOf(rest), agreed)
    assert all(each.isFinal for each in frames)
    opened, *frames = frames
    assert opened.text[:8] == '0{"sid":'
    code = case.twisted if way == "Twisted" else case.code
    expected = list(case.answers)
    if code == OPEN:
        still = Frame(BINARY, b"still there")
        deflate = case.deflate if isinstance(case.deflate, dict) else {}
        isPacked = agreed is not None and deflate.get("threshold", 1024) == 0
        expected.append(attrs.evolve(still, reserved=RSV1) if isPacked else still)
        code = 1000
    assert frames, "no close frame"
    *frames, last = frames
    assert last.opcode == CLOSE, f"{last} instead of a close frame"
    assert last.code == code, last
    last.payload[2:].decode()
    assert frames == expected


def play(memory: Memory, way: str, case: Case, pieces: list[bytes]) -> int | None:
    """Play a case, and return how many octets had been read when the close frame came, where they come one by one."""
    connection = memory.connect(requestOf(case))
    before = len(connection.value())
    place = None
    if len(pieces) > 1 and case.code != OPEN:
        for count, piece in enumerate(pieces, 1):
            connection.say(piece)
            if place is None and connection.value()[before:].find(b"\x88") >= 0:
                place = count
    else:
        connection.say(*pieces)
    connection.say(END)
    if not connection.isLost:
        # The client's close frame was in the middle of what was wrong: then it is cut off in time.
        assert case.code != OPEN
        memory.advance(CLOSE_TIMEOUT)
    assert connection.isLost
    judge(case, way, connection.value())
    memory.connections.remove(connection)
    memory.advance(0)
    assert not memory.server.clients
    assert not len(memory.server._webSockets.connections)
    return place


class Failures:
    """Of many cases in one test, those that fail, with their names: one that does hides no other."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self._found.append(f"{name}: {str(error)[:500]}")

    def check(self) -> None:
        assert not self._found, "\n".join(self._found)


@pytest.mark.parametrize("way", ENGINES_THERE)
@pytest.mark.parametrize("section", sorted({each.section for each in CASES}))
def test_frames(servers: Callable[[str, Case], Memory], way: str, section: str) -> None:
    """What has to come of what a client says does, however it is cut into pieces."""
    failures = Failures()
    for case in CASES:
        if case.section != section or not applies(way, case):
            continue
        for cut, pieces in cuts(case.sent).items():
            if not pieces:
                continue
            with failures.of(f"{case.name}, {cut}"):
                place = play(servers(way, case), way, case, pieces)
                if cut == "octets" and case.at is not None:
                    assert (place or 0) in range(1, case.at + 1), f"closed at octet {place}, not {case.at}"
    failures.check()


@pytest.mark.parametrize("way", ENGINES_THERE)
@pytest.mark.parametrize("section", sorted({each.section for each in OPENINGS}))
def test_openings(servers: Callable[[str, Case | None], Memory], way: str, section: str) -> None:
    """An opening handshake that is right opens a WebSocket; one that isn't is refused."""
    memory = servers(way, None)
    failures = Failures()
    for opening in OPENINGS:
        if opening.section != section:
            continue
        with failures.of(opening.name):
            connection = memory.connect(opening.request)
            status, headers, _ = headOf(connection.value())
            assert status == opening.status
            found = {name: headers.get(name) for name in opening.headers}
            if found.get("upgrade"):
                found["upgrade"] = found["upgrade"].lower()
            assert found == opening.headers
            if status == 101:
                connection.say(END)
                assert connection.isLost
        connection.lose()
        memory.connections.remove(connection)
    failures.check()
    assert not memory.server.clients


@pytest.mark.parametrize("way", ENGINES_THERE)
@pytest_twisted.ensureDeferred
async def test_overSockets(serve: Any, way: str) -> None:
    """The same comes of all of it over real connections, several at a time."""
    failures = Failures()
    byOptions: dict[Any, list[Case]] = {}
    for case in CASES:
        if applies(way, case) and case.deviation != "behind":
            byOptions.setdefault(optionsOf(case), []).append(case)
    for options, cases in byOptions.items():
        running = await serve(echoing, maxHttpBufferSize=LIMIT, **WAYS[way], **dictOf(options))
        waiting = iter(cases)

        async def client(port: int, waiting: Iterator[Case] = waiting) -> None:
            for case in waiting:
                data = await saidOverASocket(port, case, way)
                with failures.of(f"{case.section}, {case.name}"):
                    judge(case, way, data)

        await gatherResults([Deferred.fromCoroutine(client(running.port)) for _ in range(8)])
        await eventually(lambda running=running: not running.server.clients, "the end of all sessions")
        assert await within(running.server.close(), "the end of the server") is None
    failures.check()


def echoing(server: Any) -> None:
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data) and None) and None)


async def saidOverASocket(port: int, case: Case, way: str) -> bytes:
    """What a server sends to a client that says all that a case has."""
    wire: Wire = await connectTo(port)
    if (case.twisted if way == "Twisted" else case.code) == OPEN:
        # It reads before it closes: what a client doesn't take until then is dropped.
        wire.send(requestOf(case) + case.sent + STILL)
        wanted = 1 + len(case.answers) + 1
        await wire.until(lambda: wire.isLost or isClosed(wire.received, wanted), "all answers")
        wire.send(BYE)
    else:
        wire.send(requestOf(case) + case.sent + END)
    # Where a frame is longer than what is sent, nobody can tell the close frame behind it: the client lets go.
    while not wire.isLost and not isClosed(wire.received):
        seen = len(wire.received)
        await wire.until(lambda seen=seen: wire.isLost or len(wire.received) > seen, "more")
    data = bytes(wire.received)
    wire.drop()
    await wire.lost()
    return data


def isClosed(data: bytes | bytearray, frames: float = math.inf) -> bool:
    """Whether what a server sent ends with a close frame, or has so many frames."""
    rest = bytearray(bytes(data).partition(b"\r\n\r\n")[2])
    count = 0
    while (found := takeFrame(rest)) is not None:
        count += 1
        if found.opcode == CLOSE or count == frames:
            return True
    return False


# The page

PAGE = Path(__file__).parents[2] / "docs" / "rfc6455.md"


PREFACE = """\
# RFC 6455, section by section

This page lists how the WebSocket engines of the server follow RFC 6455, and RFC 7692 for compression.

`tests/kit/rfc6455.py` has a list of cases written from both RFCs: exact bytes of the client, exact frames of the
server. They cover what the Autobahn test suite covers, which needs Python 2. `tests/transports/test_rfc6455.py` plays
each case with each engine, and generates this page. `tests/protocol/test_frames.py` plays the cases of sections 5 to 8
and 10.4 against the reader of frames alone.

A whole server with an echo application plays the cases in memory. The client's bytes come in one piece, byte by byte,
and split at odd places. Invalid UTF-8 closes the WebSocket no later than at the byte that makes it invalid. All cases
except those of the opening handshake are played over real sockets too. Text begins with `4`, the number of a message of
Engine.IO.

There are {cases} cases. The columns say how many each engine passes: `AutobahnEngine`, the default, and
`TwistedEngine`, which cannot compress.

| section | | cases | Autobahn | Twisted |
| --- | --- | ---: | ---: | ---: |
"""


def page() -> str:
    """The text of docs/rfc6455.md."""
    counts: dict[str, Counter[str]] = {section: Counter() for section in TITLES}
    for each in (*CASES, *OPENINGS):
        counts[each.section].update(way for way in WAYS if applies(way, each))
        counts[each.section]["cases"] += 1
    lines = PREFACE.format(cases=len(CASES) + len(OPENINGS)).splitlines()
    for section, title in TITLES.items():
        number = section.split(" ")[0] if section.startswith("5.2 ") else section
        passed = " | ".join(f"{counts[section][way]}" if counts[section][way] else "" for way in WAYS)
        lines.append(f"| {number} | {title} | {counts[section]['cases']} | {passed} |".replace("  ", " "))
    lines += ["", "## Deviations", "", "These cases expect another result than the RFCs:", ""]
    for name, why in DEVIATIONS.items():
        number = sum(each.deviation == name for each in (*CASES, *OPENINGS))
        lines += wrap(f"- {why} {number} {'case' if number == 1 else 'cases'}.", 120, subsequent_indent="  ")
    return "\n".join([*lines, ""])


def test_page() -> None:
    """The page is what the list is; C{python -m tests.transports.test_rfc6455} writes it anew."""
    assert PAGE.read_text() == page()


def test_theListIsWhole() -> None:
    """Each section has cases, each case a section, a name of its own, and an explanation where it deviates."""
    everything: list[Case | Opening] = [*CASES, *OPENINGS]
    assert {each.section for each in everything} == set(TITLES)
    assert [name for name, count in Counter(map(named, everything)).items() if count > 1] == []
    assert {each.deviation for each in everything} - {None} == set(DEVIATIONS)
    # Only what is explained is another with Twisted's engine.
    assert all(each.deviation is not None for each in CASES if each.twisted not in (each.code, OPEN))


if __name__ == "__main__":
    PAGE.write_text(page())
