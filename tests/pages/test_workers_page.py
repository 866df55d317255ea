"""docs/several-processes.md: its program runs in two workers, by its command, its file and its service."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IServiceCollection

from engineio_twisted.operation.tap import Options
from engineio_twisted.testing import MemoryCluster
from engineio_twisted.workers import WorkersService
from engineio_twisted.workers.slots import BACKOFF, STEADY

from ..kit.fronts import changed
from ..kit.markdown import blocksOf
from ..kit.services import Talk, command, services, talking
from ..kit.wire import http, target

PAGE = Path(__file__).parents[2] / "docs" / "several-processes.md"
TEXT = PAGE.read_text(encoding="utf-8")


def block(language: str, beginning: str = "") -> str:
    """The only block of the page in a language that begins so."""
    (found,) = (each.text for each in blocksOf(PAGE) if each.language == language and each.text.startswith(beginning))
    return found


PROGRAM = block("python", "# application.py")
COMMAND = shlex.split(block("sh", "twistd -n engineio"))


class Client:
    """A client on polling, whose requests come on one connection."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.sid = json.loads(talk.ask(http("GET", target()))[1:])["sid"]
        self._unread: list[str] = []
        (text,) = self.hear(1)
        found = re.fullmatch(rf"you are {re.escape(self.sid)}, in slot (\d)", text)
        assert found is not None, text
        self.slot = int(found[1])

    def say(self, text: str) -> None:
        assert self._talk.ask(http("POST", target(sid=self.sid), body=f"4{text}".encode())) == b"ok"

    def hear(self, count: int) -> list[str]:
        while len(self._unread) < count:
            packets = self._talk.ask(http("GET", target(sid=self.sid))).decode().split("\x1e")
            self._unread += [each[1:] for each in packets if each != "2"]
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def close(self) -> None:
        assert self._talk.ask(http("POST", target(sid=self.sid), body=b"1")) == b"ok"


@pytest.mark.slow
def test_fromBeginningToEnd(tmp_path: Path, freePort: int) -> None:
    """Two workers serve the program; sessions of both hear each other; a reload imports it anew, and stops nobody."""
    (tmp_path / "application.py").write_text(PROGRAM)
    before = COMMAND.index("engineio")
    there = {"3000": f"{freePort}:interface=127.0.0.1"}
    arguments = [changed(each, there) if "3000" in each else each for each in COMMAND]
    with services(tmp_path) as start:
        service = start(*arguments[before + 1 :], by=[command("twistd"), "--pidfile=", *COMMAND[1:before]])
        assert service.process.poll() is None, service.said

        def said(text: str) -> None:
            """Wait for a line of the log."""
            for line in service.process.stdout:
                service.said += line
                if text in line:
                    return
            raise AssertionError(f"there is no {text!r}: {service.said}")

        said("Worker 2 (slot 1, process ")
        for line in block("text").splitlines():
            pattern = re.escape(line).replace("4711", r"\d+").replace(r"0\.0\.0\.0:3000", f"127.0.0.1:{freePort}")
            assert re.search(pattern, service.said), line
        with talking(freePort) as one, talking(freePort) as other:
            clients = sorted([Client(one), Client(other)], key=lambda each: each.slot)
            assert [each.slot for each in clients] == [0, 1] or clients[0].sid[:2] == clients[1].sid[:2]
            first, second = clients
            first.say("hello")
            assert [each.hear(1) for each in clients] == [["hello"]] * 2
            first.say(f"to {second.sid} for you")
            assert (first.hear(1), second.hear(1)) == (["sent"], ["for you"])
            first.say("to 99-nobody for you")
            assert first.hear(1) == ["there is no such session"]
            for each in clients:
                each.close()
        (tmp_path / "application.py").write_text(changed(PROGRAM, {"you are": "you are now"}))
        service.process.send_signal(signal.SIGHUP)
        said("Reloaded: 2 of 2 workers ready")
        with talking(freePort) as talk:
            sid = json.loads(talk.ask(http("GET", target()))[1:])["sid"]
            assert talk.ask(http("GET", target(sid=sid))).decode().startswith(f"4you are now {sid}, in slot ")
            assert talk.ask(http("POST", target(sid=sid), body=b"1")) == b"ok"
        assert service.stop() == -signal.SIGTERM


def options(*arguments: str) -> Options:
    """What a command line asks for."""
    read = Options()
    read.parseOptions(arguments)
    return read


def test_theSameInAFile(tmp_path: Path) -> None:
    """The file of the page says what the command says."""
    (tmp_path / "server.toml").write_text(block("toml"))
    inFile = options("--config", str(tmp_path / "server.toml"))
    typed = options(*COMMAND[COMMAND.index("engineio") + 1 :])
    for name in ("serviceOptions", "serverOptions"):
        assert inFile[name] == typed[name]
    assert typed["serviceOptions"].workers == 2


def test_service() -> None:
    """The service of the page runs the same workers as the command; it is started as the page says."""
    made: dict[str, Any] = {}
    exec(compile(block("python", "# service.tac"), str(PAGE), "exec"), made)
    (service,) = IServiceCollection(made["application"])
    assert isinstance(service, WorkersService)
    assert service.count == 2
    assert block("sh", "twistd -n -y").split()[-1] == "service.tac"


def test_example() -> None:
    """The example is the program of the page, and is started by its command."""
    folder = PAGE.parents[1] / "examples" / "workers"
    assert (folder / "application.py").read_text(encoding="utf-8").endswith(PROGRAM.partition("\n")[2])
    assert shlex.join(COMMAND) in (folder / "README.md").read_text(encoding="utf-8").splitlines()


def test_inMemory() -> None:
    """In memory the program does the same for clients that reach any worker."""
    made: dict[str, Any] = {}
    exec(compile(PROGRAM, str(PAGE), "exec"), made)
    with MemoryCluster(made["application"]) as kit:
        one, other = kit.connect(worker=1), kit.connect(worker=2)
        assert [one.receive(), other.receive()] == [f"you are {one.sid}, in slot 0", f"you are {other.sid}, in slot 1"]
        other.send("hello")
        assert [one.receive(), other.receive()] == ["hello", "hello"]
        one.send(f"to {other.sid} for you")
        assert (one.receive(), other.receive()) == ("sent", "for you")


def test_figures() -> None:
    """The waits, and the settings that need a restart, are those of the code."""
    first, *others = (f"{each:g}" for each in BACKOFF)
    assert first == "0"
    assert f"waits {others[0]} s, then {', '.join(others[1:-1])} and {others[-1]} s" in TEXT
    assert STEADY == 60
    service = options("--workers", "2")["serviceOptions"]
    assert f"`workersHangTimeout`, {service.workersHangTimeout // 1000} s" in TEXT
    assert f"`workersStartTimeout`, {service.workersStartTimeout // 1000} s" in TEXT
    (line,) = re.findall(r"These settings need a restart: (.*)\. A reload", TEXT)
    assert set(re.findall(r"`(\w+)`", line)) == {*options("--workers", "2").given.fixed()}
