"""Which scopes DEBUG shows, and what they show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engineio_twisted.logs import DebugScope

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
