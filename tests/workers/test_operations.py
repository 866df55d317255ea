"""Workers as operators meet them: numbers and logs over a crash, users, another reactor."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import twisted

from ..kit.fleet import Running
from ..kit.metrics import Numbers, number, numbersOf
from ..kit.services import DEADLINE, Service, command, services, talking, waitUntil
from ..kit.tools import require
from ..kit.wire import http, target

pytestmark = [pytest.mark.slow]

APPLICATION = """
import time
from pathlib import Path


def application(server):
    while server.workers.number == 3 and not Path("go").exists():
        time.sleep(0.01)

    @server.on("connection")
    def connected(socket):
        @socket.on("message")
        def received(data):
            if data == "print":
                print("printed by", socket.id)
            elif data == "raise":
                raise ValueError("no such thing")
            elif data == "hang":
                socket.send("hanging")
                open("hanging", "w").close()
                while True:
                    time.sleep(1000)
            socket.send(data)
"""
LISTEN = "--listen=tcp:0:interface=127.0.0.1"
TWISTD = (command("twistd"), "-n")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts two workers, by twistd or in another way; nothing of it outlives the test."""
    with ExitStack() as stack:

        def run(*arguments: str, by: Any = TWISTD, folder: Path = tmp_path, **keywords: Any) -> Running:
            (folder / "application.py").write_text(APPLICATION)
            begin = stack.enter_context(services(folder))
            return Running(begin("--workers=2", "--app=application:application", *arguments, by=by, **keywords), 2)

        yield run


def portOf(here: Running, what: str = "is served") -> int:
    found = re.search(rf"{what}.* at http://127\.0\.0\.1:(\d+)", here.said)
    assert found is not None, here.said
    return int(found[1])


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def counters(text: str) -> Numbers:
    """The counters of an answer."""
    return {key: value for key, value in numbersOf(text).items() if key[0].endswith("_total")}


def opened(numbers: Numbers) -> float:
    return sum(value for (name, _), value in numbers.items() if name == "engineio_sessions_opened_total")


def test_operators(start: Any, tmp_path: Path) -> None:
    """
    A crash makes no counter fall, and what the dead worker had counted stays in the sums.

    C{/ready} says how many workers are ready, also at the ports of the sessions, and 503 while all stop. The log says
    of which worker each line is. The command runs on another reactor, which its workers have too.
    """
    by = (command("twistd"), "-n", "--reactor=asyncio", "--pidfile=server.pid")
    here = start(LISTEN, "--metrics=tcp:0:interface=127.0.0.1", "--health=listen", "--drain-timeout=30000", by=by)
    port, metrics = portOf(here), portOf(here, "For operators: /metrics")
    assert (tmp_path / "server.pid").read_text().strip() == str(here.pid)
    for pid in here.workers.values():
        assert b"asyncioreactor:AsyncioSelectorReactor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    sids: dict[str, str] = {}
    for _ in range(12):
        with talking(port) as talk:
            sid = talk.echo("hello")
            sids[sid.partition("-")[0]] = sid
        status, text = asked(port, "/ready")
        assert (status, json.loads(text)) == (200, {"status": "ready", "ready": 2, "workers": 2})
        assert asked(port, "/health")[0] == 200
    assert sids.keys() == {"1", "2"}
    with talking(port) as talk:
        for each in ("print", "raise"):
            assert talk.ask(http("POST", target(sid=sids["2"]), body=f"4{each}".encode())) == b"ok"
    here.waitFor(rf"worker=2 slot=1 stdout\S*\] printed by {sids['2']}")
    here.waitFor(r"ValueError: no such thing")
    before = counters(asked(metrics, "/metrics")[1])
    assert opened(before) == 12
    victim = here.workers[1]
    os.kill(victim, signal.SIGKILL)
    seen: set[int] = set()

    def isBack() -> bool:
        nonlocal before
        text = asked(metrics, "/metrics")[1]
        after = counters(text)
        for key, value in before.items():
            assert after[key] >= value, key
        before = after
        status, ready = asked(port, "/ready")
        assert status == 200
        seen.add(json.loads(ready)["ready"])
        if 1 in seen:
            (tmp_path / "go").touch()
        return 3 in here.workers and json.loads(ready)["ready"] == 2

    waitUntil(isBack, "the new worker")
    assert opened(before) == 12
    assert number(before, "engineio_worker_restarts_total", slot="0") == 1
    # A client that waits, and doesn't take the end: all stop for a while.
    with talking(port) as talk:
        talk.open()
        assert opened(counters(asked(metrics, "/metrics")[1])) == 13
        here.service.process.send_signal(signal.SIGTERM)
        here.waitFor("Waiting for 2 workers to end")
        assert asked(metrics, "/metrics")[0] == 200
        here.service.process.send_signal(signal.SIGTERM)
        assert here.ended() == -signal.SIGTERM
    assert not (tmp_path / "server.pid").exists()


