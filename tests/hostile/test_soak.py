"""The soak: that a short one passes, and that it notices what it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..kit.clients import pythonPath
from ..soak.plan import ENDS, FROM_CLIENT, FROM_SERVER, Checked, message, planOf, reasonsFor

ROOT = Path(__file__).parents[2]

# A server that does everything wrong, but rarely.
SABOTAGED = """
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from engineio_twisted.session.socket import Socket
from tests.soak import server

send, kept = Socket.send, []

def sendBadly(socket, data, *rest):
    number = data.split("." if isinstance(data, str) else b".")[0]
    if not number.isdigit():
        return send(socket, data, *rest)
    number = int(number)
    if number % 50 == 7:
        return socket
    if number % 50 == 8:
        send(socket, data)
    if number % 50 == 9 and socket not in kept:
        kept.append(socket)
    return send(socket, data, *rest)

Socket.send = sendBadly
react(lambda reactor: Deferred.fromCoroutine(server.main(reactor)))
"""


def soak(seconds: int, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The path last: it adds the package to what the folder already gives.
    environment = {**os.environ, **pythonPath(), "SOAK_SECONDS": str(seconds), "SOAK_RATE": "100", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.mark.slow
def test_short() -> None:
    """Some hundred sessions that come, talk and vanish leave nothing behind, and no message is lost."""
    ended = soak(8, "-m", "tests.soak")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing left, nothing lost" in ended.stdout


@pytest.mark.apart
def test_shortWithWorkers() -> None:
    """Workers that are killed and replaced: sessions of the others lose nothing, and nothing is left."""
    ended = soak(16, "-m", "tests.soak.workers", SOAK_RATE="10", SOAK_WORKERS="2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing left, nothing lost" in ended.stdout


@pytest.mark.apart
def test_notices() -> None:
    """A server that loses messages, sends some twice, and keeps sessions is found out, in all of it."""
    program = f"import sys; from tests.soak.__main__ import main; sys.exit(main('-c', {SABOTAGED!r}))"
    ended = soak(6, "-c", program)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    for wrong in ("messages came", "was to come, and", "objects of engineio_twisted.session.session.Session: "):
        assert wrong in ended.stdout, ended.stdout + ended.stderr


def test_messages() -> None:
    """Each message is another, and one that is lost, doubled or cut is told from the one that was to come."""
    for direction in (FROM_CLIENT, FROM_SERVER):
        right = [message(1234, direction, number) for number in range(40)]
        assert len(set(right)) == 40
        assert {type(each) for each in right} == {str, bytes}
        for wrong in (right[:5] + right[6:], [*right[:5], *right[4:]], [*right[:5], right[5][:-1], *right[6:]]):
            checked = Checked(1234, direction)
            for each in wrong:
                checked.take(each)
            assert checked.problem
        checked = Checked(1234, direction)
        for each in right:
            checked.take(each)
        assert (checked.count, checked.problem) == (40, "")


def test_plans() -> None:
    """The same number makes the same session, and all ends, transports and revisions come in a minute of them."""
    plans = [planOf(5, serial) for serial in range(3000)]
    assert plans == [planOf(5, serial) for serial in range(3000)]
    assert {each.end for each in plans} == set(ENDS)
    assert {(each.way, each.revision) for each in plans} == {
        (way, revision) for way in ("polling", "websocket", "upgrade") for revision in (3, 4)
    }
    assert {each.isSocketIO for each in plans} == {False, True}
    assert all(sum(count for _, count in each.delays) == each.fromClient for each in plans)
    assert all(reasonsFor(each) for each in ENDS)
