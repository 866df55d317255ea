"""Workers as the command and an application start them, over real processes."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from twisted.internet import reactor

from engineio_twisted import Cookie
from engineio_twisted.operation.commandline import optionsOfWorker
from engineio_twisted.protocol.errors import OptionError
from engineio_twisted.workers import WorkersService

from ..kit.services import DEADLINE, Service, command

APPLICATION = """
def application(server):
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data[::-1])))

def failing(server):
    raise RuntimeError("no database")

async def failingLater(server):
    raise RuntimeError("no database, after all")
"""

EMBEDDING = """
from twisted.application.service import Application, MultiService

from engineio_twisted.workers import WorkersService

application = Application("several")
parent = MultiService()
parent.setServiceParent(application)
service = WorkersService(
    "served:application", {listen!r}, workers=2, drainTimeout=10, cookie={{"name": "route"}}, maxSessions=None
)
service.setServiceParent(parent)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    """Starts a program in the folder, and waits until it serves or has ended."""
    started: list[Service] = []

    def run(program: str, *arguments: str) -> Service:
        started.append(Service([command(program), *arguments], folder))
        return started[-1].started()

    yield run
    for each in started:
        each.kill()
        sys.stdout.write(each.said)


def placeOf(service: Service, what: str) -> str:
    """Return the address that a service logs."""
    found = re.search(rf"{what}.* at (http://127\.0\.0\.1:\d+)", service.said)
    assert found is not None, service.said
    return found[1]


def reversedBy(place: str, headers: dict[str, str] | None = None) -> str:
    """Open a session, and return what an application that reverses text says to a message."""
    url = f"{place}/engine.io/?EIO=4&transport=polling"
    with urlopen(url, timeout=DEADLINE) as response:
        url += f"&sid={json.loads(response.read()[1:])['sid']}"
        if headers is not None:
            headers.update(response.headers)
    with urlopen(url, b"4abc", timeout=DEADLINE) as response:
        assert response.read() == b"ok"
    with urlopen(url, timeout=DEADLINE) as response:
        text: str = response.read().decode()
    return text


LISTEN = "tcp:0:interface=127.0.0.1"
PROGRAMS = [
    ("twistd", "-n", "--pidfile=", "engineio"),
    ("twist", "--log-format=text", "engineio"),
    ("python", "-m", "engineio_twisted"),
]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=[each[0] for each in PROGRAMS])
def test_theCommand(start: Any, folder: Path, program: tuple[str, ...]) -> None:
    """It serves by workers, says where once, and stops as one process does; no worker is left."""
    arguments = [f"--listen={LISTEN}", f"--health={LISTEN}", "--workers=2", "--app=served:application"]
    service = start(*program, *arguments, "--drain-timeout=10", "--access-log=access.log")
    place, health = placeOf(service, "is served"), placeOf(service, "For operators: /health, /ready")
    assert reversedBy(place) == "4cba"
    with urlopen(f"{health}/ready", timeout=DEADLINE) as response:
        assert json.loads(response.read())["workers"] == 2
    assert service.stop() == -signal.SIGTERM
    assert service.said.count(" is served at ") == 1
    assert service.said.count("Application: served:application") == 1
    assert "Traceback" not in service.said
    lines = (folder / "access.log").read_text().splitlines()
    assert [each.count(" HTTP/1.1") for each in lines] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--app=served:failing"], "--app served:failing: failed (RuntimeError: no database) at {here}/served.py:6"),
        (["--app=served:failingLater"], "--app served:failingLater: failed"),
        (["--app=nowhere:x"], "--app nowhere:x: cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        (["--socketio"], "--socketio: name an application with --app, which calls SocketIO(server)"),
        (
            ["--listen=tcp:1:interface=203.0.113.1"],
            "--listen tcp:1:interface=203.0.113.1: cannot listen (Cannot assign requested address)",
        ),
    ],
)
def test_whatFailsAtTheStart(start: Any, folder: Path, arguments: list[str], expected: str) -> None:
    """The first worker, or the parent, ends the command with the line and the status of one process."""
    service = start("twistd", "-n", "engineio", f"--listen={LISTEN}", "--workers=2", *arguments)
    assert service.ended() == 1
    line = f"twistd engineio: {expected.format(here=folder)}"
    assert [each.endswith(line) for each in service.said.splitlines()].count(True) == 1
    assert not (folder / "twistd.pid").exists()


