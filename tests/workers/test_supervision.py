"""Workers as processes: their starts and ends, whoever causes them, and that nothing is left of any."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..kit.fleet import READY, Running
from ..kit.services import DEADLINE, STARTED, command, environment, isAlive, services, talking, waitUntil
from ..kit.wire import http, target

pytestmark = [pytest.mark.slow]

ECHO = "def application(server):\n    server.on('connection', lambda socket: socket.on('message', socket.send))\n"


def childrenOf(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def running(cwd: Path, port: int, *arguments: str, count: int = 2, **keywords: Any) -> Iterator[Running]:
    (cwd / "echo.py").write_text(ECHO)
    with services(cwd) as start:
        listen = f"--listen=tcp:{port}:interface=127.0.0.1"
        app = () if any(each.startswith(("--app", "--config")) for each in arguments) else ("--app=echo:application",)
        service = start(f"--workers={count}", listen, *app, *arguments, **keywords)
        yield Running(service, count)


def isFree(port: int) -> bool:
    with socket.socket() as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taking.bind(("127.0.0.1", port))
            taking.listen()
        except OSError:
            return False
    return True


def test_killed(tmp_path: Path, freePort: int) -> None:
    """
    A worker that is killed, or hangs, is replaced by one with a new number; others serve on, and old ids stay unknown.

    When the parent is killed, nothing is left of any.
    """
    with running(tmp_path, freePort, "--workers-hang-timeout=1500") as here:
        first = here.workers
        assert first.keys() == {1, 2}
        with talking(freePort) as talk:
            sids = {sid.partition("-")[0]: sid for sid in [talk.echo("hello") for _ in range(20)]}
        assert sids.keys() == {"1", "2"}
        os.kill(first[1], signal.SIGKILL)
        with talking(freePort) as talk:
            talk.echo("you are still there", sids["2"])
        here.waitFor(READY, 3)
        assert here.workers.keys() == {1, 2, 3}
        ended = f"Worker 1 \\(slot 0, process {first[1]}\\) has ended with SIGKILL; the next one starts at once"
        assert re.search(ended, here.said)
        with talking(freePort) as talk:
            talk.connection.sendall(http("GET", target(sid=sids["1"])))
            status, body = talk.response()
            assert (status, json.loads(body)["code"]) == (400, 1)
        os.kill(first[2], signal.SIGSTOP)
        here.waitFor(READY, 4)
        assert re.search(r"Worker 2 \(slot 1, process \d+\) is killed: hung", here.said)
        # Its stacks.
        assert "Fatal Python error: Aborted" in here.said
        assert re.search(r"worker=2 slot=1 stderr.*File .*worker\.py", here.said)
        with talking(freePort) as talk:
            talk.echo("hello again")
        here.service.process.send_signal(signal.SIGKILL)
        assert here.ended() == -signal.SIGKILL
    assert isFree(freePort)


SLOW = """
import threading, time
from pathlib import Path

def application(server):
    Path("started").write_text("")
    while not Path("go").exists():
        time.sleep(0.01)
    server.on("connection", lambda socket: socket.on("message", socket.send))
    # Ends with the process, whatever happens to it.
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_endsDuringTheStart(tmp_path: Path, freePort: int, number: int) -> None:
    """A parent that ends before its first worker is ready leaves none, though that is busy."""
    (tmp_path / "slow.py").write_text(SLOW)
    listen = f"--listen=tcp:{freePort}:interface=127.0.0.1"
    arguments = [command("twistd"), "-n", "--pidfile=", "engineio", "--workers=2", listen, "--app=slow:application"]
    process = subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        waitUntil((tmp_path / "started").exists, "the application")
        children = childrenOf(process.pid)
        assert len(children) == 1
        process.send_signal(number)
        assert process.wait(DEADLINE) == -number
        waitUntil(lambda: not any(map(isAlive, children)), "the end of the worker")
        assert isFree(freePort)
    finally:
        (tmp_path / "go").write_text("")
        process.kill()
        process.wait()


@pytest.mark.parametrize("isGroup", [False, True])
def test_stopped(tmp_path: Path, freePort: int, isGroup: bool) -> None:
    """
    SIGTERM drains all workers at once, also if each of them gets it; nobody waits for a session in vain.

    A client that takes nothing is given its time, and a second signal ends that.
    """
    with running(tmp_path, freePort, "--drain-timeout=40000", start_new_session=True) as here:
        with talking(freePort) as talk, talking(freePort) as waiting:
            talk.echo("hello")
            waiting.open()
            (os.killpg if isGroup else os.kill)(here.pid, signal.SIGTERM)
            here.waitFor(r"Waiting for 2 workers to end, for 43 s at most")
            os.kill(here.pid, signal.SIGTERM)
            assert here.ended() == -signal.SIGTERM
        assert "Nothing is waited for any more" in here.said
        assert "Traceback" not in here.said
        assert len(re.findall(r"Worker \d \(slot \d, process \d+\) has ended with status 0", here.said)) == 2
    assert isFree(freePort)


