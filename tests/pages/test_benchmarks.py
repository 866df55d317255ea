"""The benchmark programs do what they say; how fast anything is isn't asked here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..kit.clients import pythonPath
from ..kit.tools import require

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

LOADS = [
    "ws-echo",
    "ws-echo --depth 16",
    "ws-echo --inflight 2",
    "ws-echo --kind utf8 --size 256",
    "ws-echo --kind binary --size 65536",
    "polling-echo",
    "polling-echo --kind binary",
    "handshake",
    "ws-handshake",
    "upgrade",
    "broadcast --size 64",
]

SOCKETIO_LOADS = [
    "sio-echo",
    "sio-echo --depth 16 --kind utf8",
    "sio-echo --kind binary --size 1024",
    "sio-ack",
    "sio-ack --event c --kind binary",
    "sio-broadcast --size 64",
    "sio-connect",
]

# Listens, and answers nothing.
SILENT = """
import socket, sys, time
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""

# What it does with a message is put in.
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
        WHAT IT DOES

reactor.run()
"""

# The names of events say what is wrong with their answers.
WRONG_SOCKETIO = """
import sys
from twisted.internet import reactor
from engineio_twisted import listen
from engineio_twisted.socketio import SocketIO

io = SocketIO(listen(f"tcp:{sys.argv[1]}:interface=127.0.0.1", path="/socket.io"))
io.on("cut", lambda socket, data: socket.emit("cut", data[1:]))
io.on("name", lambda socket, data: socket.emit("m", data))
io.on("added", lambda socket, data: socket.emit("added", data + b"?"))
io.on("text", lambda socket, data: socket.emit("text", data.hex()))
io.on("twice", lambda socket, data: (data, data))
io.on("upper", lambda socket, data: data.upper())
io.on("join", lambda socket: socket.join("bench"))
io.on("all", lambda socket, data: io.emit("all", data.upper()))
reactor.run()
"""

SWAP = """kept.append(data)
        if len(kept) == 2:
            socket.send(kept.pop())
            socket.send(kept.pop())
