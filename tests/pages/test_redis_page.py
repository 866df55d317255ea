"""docs/socketio-redis.md: two processes and an emitter, as the page has them; what it says of options and metrics."""

from __future__ import annotations

import inspect
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from engineio_twisted.redis import RedisOptions
from engineio_twisted.socketio import RemoteTimeout
from engineio_twisted.socketio.packet import JSONParser
from engineio_twisted.socketio.redis import RedisAdapter
from engineio_twisted.socketio.testing.client import connect
from engineio_twisted.testing import MemoryServer

from ..kit.cluster import clusters, events
from ..kit.fronts import changed
from ..kit.markdown import blocksOf
from ..kit.redis import redisServers
from ..kit.services import Talk, command, environment, services, talking, waitUntil
from ..kit.wire import http, target

PAGE = Path(__file__).parents[2] / "docs" / "socketio-redis.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str, has: str = "") -> list[str]:
    """Return the blocks of a language that have something in them."""
    return [each.text for each in blocksOf(PAGE) if each.language == language and has in each.text]


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """A client of Socket.IO, on polling."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._sid = talk.open("/socket.io/")
        self.say("40")
        assert self.hear().startswith('40{"sid":"')

    def say(self, packet: str) -> None:
        assert self._talk.ask(http("POST", target("/socket.io/", sid=self._sid), body=packet.encode())) == b"ok"

    def hear(self) -> str:
        return self._talk.ask(http("GET", target("/socket.io/", sid=self._sid))).decode()


@pytest.mark.slow
def test_fromBeginningToEnd(tmp_path: Path) -> None:
    """Two processes started by the commands of the page hear each other and its emitter, as the user it describes."""
    application, job = blocks("python", "# chat.py")[0], blocks("python", "# job.py")[0]
    (tmp_path / "chat.py").write_text(application)
    starts = [each for block in blocks("sh") for each in block.splitlines() if each.startswith("twistd ")]
    assert len(starts) == 2
    with ExitStack() as ends:
        server = ends.enter_context(redisServers(tmp_path))()
        start = ends.enter_context(services(tmp_path))
        waitUntil(lambda: server.ask("PING") == "+PONG", "Redis")
        (acl,) = blocks("text", "ACL SETUSER")
        assert server.ask(acl.strip()) == "+OK"
        url = f"redis://chat:secret@127.0.0.1:{server.port}"
        clients = []
        for line in starts:
            arguments = shlex.split(line)
            port = free()
            arguments = [re.sub(r"^tcp:\d+$", f"tcp:{port}:interface=127.0.0.1", each) for each in arguments]
            before = arguments.index("engineio")
            by = ["env", f"REDIS_URL={url}", command("twistd"), *arguments[1:before]]
            start(*arguments[before + 1 :], by=by)
            clients.append(Client(ends.enter_context(talking(port))))
        waitUntil(lambda: server.subscribers("socketio") == 2, "the connections to Redis")
        clients[0].say('42["say","hello"]')
        assert [each.hear() for each in clients] == 2 * ['42["said","hello"]']
        text = changed(job, {"redis://localhost:6379": server.url})
        subprocess.run([sys.executable, "-c", text], check=True, env=environment(), timeout=60)
        assert [each.hear() for each in clients] == 2 * ['42["said","the backup is complete"]']
        for each in clients:
            each.say("1")


def test_parts(certificate: tuple[Path, Path]) -> None:
    """The other programs of the page do what it says."""
    made: dict[str, Any] = {"RedisAdapter": RedisAdapter}
    for each in blocks("python"):
        if not each.startswith("#"):
            exec(compile(each, str(PAGE), "exec"), made)
    with clusters() as make:
        cluster = make()
        one, other = cluster.start(), cluster.start()
        ids = sorted(each.socketOf(each.connect("lobby")).id for each in (one, other))
        results: list[Any] = []
        from twisted.internet.defer import Deferred

        Deferred.fromCoroutine(made["online"](one.io)).addCallback(results.append)
        cluster.settle()
        assert results == [ids]
        cluster.redis.stop()
        Deferred.fromCoroutine(made["online"](one.io)).addCallback(results.append)
        cluster.pass_(5.1)
        assert len(results[1]) == 1
        assert made["RemoteTimeout"] is RemoteTimeout
    adapter = made["encrypted"](certificate[1].read_bytes())
    assert str(adapter.connection.address) == "rediss://redis.example.com:6380"


def test_serverSide(capsys: pytest.CaptureFixture[str]) -> None:
    """What one process says to the others reaches their handlers."""
    made: dict[str, Any] = {}
    (block,) = blocks("python", "onServerSide")
    exec(compile(block, str(PAGE), "exec"), made)
    with clusters() as make:
        cluster = make()
        one, other = cluster.start(), cluster.start()
        made["configure"](other.io)
        cluster.settle()
        made["configure"](one.io)
        cluster.settle()
    assert capsys.readouterr().out == "reloading prices\n"


def test_inMemory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory the application of the page serves its clients, without Redis."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    made: dict[str, Any] = {}
    exec(compile(blocks("python", "# chat.py")[0], str(PAGE), "exec"), made)
    with MemoryServer(made["application"], path="/socket.io") as kit:
        clients = [connect(kit, JSONParser(fromServer=True)) for _ in range(2)]
        clients[0].emit("say", "hello")
        kit.advance(100)
        assert [events(each) for each in clients] == 2 * [[("said", "hello")]]


def test_options() -> None:
    """The table has every option, and the defaults that they have."""
    table = TEXT.partition("## Options")[2].partition("## Security")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|(?: `?(\w+)`?)? \|", table, re.MULTILINE))
    own = inspect.signature(RedisAdapter).parameters
    defaults = {name: own[name].default for name in ("channel", "requestTimeout", "maxMessageBytes")}
    defaults |= {each.name: each.default for each in attrs.fields(RedisOptions)}
    assert rows == {**{name: str(value) for name, value in defaults.items()}, "tls": "", "endpoint": ""}


def test_metrics() -> None:
    """Each metric that the page names is there, and is a counter if it is said to be one."""
    named = set(re.findall(r"`(socketio_redis_\w+[a-z])`", TEXT))
    measures = RedisAdapter("redis://localhost").measures()
    there = {f"{each.name}_total" if each.isCounter else each.name for each in measures}
    assert named <= there
    assert len(named) >= 7
