"""What the terminal tool prints of each event, for people and for scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.web.http_headers import Headers

from engineio_twisted.client.errors import ConnectionFailed, FailedResponse, FailureType
from engineio_twisted.client.report import KINDS, asJSON, asLine, event, failureEvent, faultEvent, messageEvent


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (event("connecting", url="http://h/"), "* connecting to http://h/"),
        (
            event(
                "open",
                transport="polling",
                milliseconds=12.5,
                session="abcd…",
                upgrades=["websocket"],
                pingInterval=25000,
                pingTimeout=20000,
                maxPayload=1000000,
            ),
            "* open on polling after 12.5 ms, session abcd…, a ping every 25 s",
        ),
        (event("upgrade", transport="websocket", milliseconds=3.0), "* upgraded to websocket after 3 ms"),
        (
            event("upgradeError", type="probe", description="closed"),
            "* not upgraded: probe: closed",
        ),
        (event("echo", transport="polling", milliseconds=0.25), "* round trip of a message on polling: 0.25 ms"),
        (event("unsent", description="too large"), "* not sent: too large"),
        (event("suspend", description="lost"), "* connection lost, coming back: lost"),
        (event("resume", transport="websocket", milliseconds=40), "* came back on websocket after 40 ms"),
        (event("close", reason="forced close", description="closed"), "* closed: forced close: closed"),
        (messageEvent("hello"), "< hello"),
        (messageEvent(""), "< "),
        (messageEvent("two\nlines"), "< two\n< lines"),
        (messageEvent("é 😀\tx"), "< é 😀\tx"),
        (messageEvent("\x1b[2J\r\x9b"), "< \\x1b[2J\\r\\x9b"),
        (messageEvent(b"\x00\x01\x02"), "<base64 AAEC"),
        (messageEvent(b""), "<base64 "),
    ],
    ids=str,
)
def test_lines(happened: dict[str, Any], line: str) -> None:
    """People read a line; what a server sends can't move their cursor. JSON has everything, on one line of ASCII."""
    assert asLine(happened) == line
    text = asJSON(happened)
    assert json.loads(text) == happened
    assert text.isascii()
    assert text.isprintable()


def test_failures() -> None:
    """Each kind of failure has an exit code of its own, and something to look at."""
    assert set(KINDS) == set(FailureType)
    codes = [each.exitCode for each in KINDS.values()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2, 130} & set(codes)
    for kind in FailureType:
        happened = failureEvent(ConnectionFailed(kind, "what happened"))
        assert asLine(happened) == f"{kind}: what happened ({KINDS[kind].cure})"
        assert happened["exitCode"] == KINDS[kind].exitCode


def test_failureWithResponse() -> None:
    """A script learns the status, and on which transport it was."""
    response = FailedResponse(503, Headers(), b"")
    happened = failureEvent(ConnectionFailed(FailureType.UNAVAILABLE, "down", "polling", response))
    assert (happened["status"], happened["transport"], happened["exitCode"]) == (503, "polling", 11)


def test_fault() -> None:
    """What fails in the tool itself is a failure too."""
    assert asLine(faultEvent("ValueError: x")).startswith("error: ValueError: x")
    assert faultEvent("x")["exitCode"] == 1
