"""The README: its programs and its length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted.socketio.testing import Event, MemorySocketIO

from ..kit.markdown import blocksOf

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def programs() -> list[str]:
    """The programs in the README."""
    return [each.text for each in blocksOf(README) if each.language == "python"]


def test_firstProgram(freePort: int) -> None:
    """It runs as it stands, prints where it listens, and opens sessions there."""
    program = programs()[0]
    assert "listen(3000)" in program
    command = [sys.executable, "-u", "-c", program.replace("3000", str(freePort))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == f"Listening on http://127.0.0.1:{freePort}/engine.io/\n"
            with urlopen(f"{said.split()[-1]}?EIO=4&transport=polling", timeout=60) as response:
                assert response.read().startswith(b'0{"sid":"')
        finally:
            process.kill()


def test_secondProgram(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a Socket.IO server, which answers its client and tells all others."""
    monkeypatch.setattr("twisted.internet.reactor", MemoryReactorClock())
    made: dict[str, Any] = {}
    (_, program) = programs()
    exec(program, made)
    with MemorySocketIO(made["io"]) as kit:
        client, other = kit.connect(), kit.connect()
        assert client.emitWithAck("say", "hello") == 5
        assert client.receiveAll() == other.receiveAll() == [Event("said", ("hello",))]


def test_length() -> None:
    """It is read in a minute."""
    assert 60 <= len(README.read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_commandsOfAClone(command: str) -> None:
    """It names the commands that run the server and the tests."""
    lines = README.read_text(encoding="utf-8").splitlines()
    assert any(line.split("  ")[0] == command for line in lines)
