"""What the service manager is told: as systemd reads it, over a socket with a path or an abstract name."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from engineio_twisted.workers.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = f"@engineio-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.setblocking(False)
        yield listening, name


def test_notifications(manager: tuple[socket.socket, str]) -> None:
    """One at a time: that it serves, reloads, stops, and twice in the time of the watchdog that it is alive."""
    listening, name = manager
    clock: Any = Clock()
    notifier = Notifier(clock, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())})

    def said() -> str:
        return listening.recv(4096).decode()

    notifier.ready("2 of 2 workers ready")
    assert said() == "READY=1\nSTATUS=2 of 2 workers ready"
    assert said() == "WATCHDOG=1"
    clock.pump([1.0] * 4)
    assert [said(), said()] == ["WATCHDOG=1"] * 2
    notifier.reloading()
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", said())
    notifier.ready("2 of 2 workers ready")
    notifier.status("1 of 2 workers ready")
    notifier.stopping()
    assert [said(), said(), said()] == [
        "READY=1\nSTATUS=2 of 2 workers ready",
        "STATUS=1 of 2 workers ready",
        "STOPPING=1\nSTATUS=Stopping",
    ]
    notifier.stop()
    assert clock.getDelayedCalls() == []
    with pytest.raises(BlockingIOError):
        said()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "1000000"}, {"NOTIFY_SOCKET": "@gone", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}],
)
def test_noManager(environment: dict[str, str], warnings: list[str]) -> None:
    """Without one nothing is sent; one that is gone is logged once. The watchdog may be that of another process."""
    clock: Any = Clock()
    notifier = Notifier(clock, environment)
    notifier.ready("ready")
    notifier.status("ready")
    assert clock.getDelayedCalls() == []
    assert len(warnings) == ("NOTIFY_SOCKET" in environment)