def test_theParentIsKilled(start: Any, tmp_path: Path) -> None:
    """Its workers end, also one whose application hangs and that hears nothing. C{/ready} is 503 while all stop."""
    here = start(LISTEN, "--health=tcp:0:interface=127.0.0.1", "--drain-timeout=500", "--workers-hang-timeout=60000")
    port, health = portOf(here), portOf(here, "For operators: /health, /ready")
    with talking(port) as talk:
        sid = talk.open()
        talk.connection.sendall(http("POST", target(sid=sid), body=b"4hang"))
        waitUntil((tmp_path / "hanging").exists, "the hanging application")
        # Nobody notices that yet.
        assert json.loads(asked(health, "/ready")[1])["ready"] == 2
        here.service.process.send_signal(signal.SIGTERM)
        here.waitFor("Waiting for 2 workers to end")
        status, text = asked(health, "/ready")
        assert (status, asked(health, "/health")[0]) == (503, 200), text
        here.service.process.kill()
        assert here.ended() == -signal.SIGKILL
    with socket.socket() as asking:
        # Nobody listens. The port itself may have become that of a connection, as the system has chosen it.
        assert asking.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


EMBEDDING = """
import json
from twisted.application.service import MultiService
from twisted.internet import reactor
from engineio_twisted.workers import WorkersService

import sys
from twisted.logger import textFileLogObserver, globalLogBeginner
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)

services = MultiService()
service = WorkersService("nowhere:application", "tcp:{port}:interface=127.0.0.1", workers=2)
service.setServiceParent(services)
reactor.callWhenRunning(services.startService)

def look():
    if service.hasFailed:
        service.stopService().addCallback(lambda _: stopped())
    else:
        reactor.callLater(0.05, look)

def stopped():
    # The reactor is the application's, which goes on.
    print("failed, and goes on", flush=True)
    reactor.callLater(0, lambda: services.stopService().addCallback(lambda _: reactor.stop()))

reactor.callWhenRunning(look)
reactor.run()
print("ended", flush=True)
"""


def test_embeddedAndFailing(tmp_path: Path, freePort: int) -> None:
    """A first worker that fails stops the service, not the reactor that others run on; the port is closed."""
    (tmp_path / "embedding.py").write_text(EMBEDDING.format(port=freePort))
    service = Service([sys.executable, "embedding.py"], tmp_path)
    try:
        assert service.ended() == 0
    finally:
        service.kill()
    problem = "--app nowhere:application: cannot be imported (ModuleNotFoundError: No module named 'nowhere')"
    assert service.said.count(problem) == 1, service.said
    said = [each for each in service.said.splitlines() if not each.startswith("2")]
    assert said == ["failed, and goes on", "ended"], service.said
    with socket.socket() as taking:
        taking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taking.bind(("127.0.0.1", freePort))
        taking.listen()


def interpreterOf(user: pwd.struct_passwd) -> list[str] | None:
    """A Python of this version that another user may run, or None: root's home is nobody else's."""
    program = "import sys; print(sys.version_info[:2])"
    for each in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        with suppress(OSError):
            found = subprocess.run(
                [each, "-c", program],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
            )
            if found.stdout.decode().strip() == str(sys.version_info[:2]):
                return [each]
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone may become another user")
def test_asAnotherUser(start: Any, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Root opens the ports and the access log; the workers run as the user.

    A key that this user may not read ends the command with a line.
    """
    nobody = pwd.getpwnam("nobody")
    python = interpreterOf(nobody)
    require(python is not None, "a Python that others than root may run")
    assert python is not None
    paths = [str(Path(__file__).parents[2]), str(Path(twisted.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    by = [*python, "-c", "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"]
    by += ["-n", "--uid=nobody", f"--gid={nobody.pw_gid}", "--pidfile="]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = next(each for each in range(1023, 600, -1) if isFree(each))
        here = start(
            f"--listen=tcp:{port}:interface=127.0.0.1", "--access-log=access.log", by=by, folder=folder, ports=1
        )
        for pid in [here.pid, *here.workers.values()]:
            status = Path(f"/proc/{pid}/status").read_text()
            assert [line.split()[1:] for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))] == [
                [str(nobody.pw_uid)] * 4,
                [str(nobody.pw_gid)] * 4,
            ]
        with talking(port) as talk:
            talk.echo("hello")
        here.service.process.send_signal(signal.SIGTERM)
        assert here.ended() == -signal.SIGTERM
        assert "Traceback" not in here.said
        assert len((folder / "access.log").read_text().splitlines()) == 3
        for path in certificate:
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "key.pem").chmod(0o600)
        (folder / "certificate.pem").chmod(0o644)
        tls = "--listen=tls-files:tcp:0:interface=127.0.0.1:key=key.pem:certificate=certificate.pem"
        with services(folder) as begin:
            service = begin("--workers=2", "--app=application:application", tls, by=by)
            assert service.ended() == 1
        last = service.said.splitlines()[-1]
        assert "twistd engineio: --listen tls-files:" in last
        assert "key.pem" in last
        assert "Permission denied" in last


def isFree(port: int) -> bool:
    with socket.socket() as trying:
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
