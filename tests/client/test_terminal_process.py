"""The terminal tool as a process, as a user or a script starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest_twisted
from twisted.internet.threads import deferToThread

from ..kit.clients import pythonPath, within

SECONDS = 60


@contextmanager
def tool(*arguments: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The tool in a process, which doesn't outlive the context."""
    command = [sys.executable, "-m", "engineio_twisted.client", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    # Nothing is to be buffered because the output is a pipe.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, env={**environment, **pythonPath()}, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def echoing(server: Any) -> None:
    @server.on("connection")  # type: ignore[untyped-decorator]
    def connected(socket: Any) -> None:
        socket.on("message", socket.send)


@pytest_twisted.ensureDeferred
async def test_conversation(serve: Any) -> None:
    """
    Lines go to the server at once, and messages come out at once, with the pipes still open.

    Ctrl-C closes the session, with exit code 0 and nothing to complain of.
    """
    running = await serve(echoing)
    reasons: list[str] = []
    running.server.on("connection", lambda socket: socket.on("close", lambda reason, _: reasons.append(reason)))

    def converse() -> tuple[list[str], int, bytes]:
        with tool(running.url, "--json") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            names = [json.loads(process.stdout.readline())["event"] for _ in range(3)]
            process.stdin.write("hello\né😀\n".encode())
            process.stdin.flush()
            for text in ("hello", "é😀"):
                assert json.loads(process.stdout.readline()) == {"event": "message", "text": text}
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=SECONDS)
            return [*names, json.loads(out)["event"]], process.returncode, err

    names, code, err = await within(deferToThread(converse), "the conversation")
    assert names == ["connecting", "open", "upgrade", "close"]
    assert (code, err) == (0, b"")
    assert reasons == ["transport close"]


@pytest_twisted.ensureDeferred
async def test_inAPipe(serve: Any) -> None:
    """A file is sent to its last byte before the session is closed; and a reader that has enough ends the tool."""
    received: list[str] = []

    def collecting(server: Any) -> None:
        @server.on("connection")  # type: ignore[untyped-decorator]
        def connected(socket: Any) -> None:
            socket.on("message", received.append)
            for number in range(1000):
                socket.send(f"message {number}")

    running = await serve(collecting)
    lines = [f"line {number} {'x' * 500}" for number in range(2000)]

    def send() -> tuple[int, bytes, bytes]:
        with tool(running.url, "--transport", "websocket", stdout=subprocess.DEVNULL) as process:
            _, err = process.communicate("\n".join(lines).encode(), timeout=SECONDS)
            first = process.returncode, err
        with tool(running.url, "--no-upgrade") as process:
            assert process.stdout is not None
            head = b"".join(process.stdout.readline() for _ in range(2))
            process.stdout.close()
            process.stdout = None
            _, err = process.communicate(timeout=SECONDS)
            return process.returncode, head, first[1] + err + bytes(first[0])

    code, head, err = await within(deferToThread(send), "the tool")
    assert (code, err) == (0, b"")
    assert head.startswith(b"* connecting to http://127.0.0.1:")
    assert b"\n* open on polling" in head
    assert received == lines


def test_nobody(freePort: int) -> None:
    """A server that isn't there: one line, and an exit code; also if there is no input at all."""
    url = f"http://127.0.0.1:{freePort}"
    without: dict[str, Any] = {"stdin": None, "preexec_fn": lambda: os.close(0)}
    with tool(url, **without) as process, tool(url, "--json", **without) as script:
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 4
        assert out.decode() == f"* connecting to {url}\n"
        (line,) = err.decode().splitlines()
        assert line.startswith("python -m engineio_twisted.client: connect: ")
        out, err = script.communicate(timeout=SECONDS)
        assert script.returncode == 4
        assert err == b""
        failed = json.loads(out.splitlines()[-1])
        assert (failed["event"], failed["type"], failed["exitCode"]) == ("failed", "connect", 4)
