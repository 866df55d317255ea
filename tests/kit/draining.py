"""Servers that stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted import Server

from .encrypted import connect as connect
from .fakes import FakeRequest
from .services import Talk, services
from .wire import upgrade

OPEN = b"/engine.io/?EIO=4&transport=polling"


def ask(server: Server, uri: bytes = OPEN, method: bytes = b"GET", body: bytes = b"") -> FakeRequest:
    request = FakeRequest(method, uri, body)
    server.handleRequest(request)
    return request


def start(server: Server) -> tuple[Any, bytes]:
    """Open a session; return its socket, and where it polls."""
    sid = json.loads(ask(server).written[1:])["sid"]
    return server.clients[sid], OPEN + b"&sid=" + sid.encode()


APPLICATION = """
import os, signal

def application(server):
    def stop(data):
        # To all, and then the signal, in the same turn.
        server.broadcast("last")
        os.kill(os.getpid(), signal.SIGTERM)

    server.on("connection", lambda socket: socket.on("message", stop))
"""


@pytest.fixture
def stopping(tmp_path: Path, freePort: int) -> Iterator[Any]:
    """Starts a service that sends a last message and ends itself when it is told anything; `.port` is its port."""
    (tmp_path / "stopping.py").write_text(APPLICATION)
    with services(tmp_path) as start:

        def run(*arguments: str) -> Any:
            return start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--app=stopping:application", *arguments)

        run.port = freePort  # type: ignore[attr-defined]
        yield run


def openedWebSocket(talk: Talk) -> None:
    talk.connection.sendall(upgrade())
    assert talk.response()[0] == 101
    assert talk.frame()[1].startswith(b"0{")
