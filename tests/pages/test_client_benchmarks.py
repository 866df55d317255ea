"""The programs that measure clients do what they say; how fast any of them is isn't asked here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ..kit.clients import INTEROP, pythonPath
from ..kit.tools import require

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# Bytes and short texts are changed, others swapped.
WRONG = """
import sys
from twisted.internet import reactor
from engineio_twisted import listen

server = listen(f"tcp:{sys.argv[1]}:interface=127.0.0.1")
kept = []

@server.on("connection")
def connected(socket):
    @socket.on("message")
    def received(data):
        if isinstance(data, bytes):
            socket.send(data[:-1] + bytes([data[-1] ^ 1]))
        elif len(data) == 20:
            socket.send(data[::-1])
        else:
            kept.append(data)
            if len(kept) == 2:
                socket.send(kept.pop())
                socket.send(kept.pop())

reactor.run()
"""
ASKED = ["echo 1 2 binary 20", "echo 2 2 text 30"]
ASKED_OF_AGENT = ["echo 1 1 text 20"]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The driver."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import clients

    return clients


def named(clients: Any, name: str) -> Any:
    """Return a client that runs with what is installed for the tests."""
    (found,) = clients.servers.choose([name], clients.servers.CLIENTS)
    if name == "python-engineio":
        return replace(found, command=(sys.executable, *found.command[1:]))
    if name == "node":
        require(shutil.which("node") is not None, "Node.js")
        return replace(found, environment={"NODE_PATH": str(INTEROP / "node_modules")})
    return found


PROGRAMS = [
    "engineio_twisted",
    pytest.param("agent", marks=pytest.mark.apart),
    pytest.param("python-engineio", marks=pytest.mark.apart),
    pytest.param("node", marks=[pytest.mark.apart, pytest.mark.node]),
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_eachIsMeasured(clients: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It echoes what it should on each transport, opens and closes sessions, and keeps idle ones."""
    monkeypatch.setattr(clients, "BASE", 2)
    # Of fewer nothing shows: they fit into what the program has already.
    monkeypatch.setattr(clients, "IDLE", 150)
    monkeypatch.setattr(clients, "SETTLING", 0.1)
    settings = clients.Settings(0.1, 0.1, 1)
    client = named(clients, name)
    with clients.running(clients.servers.ALL[clients.servers.OURS], isMeasured=False) as here:
        assert clients.problems(client, here) == []
        for mode in ("renew upgrade 2", "idle websocket") if client.can(["idle"]) else ("echo polling 2 1 text 32",):
            found = clients.measured(clients.Job(client, mode, mode.split()), here, settings)
            assert found["kibPerSession" if mode.startswith("idle") else "ops"] > 0, mode
            assert found["cpuPerOp"] > 0, mode


@pytest.mark.parametrize("name", PROGRAMS)
def test_aWrongEchoIsFound(clients: Any, tmp_path: Path, name: str) -> None:
    """Whatever is changed on its way, and the later of two that comes first."""
    (tmp_path / "program.py").write_text(WRONG)
    server = clients.Server("planted", (sys.executable, str(tmp_path / "program.py"), "{port}"), pythonPath())
    client = named(clients, name)
    transport = "websocket" if client.can(["echo", "websocket"]) else "polling"
    with clients.running(server) as here:
        for each in ASKED if client.can(["idle"]) else ASKED_OF_AGENT:
            with clients.clientOf(client, here) as program:
                program.ask(f"open {transport} 1")
                with pytest.raises(clients.BenchmarkError, match=r"(?s)ended with 1: .*message 0 "):
                    program.ask(each)


def test_aSilentClientIsEnded(clients: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does nothing, or has ended, is reported with what it was told."""
    monkeypatch.setattr(clients, "WITHIN", 0.2)
    for what in ("import time; time.sleep(60)", "raise SystemExit('no')"):
        client = clients.Server("planted", (sys.executable, "-c", what))
        here = clients.Running(subprocess.Popen(["true"]), 1, None)
        with (
            clients.clientOf(client, here) as program,
            pytest.raises(clients.BenchmarkError, match="planted, 'open polling 1': ended with"),
        ):
            program.ask("open polling 1")
        here.process.wait()


# The page


def test_pageSaysWhatWasMeasured(clients: Any, tmp_path: Path) -> None:
    """docs/performance.md has the numbers of docs/performance-clients.json, and names each client and each mode."""
    docs = BENCHMARKS.parent / "docs"
    page = (docs / clients.PAGE).read_text()
    (tmp_path / clients.PAGE).write_text(page)
    suite = clients.CLIENTS
    report = json.loads((docs / suite.numbers).read_text())
    clients.document.rewrite(tmp_path / clients.PAGE, {suite.marker: clients.section(report)})
    assert (tmp_path / clients.PAGE).read_text() == page
    described, _, _ = page.partition(f"<!-- {suite.marker} -->\n\ncommit ")
    for each in [*suite.servers, *suite.modes]:
        assert f"`{each.name}`" in described
        assert any(each.name in (mode, *found) for mode, found in report["comparison"].items())
    assert f"({suite.name}.svg)" in page
    assert (docs / f"{suite.name}.svg").exists()


def test_namesOnThePage(clients: Any) -> None:
    """The clients and the modes that its commands name are there."""
    page = (BENCHMARKS.parent / "docs" / clients.PAGE).read_text()
    commands = re.findall(r"python benchmarks/clients\.py --clients (\S+) --modes (\S+)", page)
    assert commands
    for names, modes in commands:
        clients.servers.choose(names.split(","), clients.CLIENTS.servers)
        clients.modes.choose(modes.split(","), clients.CLIENTS.modes)


def test_driver() -> None:
    """It runs as a program, and says what there is."""
    command = [sys.executable, str(BENCHMARKS / "clients.py")]
    result = subprocess.run([*command, "--clients", "curl"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "no server is called curl; there are engineio_twisted, python-engineio, node, agent" in result.stdout
