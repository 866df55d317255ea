"""docs/client-tool.md: what it says of the terminal tool is what the tool does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.client import terminal
from engineio_twisted.client.commandline import parse
from engineio_twisted.client.errors import ConnectionFailed, FailureType
from engineio_twisted.client.report import (
    FAILED,
    INTERRUPTED,
    KINDS,
    OK,
    WRONG_USAGE,
    asLine,
    event,
    failureEvent,
    messageEvent,
)

from ..kit.markdown import blocksOf

DOCS = Path(__file__).parents[2] / "docs"
PATH = DOCS / "client-tool.md"
PAGE = PATH.read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [each for each in section.splitlines() if each.startswith("|")]
    return [[cell.strip() for cell in each.strip("|").split(" |")] for each in lines[2:]]


def test_exitCodes() -> None:
    """The table has every exit code, with the type of the failure."""
    expected = {kind.exitCode: str(name) for name, kind in KINDS.items()}
    expected |= {OK: "", FAILED: "error", WRONG_USAGE: "", INTERRUPTED: ""}
    assert {int(code): name.strip("`") for code, name, _ in rows("Exit codes")} == expected


def test_options(capsys: Any) -> None:
    """The table names each flag of the help, and no other."""
    with pytest.raises(SystemExit):
        parse(["--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out.replace("Authorization", "")))
    named = set(re.findall(r"--[a-z-]+", " ".join(cells[0] for cells in rows("Options"))))
    assert named == flags - {"--help"}


def test_events() -> None:
    """The table has every event, with its members."""
    table = {name.strip("`"): set(re.findall(r"`(\w+)`", members)) for name, members in rows("Scripts")}
    source = Path(terminal.__file__).read_text(encoding="utf-8")
    made = {
        name: set(re.findall(r"(\w+)=", members))
        for name, members in re.findall(r'event\(\s*"(\w+)",([^"]*?)\)\s*\)', source)
    }
    made |= {
        "message": {"text", "base64"},
        "failed": {*failureEvent(ConnectionFailed(FailureType.DNS, ""))} - {"event"},
    }
    assert table == made


def test_itsLines() -> None:
    """The lines that the page shows are those that are printed."""
    session, failure = (each.text for each in blocksOf(PATH) if each.language == "text")
    opened = event(
        "open",
        transport="polling",
        milliseconds=12.4,
        session="Yq3LbH… at 127.0.0.1:3000",
        pingInterval=25000,
    )
    assert session.splitlines() == [
        asLine(event("connecting", url="http://127.0.0.1:3000")),
        asLine(opened),
        asLine(event("upgrade", transport="websocket", milliseconds=8.7)),
        asLine(messageEvent("hello")),
    ]
    refused = "Connection was refused by other side: 111: Connection refused."
    line = asLine(failureEvent(ConnectionFailed(FailureType.CONNECT, refused)))
    assert failure.strip() == f"{terminal.PROGRAM}: {line}"
    beginnings = [
        each.partition("…")[0]
        for cells in rows("What its lines mean")
        for each in re.findall(r"`([*<][^`]*)`", cells[0])
    ]
    everything = [
        asLine(each)
        for each in (
            opened,
            event("upgrade", transport="websocket", milliseconds=1),
            event("upgradeError", type="probe", description=""),
            messageEvent("x"),
            messageEvent(b"x"),
            event("echo", transport="polling", milliseconds=1),
            event("unsent", description=""),
            event("suspend", description=""),
            event("resume", transport="polling", milliseconds=1),
            event("close", reason="", description=""),
        )
    ]
    for line, beginning in zip(everything, beginnings, strict=True):
        assert line.startswith(beginning)


COMMANDS = [
    found.removeprefix("python -m engineio_twisted.client ")
    for page in (PATH, DOCS / "troubleshooting.md", DOCS / "client.md")
    for found in re.findall(r"python -m engineio_twisted\.client [^`\n]+", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    """Each command line on the pages is one; test_terminal_process.py runs the tool."""
    assert parse(shlex.split(command)).url.startswith("http")