"""


@pytest.fixture(autouse=True, scope="module")
def compiler() -> None:
    require(shutil.which("gcc") is not None, "gcc")


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts of the driver, which finds them beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import harness.document
    import harness.quick
    import harness.servers
    import harness.suites
    import harness.tables
    import harness.verify

    return harness


@contextmanager
def serving(harness: Any, interval: int = 25_000, isSocketIO: bool = False) -> Iterator[Any]:
    """Run the echo that is measured."""
    name = harness.servers.OURS_SOCKETIO if isSocketIO else harness.servers.OURS
    with harness.processes.running(harness.servers.ALL[name], interval) as here:
        yield here


def started(harness: Any, folder: Path, program: str) -> Any:
    """Run a server that is given as a program."""
    (folder / "program.py").write_text(program)
    command = (sys.executable, str(folder / "program.py"), "{port}")
    return harness.processes.running(harness.processes.Server("planted", command, pythonPath()))


# The generator


@pytest.mark.parametrize("isSocketIO", [False, True], ids=["Engine.IO", "Socket.IO"])
def test_everyMode(harness: Any, isSocketIO: bool) -> None:
    """Each loads the server for as long as it is told to, and reports what that took."""
    with serving(harness, isSocketIO=isSocketIO) as here:
        for mode in SOCKETIO_LOADS if isSocketIO else LOADS:
            times = ["--connections", "4", "--warm", "0.05", "--duration", "0.2"]
            measured = harness.processes.generate(here, [*mode.split(), *times], within=1)
            assert measured["mode"] == mode.split()[0]
            assert measured["ops"] > 0, mode
            assert measured["seconds"] >= 0.2, mode
            assert measured["cpuPerOp"] == pytest.approx(measured["userPerOp"] + measured["systemPerOp"], abs=0.001)
            assert 0 < measured["p50"] <= measured["p99"], mode
            assert measured["rssKiB"] > 0, mode


@pytest.mark.parametrize("mode", ["ws-echo", "handshake", "ws-handshake", "upgrade"])
def test_warmUp(harness: Any, mode: str) -> None:
    """So many operations go before, and so many are measured: none of the first counts."""
    arguments = [mode, "--connections", "4", "--warm-ops", "300", "--ops", "50"]
    with serving(harness) as here:
        measured = harness.processes.generate(here, arguments, within=1)
    assert 50 <= measured["ops"] < 100


def test_warmUpByTimeAndCount(harness: Any) -> None:
    """If both are given, the measured time begins when both are over."""
    arguments = ["ws-echo", "--warm", "0.3", "--warm-ops", "1", "--duration", "0.1"]
    with serving(harness) as here:
        begun = time.monotonic()
        harness.processes.generate(here, arguments, within=1)
    assert time.monotonic() - begun >= 0.4


def test_warmUpWithoutEnd(harness: Any) -> None:
    """There are no heartbeats that would count, and that is reported."""
    idle = ["idle", "--base", "1", "--hold", "1", "--warm", "0", "--warm-ops", "1", "--stall", "1"]
    with serving(harness) as here, pytest.raises(harness.processes.BenchmarkError, match="while warming up"):
        harness.processes.generate(here, idle, within=1)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_warmUpOfHeartbeats(harness: Any, transport: str) -> None:
    """Those that go before are heartbeats of the same sessions, and none of them counts."""
    arguments = ["idle", "--transport", transport, "--base", "0", "--connections", "20", "--warm", "0", "--hold", "2"]
    with serving(harness, interval=200) as here:
        measured = harness.processes.generate(here, [*arguments, "--warm-ops", "100"], within=2)
    # In two seconds ten of each at most, and one that was due before.
    assert 20 <= measured["ops"] <= 220
    assert measured["heartbeats"] >= 100 + measured["ops"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_idle(harness: Any, transport: str) -> None:
    """Sessions that only answer heartbeats stay, and both are counted: their memory and their heartbeats."""
    # Of fewer nothing shows: they fit into what the server has already.
    arguments = ["idle", "--transport", transport, "--base", "5", "--connections", "150", "--hold", "3"]
    with serving(harness, interval=300) as here:
        measured = harness.processes.generate(here, arguments, within=4)
    assert (measured["baseSessions"], measured["sessions"]) == (5, 150)
    assert measured["allKiB"] > measured["baseKiB"]
    # Each has had more than one, so the first was answered as it should.
    assert measured["ops"] > 155
    assert measured["cpuPerOp"] > 0


def test_disconnect(harness: Any) -> None:
    """So many leave and come back until the server is warm; those that leave then are counted."""
    arguments = ["sio-disconnect", "--connections", "40", "--leavers", "10", "--warm-ops", "10"]
    with serving(harness, isSocketIO=True) as here:
        measured = harness.processes.generate(here, arguments, within=5)
    assert measured["ops"] == 10
    assert measured["cpuPerOp"] > 0


def test_idleClients(harness: Any) -> None:
    """Without a time in which heartbeats count, memory alone is measured, of clients that have joined."""
    arguments = ["sio-idle", "--connections", "150", "--base", "5"]
    with serving(harness, isSocketIO=True) as here:
        measured = harness.processes.generate(here, arguments, within=4)
    assert (measured["baseSessions"], measured["sessions"], measured["ops"]) == (5, 150, 0)
    assert measured["allKiB"] > measured["baseKiB"]


@pytest.mark.parametrize(
    ("server", "mode"),
    [("tcp", ["raw-echo", "--depth", "3"]), ("http", ["http-get"]), ("http", ["http-post-get"])],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_bareTwisted(harness: Any, server: str, mode: list[str]) -> None:
    with harness.processes.running(harness.servers.BARE[server]) as here:
        measured = harness.processes.generate(here, [*mode, "--connections", "3", "--ops", "50"], within=1)
    assert measured["ops"] >= 50


def test_aStallEnds(harness: Any, tmp_path: Path) -> None:
    """A server that answers nothing is reported, with what was waited for."""
    with (
        started(harness, tmp_path, SILENT) as here,
        pytest.raises(harness.processes.BenchmarkError, match="no progress for 1 s while setting up: 0 of 2"),
    ):
        harness.processes.generate(here, ["ws-echo", "--connections", "2", "--stall", "1"], within=1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fly"], "usage: load MODE"),
        (["ws-echo", "--size"], "usage: load MODE"),
        (["ws-echo", "--size", "much"], "--size: 'much' is no number"),
        (["ws-echo", "--colour", "1"], "unknown option '--colour'"),
        (["ws-echo", "--kind", "noise"], "--kind: text, utf8 or binary, not 'noise'"),
        (["broadcast", "--kind", "binary"], "a broadcast is text"),
        (["sio-disconnect"], "--leavers: for sio-disconnect, 1 at least"),
        (["sio-echo", "--leavers", "1"], "--leavers: for sio-disconnect, 1 at least"),
        (["sio-echo", "--depth", "18"], "--depth: 17 at most"),
    ],
)
def test_wrongOptions(harness: Any, arguments: list[str], complaint: str) -> None:
    program = harness.processes.buildGenerator()
    given = [*arguments, "--port", "1", "--pid", "1"] if len(arguments) % 2 else arguments
    result = subprocess.run([program, *given], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert complaint in json.loads(result.stdout)["error"]


# Servers that are measured do what they should


@pytest.mark.parametrize("name", ["engineio_twisted", "engineio_twisted.socketio"])
def test_oursIsVerified(harness: Any, name: str) -> None:
    assert harness.verify.problems(harness.servers.ALL[name]) == []


def test_everyModeIsVerified(harness: Any) -> None:
    """What is measured of a server has been asked of it before."""
    for suite in harness.suites.SUITES:
        for server in suite.servers:
            asked = {each[0] for each in harness.verify.checksOf(server)}
            measured = {mode.arguments[0] for mode in suite.modes}
            assert measured - asked <= {"idle"}


@pytest.mark.parametrize(
    ("wrong", "mode"),
    [
        ("data[:-1]", "ws-echo --size 20"),
        ("data + data[:1]", "polling-echo"),
        ("data.upper()", "ws-echo --depth 4"),
        ("data.encode()", "ws-echo"),
        ("data.encode()", "polling-echo"),
        ("data.replace('é', 'e')", "ws-echo --kind utf8 --size 100"),
        ("data[:-1] + bytes([data[-1] ^ 1])", "ws-echo --kind binary --size 65536"),
        ("data[:-1] + bytes([data[-1] ^ 1])", "polling-echo --kind binary"),
    ],
)
def test_aWrongEchoIsFound(harness: Any, tmp_path: Path, wrong: str, mode: str) -> None:
    """Whatever is lost, added or changed on its way."""
    with (
        started(harness, tmp_path, WRONG.replace("WHAT IT DOES", f"socket.send({wrong})")) as here,
        pytest.raises(harness.processes.BenchmarkError, match=r"message number|unexpected packet"),
    ):
        harness.processes.generate(here, [*mode.split(), "--ops", "20", "--stall", "2"], within=1)


def test_aWrongAnswerIsFound(harness: Any, tmp_path: Path) -> None:
    """Whatever an event, an acknowledgement or an attachment lacks or has besides."""
    with started(harness, tmp_path, WRONG_SOCKETIO) as here:
        for mode, complaint in [
            ("sio-echo --event cut", "event number 0 of client . is wrong"),
            ("sio-echo --event name", "event number 0 of client . is wrong"),
            ("sio-echo --event added --kind binary", "attachment number 0 of client . is wrong"),
            ("sio-echo --event text --kind binary", "event number 0 of client . is wrong"),
            ("sio-ack --event twice", "event number 0 of client . is wrong"),
            ("sio-ack --event upper", "event number 0 of client . is wrong"),
            ("sio-ack --event nothing", "no progress for 1 s while measuring"),
            ("sio-broadcast --event all", "event number 0 of client . is wrong"),
        ]:
            arguments = [*mode.split(), "--connections", "2", "--size", "20", "--ops", "20", "--stall", "1"]
            with pytest.raises(harness.processes.BenchmarkError, match=complaint):
                harness.processes.generate(here, arguments, within=1)


def test_aWrongOrderIsFound(harness: Any, tmp_path: Path) -> None:
    """Messages that come back as they were, but the later one first."""
    with (
        started(harness, tmp_path, WRONG.replace("WHAT IT DOES", SWAP)) as here,
        pytest.raises(harness.processes.BenchmarkError, match="message number 0 of client 0 is wrong"),
    ):
        harness.processes.generate(here, ["ws-echo", "--depth", "2", "--ops", "20"], within=1)


def test_verifyReportsAWrongServer(harness: Any, tmp_path: Path) -> None:
    """One that is wrong about short binary messages alone: those are what is reported."""
    does = "socket.send(b'?' if data == bytes([0]) else data)"
    with started(harness, tmp_path, WRONG.replace("WHAT IT DOES", does)) as here:
        found = harness.verify.problemsOf(here, [each for each in harness.verify.ENGINEIO if each[0] != "broadcast"])
    assert [each.partition(" --connections")[0] for each in found] == [
        "ws-echo --kind binary --size 1",
        "polling-echo --kind binary --size 1",
    ]


def test_aServerThatDoesNotStart(harness: Any, tmp_path: Path) -> None:
    """Is a problem too, with what it said."""
    (tmp_path / "program.py").write_text("raise SystemExit('no licence')")
    server = harness.processes.Server("planted", (sys.executable, str(tmp_path / "program.py")))
    assert harness.verify.problems(server) == ["planted ended by itself: no licence"]


def test_aServerThatIsNotThere(harness: Any, tmp_path: Path) -> None:
    """Is one as well: the others are measured without it."""
    server = harness.processes.Server("planted", (str(tmp_path / "bun"), "{port}"))
    [problem] = harness.verify.problems(server)
    assert problem.startswith("planted can't be started: ")
    assert str(tmp_path / "bun") in problem


@pytest.mark.parametrize(
    "name",
    [
        *["bare-tcp", "bare-http", "engineio_twisted", "node", "bun", "aiohttp", "uvicorn", "daphne"],
        *["engineio_twisted.socketio", "node-socket.io", "python-socketio"],
    ],
)
def test_programsAreThere(harness: Any, name: str) -> None:
    """Each server's program is in its folder, and takes the port."""
    servers = harness.servers
    server = {**servers.ALL, **{each.name: each for each in servers.BARE.values()}}[name]
    programs = [each for each in server.command if each.endswith((".py", ".mjs"))]
    programs += [each.partition(":")[0] + ".py" for each in server.command if each.endswith(":application")]
    assert programs
    for each in programs:
        assert (server.folder / each).is_file()
    assert "{port}" in server.command


