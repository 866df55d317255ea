"""Every state of a client, and every input in it: packets, losses, statuses, time, and calls of the application."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from twisted.internet.defer import succeed
from twisted.logger import LogEvent

from engineio_twisted.client import ConnectionFailed

from ..kit.client_servers import OPEN, UPGRADABLE, WEBSOCKET, Peer, ScriptedServer, answer, frame
from ..kit.client_stories import Story, telling
from ..kit.wire import BINARY, CLOSE

PROBED = {b"2probe": frame("3probe")}
RESUMABLE = OPEN[:-1] + b',"resume":{"timeout":20000,"packets":100,"bytes":100000}}'
RETURNED = OPEN[:-1] + b',"resume":{"timeout":20000,"packets":100,"bytes":100000,"received":0}}'


def _polling(**how: Any) -> ScriptedServer:
    return ScriptedServer([answer(OPEN)], **how)


def _upgradable(*webSockets: bytes) -> ScriptedServer:
    return ScriptedServer([answer(UPGRADABLE)], webSockets=webSockets, frames=PROBED)


def _webSocket() -> ScriptedServer:
    return ScriptedServer(webSockets=[WEBSOCKET + frame(OPEN.decode())], closes=False)


def _moves(story: Story) -> None:
    story.server.poll.say(answer(b"6"))
    story.advance(0)
    assert story.client.upgraded


def _resumable(*gets: bytes, first: bytes = RESUMABLE) -> ScriptedServer:
    return ScriptedServer([answer(first), b"", *gets], webSockets=[WEBSOCKET + frame(first.decode())], closes=False)


def _loses(story: Story) -> None:
    story.connect()
    story.client.send("kept")
    story.advance(0)
    for each in story.server.peers:
        if not each.isLost:
            each.cut()
    story.advance(0.1)
    assert "suspend" in story.names()
    assert story.client.readyState == "open"


STATES: dict[str, tuple[Callable[[], ScriptedServer], list[str], Callable[[Story], object]]] = {
    "new": (ScriptedServer, ["polling"], lambda story: setattr(story, "connecting", succeed(None))),
    "connecting": (
        ScriptedServer,
        ["polling"],
        lambda story: (setattr(story.endpoint, "isReachable", False), story.connect()),
    ),
    "connecting by WebSocket": (
        ScriptedServer,
        ["websocket"],
        lambda story: (setattr(story.endpoint, "isReachable", False), story.connect()),
    ),
    "asked": (ScriptedServer, ["polling"], lambda story: story.connect()),
    "asked by WebSocket": (lambda: ScriptedServer(webSockets=[b""]), ["websocket"], lambda story: story.connect()),
    "WebSocket open": (lambda: ScriptedServer(webSockets=[WEBSOCKET]), ["websocket"], lambda story: story.connect()),
    "polling": (_polling, ["polling"], lambda story: story.connect()),
    "posting": (
        lambda: _polling(posts=[b"", b""]),
        ["polling"],
        lambda story: (story.connect(), story.client.send("first")),
    ),
    "paused": (_polling, ["polling"], lambda story: (story.connect(), story.client.pauseReceiving())),
    "WebSocket": (_webSocket, ["websocket"], lambda story: story.connect()),
    "WebSocket paused": (_webSocket, ["websocket"], lambda story: (story.connect(), story.client.pauseReceiving())),
    "probing": (lambda: _upgradable(b""), ["polling", "websocket"], lambda story: story.connect()),
    "pinged": (
        lambda: ScriptedServer([answer(UPGRADABLE)], webSockets=[WEBSOCKET]),
        ["polling", "websocket"],
        lambda story: story.connect(),
    ),
    "probed": (lambda: _upgradable(WEBSOCKET), ["polling", "websocket"], lambda story: story.connect()),
    "upgraded": (
        lambda: _upgradable(WEBSOCKET),
        ["polling", "websocket"],
        lambda story: (story.connect(), _moves(story)),
    ),
    "closing": (
        lambda: _polling(posts=[b""]),
        ["polling"],
        lambda story: (story.connect(), story.client.close()),
    ),
    "closing with a message": (
        lambda: _polling(posts=[b"", b""]),
        ["polling"],
        lambda story: (story.connect(), story.client.send("first"), story.client.close()),
    ),
    "closing by WebSocket": (_webSocket, ["websocket"], lambda story: (story.connect(), story.client.close())),
    "closing while probed": (
        lambda: _upgradable(WEBSOCKET),
        ["polling", "websocket"],
        lambda story: (story.connect(), story.client.close()),
    ),
    "resumable": (_resumable, ["polling"], lambda story: story.connect()),
    "resumable by WebSocket": (_resumable, ["websocket"], lambda story: story.connect()),
    "returning": (_resumable, ["polling"], _loses),
    "returning by WebSocket": (_resumable, ["websocket"], _loses),
    "suspended": (lambda: _resumable(answer(b"", "502 Bad")), ["polling"], _loses),
    "returned": (
        lambda: _resumable(answer(RETURNED)),
        ["polling"],
        lambda story: (_loses(story), story.advance(0.1)),
    ),
    "suspended and paused": (
        _resumable,
        ["polling"],
        lambda story: (_loses(story), story.client.pauseReceiving()),
    ),
    "closed": (_polling, ["polling"], lambda story: (story.connect(), story.client.close(), story.advance(4))),
}
"""How a client comes into each state: its server, its transports, and what happens."""


def _peers(story: Story, wanted: Callable[[Peer], bool]) -> list[Peer]:
    return [each for each in story.server.peers if not each.isLost and each.asked is not None and wanted(each)]


def on(kind: str, what: Callable[[Peer], object]) -> Callable[[Story], object]:
    """Do something on the connections of a kind, if there are any."""

    def do(story: Story) -> None:
        for each in _peers(story, lambda each: (each.asked.method if not each.isWebSocket else "WS") == kind):  # type: ignore[union-attr]
            what(each)

    return do


def _connectAgain(story: Story) -> None:
    """Connect a client, which may be told how that is done."""
    told: list[Any] = []
    with suppress(RuntimeError):
        story.client.connect().addErrback(told.append)
    for each in told:
        each.trap(ConnectionFailed)


PACKETS = ["0", OPEN.decode(), "1", "2", "2probe", "3", "3probe", "4evil", "5", "6", "7", ""]
CALLS: dict[str, Callable[[Story], object]] = {
    "send": lambda story: story.client.send("x"),
    "sendAll": lambda story: story.client.sendAll(["x", b"y"]),
    "close": lambda story: story.client.close(),
    "discard": lambda story: story.client.close(discard=True),
    "pauseReceiving": lambda story: story.client.pauseReceiving(),
    "resumeReceiving": lambda story: story.client.resumeReceiving(),
    "cancel": lambda story: story.connecting.cancel(),
    "connect": _connectAgain,
    "reconnect": lambda story: story.client.reconnect(),
}
INPUTS: dict[str, Callable[[Story], object]] = {
    **{
        f"{each[:7]!r} by GET": on("GET", lambda peer, each=each: peer.say(answer(each.encode())))  # type: ignore[misc]
        for each in PACKETS
    },
    **{
        f"{each[:7]!r} by WebSocket": on("WS", lambda peer, each=each: peer.say(frame(each)))  # type: ignore[misc]
        for each in PACKETS
    },
    "binary by WebSocket": on("WS", lambda peer: peer.say(frame(b"evil", BINARY))),
    "close frame": on("WS", lambda peer: peer.say(frame(b"\x03\xe8", CLOSE))),
    "bad frame": on("WS", lambda peer: peer.say(b"\xff\xff\xff")),
    **{
        f"{status} to {kind}": on(kind, lambda peer, status=status: peer.say(answer(b"", status)))  # type: ignore[misc]
        for kind in ("GET", "POST")
        for status in ("200 OK", "400 Bad", "502 Bad")
    },
    **{f"end of {kind}": on(kind, lambda peer: peer.finish()) for kind in ("GET", "POST", "WS")},
    **{f"reset of {kind}": on(kind, lambda peer: peer.cut()) for kind in ("GET", "POST", "WS")},
    "12 s": lambda story: story.advance(12),
    "50 s": lambda story: story.advance(50),
    **CALLS,
}


def assertInput(state: str, given: str) -> None:
    make, transports, reach = STATES[state]
    with telling(make(), transports=transports, resume=True) as story:
        reach(story)
        story.advance(0)
        before, count = story.client.readyState, len(story.happened)
        INPUTS[given](story)
        story.advance(0.1)
        after = story.client.readyState
        if before == "closed":
            assert (after, len(story.happened)) == (before, count)
        if after == "closed" and story.result is story.client:
            assert len(story.all("close")) == 1
        if "close" in story.names() or state in ("new", "connecting"):
            assert story.messages() == [] or before == "open"
        # The session still works, or is over.
        if after == "open" and story.client.transport.name == "websocket":
            story.client.resumeReceiving()
            story.advance(0.1)
        isThere = len(story.all("suspend")) == len(story.all("resume")) and story.client.readyState == "open"
        if after == "open" and isThere and story.client.transport.name == "websocket":
            on("WS", lambda peer: peer.say(frame("4works")))(story)
            story.advance(0.1)
            assert story.messages()[-1:] == ["works"], story.happened


@pytest.mark.parametrize("state", STATES)
def test_input(state: str, loggedErrors: list[LogEvent]) -> None:
    """Whatever comes in whatever state: nothing is raised or logged, and nothing is left when the client is closed."""
    for given in INPUTS:
        try:
            assertInput(state, given)
            assert loggedErrors == []
        except BaseException as error:
            error.add_note(f"input: {given}")
            raise


@pytest.mark.parametrize("state", STATES)
def test_calls(state: str, loggedErrors: list[LogEvent]) -> None:
    """Two calls one after the other, in each state."""
    make, transports, reach = STATES[state]
    for first, second in product(CALLS, CALLS):
        try:
            with telling(make(), transports=transports, resume=True) as story:
                reach(story)
                story.advance(0)
                CALLS[first](story)
                CALLS[second](story)
                story.advance(0.1)
            assert loggedErrors == []
        except BaseException as error:
            error.add_note(f"calls: {first}, {second}")
            raise
