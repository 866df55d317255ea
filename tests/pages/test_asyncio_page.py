"""docs/asyncio-and-threads.md: what its programs do is what the page says of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from engineio_twisted import Server
from engineio_twisted.testing import MemoryServer

from ..kit.examples import PATIENCE, running
from ..kit.fronts import changed
from ..kit.markdown import blocksOf
from ..kit.services import environment

PAGE = Path(__file__).parents[2] / "docs" / "asyncio-and-threads.md"


def block(heading: str) -> str:
    """Return the first program below a heading."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    (below,) = (number for number, line in enumerate(lines) if line.lstrip("#") == f" {heading}")
    return next(each.text for each in blocksOf(PAGE) if each.language == "python" and each.line > below)


def program(heading: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    exec(compile(block(heading), heading, "exec"), made)
    return made


def exchange(url: str, message: str) -> str:
    """Open a session by polling, send a message, and return what comes back."""
    here = f"{url.rstrip('/')}/?EIO=4&transport=polling"
    with urlopen(here, timeout=PATIENCE) as response:
        here += f"&sid={json.loads(response.read()[1:])['sid']}"
    with urlopen(here, f"4{message}".encode(), timeout=PATIENCE) as response:
        assert response.read() == b"ok"
    with urlopen(here, timeout=PATIENCE) as response:
        answer: str = response.read().decode()
    with urlopen(here, b"1", timeout=PATIENCE):
        return answer


def test_onAsyncio(freePort: int) -> None:
    """The program awaits what only an event loop of asyncio can run."""
    text = changed(block("Run on asyncio's event loop"), {"listen(3000)": f"listen({freePort})"})
    with running([sys.executable, "-c", text]) as here:
        assert exchange(here.url, "ada") == "4about ada"
        here.stop()


FOLLOWED = """
import asyncio, sys
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import defer, reactor, task
from engineio_twisted.testing import MemoryServer
(page,) = sys.argv[1:]
made = {}
exec(page, made)

async def main(reactor):
    # Until the event loop runs.
    await task.deferLater(reactor, 0)
    kit = MemoryServer(made["application"])
    client = kit.connect("websocket")
    socket = client.socket
    before = len(asyncio.all_tasks())
    while not client.received:
        await task.deferLater(reactor, 0.001)
    client.close()
    while len(asyncio.all_tasks()) == before:
        await task.deferLater(reactor, 0.001)
    assert set(client.received) == {"tick"}, client.received
    kit.close()

    async def wrong():
        await asyncio.sleep(0.001)

    try:
        await wrong()
    except RuntimeError as error:
        print(f"RuntimeError: {error}")

    ended = made["stop"](MemoryServer(made["application"]).server)
    await defer.Deferred.fromFuture(asyncio.ensure_future(ended))
    print("stopped")

task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
"""


def test_taskEndsWithItsSession() -> None:
    """A followed task is cancelled at the end of its session; a bare await of asyncio fails as the page says."""
    page = block("Await asyncio in a handler") + block("Await a Deferred in asyncio code")
    ran = subprocess.run(
        [sys.executable, "-c", FOLLOWED, page], env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ran.returncode == 0, ran.stderr
    told, stopped = ran.stdout.splitlines()
    assert f"`{told}`" in " ".join(PAGE.read_text(encoding="utf-8").split())
    assert stopped == "stopped"


@pytest_twisted.ensureDeferred
async def test_blockingCode() -> None:
    """What blocks runs in a thread, and its result is sent when it is there."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    with MemoryServer(program("Call blocking code")["application"]) as kit:
        client = kit.connect("websocket")
        client.send("secret")
        assert client.received == []
        deadline = time.monotonic() + PATIENCE
        while not client.received and time.monotonic() < deadline:
            await deferLater(reactor, 0.01)
        assert client.received == [hashlib.scrypt(b"secret", salt=b"salt", n=16384, r=8, p=1).hex()]


@pytest_twisted.ensureDeferred
async def test_fromAThread() -> None:
    """A thread has the reactor send, and waits for what it asks."""
    from twisted.internet import reactor

    sent: list[str] = []

    class Recorded(Server):
        def broadcast(self, data: Any, *, exclude: Any = None) -> int:
            sent.append(data)
            return 0

    server = Recorded(reactor=reactor)
    assert await deferToThread(program("Call the server from a thread")["inAThread"], reactor, server) == 0
    assert sent == ["from a thread"]
    await server.close()


def test_pausedWhileItWaits() -> None:
    """What a client sends while the handler waits arrives when it listens."""
    with MemoryServer(program("Connection handlers that await")["application"]) as kit:
        client = kit.connect("websocket")
        client.send("early")
        assert client.received == []
        kit.advance(0.05)
        client.send("late")
        assert client.received == ["ada: early", "ada: late"]


@pytest.mark.parametrize(("locked", "expected"), [(True, ["long one", "short"]), (False, ["short", "long one"])])
def test_oneAfterTheOther(locked: bool, expected: list[str]) -> None:
    """With the lock messages are handled in their order; without it they overtake each other."""
    text = block("Async message handlers run side by side")
    if not locked:
        text = changed(text, {"async with lock:": "if True:"})
    made: dict[str, Any] = {}
    exec(compile(text, "page", "exec"), made)
    with MemoryServer(made["application"]) as kit:
        client = kit.connect("websocket")
        client.send("long one")
        client.send("short")
        kit.advance(1)
        assert client.received == expected