def test_peersAreInstalledOnce(harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the files that say which versions, and again when those have changed."""
    servers = harness.servers
    ran: list[str] = []
    monkeypatch.setattr(servers, "_NODE", tmp_path / "node")
    monkeypatch.setattr(servers, "_run", lambda command, folder: ran.append(" ".join(command[1:])))
    monkeypatch.setattr(servers.shutil, "which", lambda name: f"/usr/bin/{name}")
    for _ in range(2):
        servers.install(servers.choose(["node", "bun"]))
    assert ran == ["ci --no-audit --no-fund"]
    assert (tmp_path / "node" / "package-lock.json").read_text() == (servers.PEERS / "package-lock.json").read_text()
    (tmp_path / "node" / "installed").write_text("another version")
    servers.install(servers.choose(["bun"]))
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("system", "machine", "package"),
    [
        ("Linux", "x86_64", "bun-linux-x64"),
        ("Linux", "aarch64", "bun-linux-aarch64"),
        ("Darwin", "arm64", "bun-darwin-aarch64"),
        ("Windows", "AMD64", "bun-windows-x64"),
    ],
)
def test_programOfBun(harness: Any, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, package: str) -> None:
    """It is that of the package for this machine, whose version is stated."""
    monkeypatch.setattr(harness.servers.platform, "system", lambda: system)
    monkeypatch.setattr(harness.servers.platform, "machine", lambda: machine)
    program = harness.servers._bun()
    assert program.parts[-3:] == (package, "bin", "bun")
    locked = json.loads((harness.servers.PEERS / "package-lock.json").read_text())["packages"]
    assert locked[f"node_modules/@oven/{package}"]["version"] == locked["node_modules/bun"]["version"]


def test_comparedServersAreDescribed(harness: Any) -> None:
    """The page says of each server and of each mode what it is, and the version of each is stated with the machine."""
    import harness.machine

    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text()
    for suite in harness.suites.SUITES:
        described, _, _ = page.partition(f"<!-- {suite.marker} -->")
        for each in [*suite.servers, *suite.modes]:
            assert f"`{each.name}`" in described
    versions = {"engineio_twisted", "engine.io", "bun", "@socket.io/bun-engine", "aiohttp", "uvicorn", "daphne"}
    assert versions <= set(harness.machine.describe(harness.suites.ENGINEIO))
    versions = {"engineio_twisted", "socket.io", "python-socketio", "uvicorn"}
    assert versions <= set(harness.machine.describe(harness.suites.SOCKETIO))


# The guard


@pytest.fixture
def guard(harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the shortest measurement there is against stated ratios: C{guard(allowed)}, or state one."""
    # A test of its own.
    monkeypatch.setattr(harness.quick, "problems", lambda server: [])
    stated = tmp_path / "quick.json"

    def run(allowed: float | None) -> int:
        stated.write_text(json.dumps({"ratios": {"ws-echo": {"allowed": allowed}}}))
        code: int = harness.quick.run(["ws-echo"], 1, 0.1, stated, allowed is None)
        return code

    run.stated = stated  # type: ignore[attr-defined]
    return run


def test_guardPasses(guard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(1000) == 0
    assert "allowed 1000.00" in capsys.readouterr().out


def test_guardFails(guard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where more is measured than is allowed, and says of which mode."""
    assert guard(0.01) == 1
    line = capsys.readouterr().out.strip()
    assert line.startswith("TOO SLOW ws-echo ")
    assert line.endswith("allowed   0.01")


def test_guardIsStated(guard: Any) -> None:
    """What is allowed is what was measured and a margin."""
    assert guard(None) == 0
    stated = json.loads(guard.stated.read_text())
    assert "--state" in stated["comment"]
    ratio = stated["ratios"]["ws-echo"]
    assert ratio["allowed"] == pytest.approx(1.25 * ratio["measured"], abs=0.02)


def test_everyModeIsStated(harness: Any) -> None:
    stated = json.loads((BENCHMARKS / "quick.json").read_text())["ratios"]
    assert set(stated) == set(harness.quick.MODES)


# The other programs

IN_MEMORY = """
import in_memory, turns
from engineio_twisted.transports import engine_autobahn

echo = in_memory.Echo()
for run in (in_memory.webSockets(echo, 2, 3), in_memory.polling(echo, 2), in_memory.handshakes(echo)):
    assert in_memory.cost(run, 6) > 0
for kind, data in (("websocket", turns.BOMB * 2), ("EIO=4", b"4a\x1e4a"), ("EIO=3", b"2:4a"), ("EIO=4&j=0", b"d=4a")):
    assert turns.longest(kind, data) > 0
with turns.turnsOf(7):
    assert turns.turns.TURN == engine_autobahn.TURN == 7
"""


def test_inMemory() -> None:
    """What is measured without a network echoes, and can be told how long a turn is."""
    # In a process of its own: it has the package do everything in one turn.
    result = subprocess.run(
        [sys.executable, "-c", IN_MEMORY],
        cwd=BENCHMARKS,
        env={**os.environ, **pythonPath()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def test_warming(harness: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What each of some times cost on one server."""
    import warming

    monkeypatch.setattr(warming, "STEPS", {"ws-echo": ("ws-echo --connections 2", 20)})
    monkeypatch.setattr(warming, "COUNT", 3)
    warming.main([harness.servers.OURS])
    named, _, costs = capsys.readouterr().out.partition(":")
    assert named.split() == ["ws-echo", harness.servers.OURS, "µs", "in", "each", "20"]
    assert [re.fullmatch(r"\d+\.\d", each) is not None for each in costs.split()] == [True] * 3


# The page


def test_pageSaysWhatWasMeasured(harness: Any, tmp_path: Path) -> None:
    """docs/performance.md has the numbers of docs/performance*.json, and the plots are there."""
    docs = BENCHMARKS.parent / "docs"
    page = (docs / "performance.md").read_text()
    (tmp_path / "performance.md").write_text(page)
    for suite in harness.suites.SUITES:
        report = json.loads((docs / suite.numbers).read_text())
        harness.document.rewrite(tmp_path / "performance.md", harness.tables.sections(report, suite))
        assert f"<!-- {suite.marker} -->\n\ncommit " in page
        for name in ("cpu", "latency", "memory", *(["growth"] if report["growth"] else [])):
            assert f"({suite.name}-{name}.svg)" in page
            assert (docs / f"{suite.name}-{name}.svg").exists()
    assert (tmp_path / "performance.md").read_text() == page


def driver(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_driver() -> None:
    """It runs as a program, and says what there is."""
    result = driver("--list")
    assert result.returncode == 0, result.stderr
    assert "  ws-echo " in result.stdout
    result = driver("--servers", "apache")
    assert result.returncode == 1
    assert "no server is called apache" in result.stdout


@pytest.mark.slow
def test_driverCompares(tmp_path: Path) -> None:
    """It verifies and measures, prints tables, and writes numbers."""
    chosen = ["--servers", "engineio_twisted", "--modes", "ws-echo-1k-utf8", "--no-plots", "--out", str(tmp_path)]
    result = driver(*chosen, "--reps", "1", "--duration", "0.1", "--warm", "0.1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| `ws-echo-1k-utf8` | " in result.stdout
    report = json.loads((tmp_path / "performance.json").read_text())
    assert report["comparison"]["ws-echo-1k-utf8"]["engineio_twisted"]["ops"] > 0


def test_readme(harness: Any, tmp_path: Path) -> None:
    """The table of the README has the numbers of docs/performance.json too."""
    page = (BENCHMARKS.parent / "README.md").read_text()
    (tmp_path / "README.md").write_text(page)
    report = json.loads((BENCHMARKS.parent / "docs" / "performance.json").read_text())
    summary = harness.tables.summary(report)
    assert "| echo over WebSocket, µs | " in summary["summary"]
    harness.document.rewrite(tmp_path / "README.md", summary)
    assert (tmp_path / "README.md").read_text() == page
    # A part of the servers or of the modes changes nothing.
    del report["comparison"]["ws-echo"]["aiohttp"]
    assert harness.tables.summary(report) == {}