@pytest.mark.slow
def test_embedded(start: Any, folder: Path) -> None:
    """An application's own service among others has the same workers, with options that are plain data."""
    (folder / "several.py").write_text(EMBEDDING.format(listen=LISTEN))
    service = start("twistd", "-n", "--pidfile=", "-y", "several.py")
    headers: dict[str, str] = {}
    assert reversedBy(placeOf(service, "is served"), headers) == "4cba"
    assert headers["Set-Cookie"].startswith("route=")
    assert service.stop() == -signal.SIGTERM
    assert "Traceback" not in service.said


def handler(server: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"allowRequest": handler}, "allowRequest"),
        ({"app": handler}, "app"),
        ({"cookie": Cookie()}, "cookie"),
        ({"cookie": {"name": b"x"}}, "cookie.name"),
        ({"allowedOrigins": ["https://a.example", re.compile("x")]}, "allowedOrigins"),
        ({"initialPacket": b"x"}, "initialPacket"),
    ],
)
def test_objects(options: dict[str, Any], expected: str) -> None:
    """What can't be carried into another process is refused with its name, and what to give in its place."""
    with pytest.raises(OptionError, match="expected plain data, or the name of an object: module:attribute") as caught:
        WorkersService(**{"app": "json:loads", **options}, reactor=reactor)
    assert caught.value.name == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": None}, "workers"),
        ({"pingInterval": 0}, "pingInterval"),
        ({"pingIntervall": 1}, "pingIntervall"),
        ({"cookie": {"nam": "x"}}, "cookie.nam"),
        ({"idPrefix": "x" * 22}, "idPrefix"),
        ({"accessLog": ""}, "accessLog"),
    ],
)
def test_wrongOptions(options: dict[str, Any], expected: str) -> None:
    """They are refused as those of a server are."""
    with pytest.raises(OptionError) as caught:
        WorkersService("json:loads", 0, **options, reactor=reactor)
    assert caught.value.name == expected


@pytest.mark.parametrize("endpoint", ["nonsense:1", 99999, -1, "127.0.0.1:80"])
def test_wrongEndpoints(endpoint: Any) -> None:
    """So is what is none."""
    with pytest.raises(OptionError, match=str(endpoint)) as caught:
        WorkersService("json:loads", endpoint, workers=1, reactor=reactor)
    assert caught.value.name == "endpoints"


def test_plainData() -> None:
    """Whatever TOML can say reaches the workers as it is."""
    expires = datetime.fromisoformat("2030-01-02T03:04:05+00:00")
    service = WorkersService(
        "json:loads",
        0,
        "tcp:1",
        workers=3,
        reactor=reactor,
        cookie={"name": "x", "expires": expires},
        initialPacket='a "b"\n',
        transports=("polling",),
        maxSessions=None,
        allowEIO3=True,
        allowRequest="json:loads",
        workersHangTimeout=None,
    )
    told = optionsOfWorker(service.slots.generation.configuration)
    server = told["serverOptions"]
    assert told["serviceOptions"].listen == ("0", "tcp:1")
    assert (told["serviceOptions"].workers, told["serviceOptions"].workersHangTimeout) == (3, None)
    assert (server.cookie.name, server.cookie.expires, server.initialPacket) == ("x", expires, 'a "b"\n')
    assert (server.transports, server.maxSessions, server.allowEIO3) == (("polling",), None, True)
    assert server.allowRequest is told["application"] is json.loads
