"""Which scopes DEBUG shows, and what they show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from twisted.internet.task import Clock

from engineio_twisted import Server
from engineio_twisted.logs import DebugScope
from engineio_twisted.testing import MemoryServer

SCOPES = ["engine", "engine:socket", "engine:polling", "engine:ws"]


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("", []),
        ("*", SCOPES),
        ("engine*", SCOPES),
        ("engine", ["engine"]),
        ("engine:ws,engine:socket", ["engine:socket", "engine:ws"]),
        ("engine:ws engine", ["engine", "engine:ws"]),
        ("engine*,-engine:socket", ["engine", "engine:polling", "engine:ws"]),
        ("-engine:socket,*", ["engine", "engine:polling", "engine:ws"]),
        ("-*,*", []),
        ("other,socket", []),
        (" , ,", []),
    ],
)
def test_scopes(wanted: str, shown: list[str]) -> None:
    """Comma lists, wildcards and exclusions."""
    assert [each for each in SCOPES if DebugScope(each, wanted).enabled] == shown


def test_notWanted(capsys: pytest.CaptureFixture[str]) -> None:
    """A scope that nobody asked for writes nothing."""
    DebugScope("engine:ws", "engine").log("something")
    assert capsys.readouterr() == ("", "")


def test_onlyWhatIsWantedIsObserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without DEBUG a server has no observer; with it, messages have one only if packets are shown."""
    counted = {}
    for wanted in ("", "engine", "engine:socket", "engine:polling", "engine*"):
        monkeypatch.setenv("DEBUG", wanted)
        counters = Server(reactor=Clock())._counters
        counted[wanted] = [len(getattr(counters, each)) for each in ("observers", "stateObservers", "trafficObservers")]
    assert counted == {
        "": [0, 0, 0],
        "engine": [1, 0, 0],
        "engine:socket": [1, 1, 0],
        "engine:polling": [1, 0, 1],
        "engine*": [3, 1, 1],
    }


def test_theLinesOfASession(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in the order in which it happens; what is refused is there without its query."""
    monkeypatch.setenv("DEBUG", "engine*")
    server = Server(reactor=Clock())
    server.on("connection", lambda socket: socket.on("message", socket.send))
    kit = MemoryServer(server)
    client = kit.connect()
    client.send(b"12345")
    client.close()
    kit.request("GET", "/engine.io/?EIO=4&transport=polling&sid=secret")
    kit.close()
    shown = capsys.readouterr().err.replace(f"{client.sid[:6]}…", "ID")
    assert [each for each in shown.splitlines() if ": sending open, " not in each] == [
        "engine:socket ID: opening -> open",
        "engine:socket ID: nothing -> the next ping",
        "engine session ID opened on polling",
        "engine:socket ID: no upgrade -> a WebSocket is there",
        "engine:ws ID: received ping, 5 characters",
        "engine:socket ID: a WebSocket is there -> the WebSocket was tried out",
        "engine:ws ID: sending pong, 5 characters",
        # To the GET that waited.
        "engine:polling ID: sending noop, 0 characters",
        "engine:ws ID: received upgrade, 0 characters",
        "engine:socket ID: the WebSocket was tried out -> upgraded",
        "engine:ws ID: received message, 5 bytes",
        "engine:ws ID: sending message, 5 bytes",
        "engine:socket ID: open -> closed",
        "engine:socket ID: the next ping -> nothing",
        "engine refused b'GET' b'/engine.io/': UNKNOWN_SID",
    ]


def test_log(capsys: pytest.CaptureFixture[str]) -> None:
    """A line on stderr with the scope's name."""
    DebugScope("engine:ws", "*").log("something")
    assert capsys.readouterr() == ("", "engine:ws something\n")


SESSION = """
from twisted.internet.task import Clock
from engineio_twisted import Server
from tests.kit.fakes import FakeRequest
server = Server(reactor=Clock())
server.handleRequest(FakeRequest(uri=b"/engine.io/"))
server.handleRequest(FakeRequest())
server.handleRequest(FakeRequest(uri=b"/engine.io/?EIO=4&transport=polling&sid=" + next(iter(server.clients)).encode()))
server.close()
"""


@pytest.mark.parametrize("wanted", ["", "engine*", "engine:socket"])
def test_whatIsShown(wanted: str) -> None:
    """The life of a session, for the scopes that were asked for; without DEBUG, nothing."""
    environment = {**os.environ, "DEBUG": wanted}
    result = subprocess.run(
        [sys.executable, "-c", SESSION], env=environment, capture_output=True, text=True, check=True
    )
    lines = result.stderr.splitlines()
    assert {line.split(" ")[0] for line in lines} == {
        "": set(),
        "engine*": {"engine", "engine:socket", "engine:polling"},
        "engine:socket": {"engine:socket"},
    }[wanted]
    if wanted:
        assert any("opening -> open" in line for line in lines)
        assert any("open -> closed" in line for line in lines)