def test_crashLoop(tmp_path: Path, freePort: int) -> None:
    """A worker that ends again and again is started later and later; the other serves, and a stop doesn't wait."""
    (tmp_path / "crashing.py").write_text(
        "import os\n\ndef application(server):\n"
        "    server.on('connection', lambda socket: socket.on('message', socket.send))\n"
        "    if server.workers.number > 2:\n        os._exit(7)\n"
    )
    with running(tmp_path, freePort, "--app=crashing:application", "--drain-timeout=200") as here:
        os.kill(here.workers[1], signal.SIGKILL)
        here.waitFor(r"Worker 3 \(slot 0, process \d+\) has ended with status 7; the next one starts in 1 s")
        here.waitFor(r"Worker 4 \(slot 0, process \d+\) has ended with status 7; the next one starts in 2 s")
        with talking(freePort) as talk:
            assert talk.echo("hello").startswith("2-")
        os.kill(here.pid, signal.SIGTERM)
        assert here.ended() == -signal.SIGTERM


FAILING = {
    "raising": ("def application(server):\n    raise ValueError('no database')\n", "no database"),
    "silent": ("import os\n\ndef application(server):\n    os._exit(3)\n", "the first worker has ended: status 3"),
}


@pytest.mark.parametrize("name", ["raising", "silent"])
def test_theFirstFails(tmp_path: Path, freePort: int, name: str) -> None:
    """The command ends with one line, as without workers, in the foreground and in the background; no port stays."""
    (tmp_path / "failing.py").write_text(FAILING[name][0])
    arguments = ["engineio", "--workers=2", f"--listen=tcp:{freePort}:interface=127.0.0.1", "--app=failing:application"]
    with services(tmp_path) as start:
        service = start(*arguments[1:])
        assert service.ended() == 1
        last = service.said.splitlines()[-1]
        assert "twistd engineio: " in last
        assert FAILING[name][1] in last
        assert STARTED not in service.said
    assert isFree(freePort)
    result = subprocess.run(
        [command("twistd"), "--pidfile=server.pid", "--logfile=server.log", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert result.returncode == 1
    assert FAILING[name][1] in result.stderr
    assert FAILING[name][1] in (tmp_path / "server.log").read_text()
    assert isFree(freePort)


def test_portTaken(tmp_path: Path, freePort: int) -> None:
    """No worker is started for a port that can't be opened."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", freePort))
        taken.listen()
        with services(tmp_path) as start:
            service = start("--workers=2", f"--listen=tcp:{freePort}:interface=127.0.0.1")
            assert service.ended() == 1
    problem = f"--listen tcp:{freePort}:interface=127.0.0.1: cannot listen (Address already in use)"
    assert service.said.splitlines()[-1].endswith(f"twistd engineio: {problem}")
    assert "is ready" not in service.said


def test_reload(tmp_path: Path, freePort: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    SIGHUP replaces all workers by new ones with the file and the application as they are now.

    A broken file, an application that fails, and what can't be changed leave everything as it is. SIGTERM in the midst
    of a reload ends all. The service manager is told of it.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    told: list[str] = []

    def hear() -> None:
        """Read what the manager was told: the system keeps ten for it."""
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(4096).decode().partition("=")[0])

    config, app = tmp_path / "server.toml", tmp_path / "changing.py"
    config.write_text("app = 'changing:application'\npingInterval = 1111\n")
    app.write_text(ECHO)
    log = tmp_path / "access.log"

    def interval() -> bytes:
        with talking(freePort) as talk:
            return talk.ask(http("GET", target())).partition(b'"pingInterval":')[2][:4]

    with (
        manager,
        running(tmp_path, freePort, "--config=server.toml", f"--access-log={log}", "--drain-timeout=200") as here,
    ):
        assert interval() == b"1111"
        waitUntil(log.read_text, "the access log")

        def reload(pattern: str, count: int = 1) -> None:
            os.kill(here.pid, signal.SIGHUP)
            here.waitFor(pattern, count)
            hear()

        config.write_text("app = 'changing:application'\npingInterval = 'often'\n")
        reload(r"Not reloaded.*: --config server.toml: pingInterval = 'often'")
        config.write_text("app = 'changing:application'\nidPrefix = 'x'\n")
        reload(r"Not reloaded.*: idPrefix: can't be changed by a reload")
        config.write_text("app = 'changing:application'\npingInterval = 2222\n")
        app.write_text("def application(server):\n    raise ValueError('no database')\n")
        reload(r"Not reloaded.*no database")
        assert interval() == b"1111"
        assert [*here.workers] == [1, 2]
        app.write_text(ECHO)
        reload(r"Reloaded: 2 of 2 workers ready")
        assert interval() == b"2222"
        assert len(here.workers) == 4
        # The log was moved away.
        log.rename(tmp_path / "access.1")
        os.kill(here.pid, signal.SIGUSR1)
        waitUntil(log.exists, "the new access log")
        for _ in range(10):
            interval()
        waitUntil(lambda: log.read_text().count("\n") >= 5, "lines in the new access log")
        # Another one during a reload is remembered: the last settings are in force at the end.
        config.write_text("app = 'changing:application'\npingInterval = 3333\n")
        reload(r"\] Reloading", 5)
        config.write_text("app = 'changing:application'\npingInterval = 4444\n")
        reload(r"Reloaded: 2 of 2", 3)
        assert interval() == b"4444"
        reload(r"\] Reloading", 7)
        os.kill(here.pid, signal.SIGTERM)
        assert here.ended() == -signal.SIGTERM
        hear()
    states = [each for each in told if each != "STATUS"]
    assert states == ["READY", *["RELOADING", "READY"] * 6, "RELOADING", "STOPPING"]
    assert isFree(freePort)
