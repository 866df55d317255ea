"""docs/client.md: complete, by what the reference's client declares and by what this one has."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from engineio_twisted import OptionError
from engineio_twisted.client import ClientOptions, FailureType
from engineio_twisted.client.events import CLIENT_EVENTS
from engineio_twisted.session.handlers import SOCKET_EVENTS

from ..kit.tools import require

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
COMPARED = PAGE.partition("## From engine.io-client")[2]
DECLARED = ROOT / "tests" / "interop" / "node_modules" / "engine.io-client" / "build" / "esm" / "socket.d.ts"


def declared(interface: str) -> set[str]:
    """Return the members of an interface that the package of the reference's client declares."""
    require(DECLARED.is_file(), "the packages of tests/interop (run `npm ci` there)")
    text = re.sub(r"/\*.*?\*/", "", DECLARED.read_text(encoding="utf-8"), flags=re.DOTALL)
    (body,) = re.findall(rf"interface {interface}\b[^{{]*\{{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
    return {*re.findall(r"^ {4}(\w+)\??:", body, re.MULTILINE)}


def left(text: str) -> set[str]:
    """Return the names in the left column of the tables of a text."""
    cells = [row.split("|")[1] for row in text.splitlines() if row.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.node
def test_options() -> None:
    """Each option of the reference's client is in the table, and is an option here, or refused with what to do."""
    known = {each.name for each in attrs.fields(ClientOptions)}
    names = declared("SocketOptions")
    assert "rememberUpgrade" in names
    assert names - left(COMPARED) == set()
    for name in names - known:
        with pytest.raises(OptionError, match=r"there is no such option; (?!see docs/options)"):
            ClientOptions(**{name: None})  # type: ignore[misc]


@pytest.mark.node
def test_events() -> None:
    """Each event of the reference's client is in the table."""
    names = declared("SocketReservedEvents")
    assert "upgradeError" in names
    assert names - left(COMPARED) == set()


def test_whatIsHereAlone() -> None:
    """Options that the reference's client doesn't have are named as such."""
    alone = {
        name for row in COMPARED.splitlines() if row.startswith("| *none* |") for name in re.findall(r"`(\w+)`", row)
    }
    known = {each.name for each in attrs.fields(ClientOptions)}
    assert known - left(COMPARED) - alone == set()
    assert alone - known == {"suspend", "resume"} - known


def test_ownEvents() -> None:
    """The events that a client has beside those of a socket are described."""
    own = {*CLIENT_EVENTS} - {*SOCKET_EVENTS}
    assert own - left(PAGE.partition("## Events")[2].partition("\n## ")[0]) == set()


def test_failures() -> None:
    """Each type of failure is described."""
    assert left(PAGE.partition("## Failures")[2].partition("\n## ")[0]) >= {each.name for each in FailureType}
