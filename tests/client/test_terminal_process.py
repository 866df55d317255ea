"""The terminal tool as a process, as a user or a script starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory, ProxyServer

from engineio_twisted import listen

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


class ConnectProxy(ProxyServer):
    """A connection to an HTTP proxy that asks for a password, and then goes on to the server."""

    head = b""

    def connectionMade(self) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        if self.peer is not None:
            super().dataReceived(data)
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        if b"Proxy-Authorization: Basic YWRhOnNlY3JldA==\r\n" not in self.head:
            self.transport.write(b"HTTP/1.1 407 Who asks?\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = self.head.split()[1].decode().partition(":")
        self.factory.host, self.factory.port = host, int(port)
        self.transport.write(b"HTTP/1.1 200 Through\r\n\r\n")
        super().connectionMade()


@pytest_twisted.ensureDeferred
async def test_behindAProxy(serve: Any, certificate: tuple[Path, Path]) -> None:
    """The whole session goes through the proxy, with TLS inside; a proxy that refuses has an exit code."""
    from twisted.internet import reactor

    key, signed = certificate
    server = listen(f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={signed}")
    factory = ProxyFactory("", 0)
    factory.protocol, factory.noisy = ConnectProxy, False
    port = await within(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory), "the proxy")
    where = f"127.0.0.1:{port.getHost().port}"
    url = f"https://localhost:{(await within(server.listening, 'the server')).getHost().port}"

    def run() -> list[tuple[int, list[str]]]:
        ends = []
        common = ["--check", "--json", "--ca", str(signed), url]
        with tool("--proxy", f"ada:secret@{where}", *common) as one, tool("--proxy", where, *common) as other:
            for each in (one, other):
                out, err = each.communicate(timeout=SECONDS)
                assert err == b""
                ends.append((each.returncode, [json.loads(line)["event"] for line in out.splitlines()]))
        return ends

    try:
        through, refused = await within(deferToThread(run), "the tool")
        assert through == (0, ["connecting", "open", "upgrade", "close"])
        assert refused == (7, ["connecting", "failed"])
    finally:
        await within(server.close(), "the server closing")
        await within(port.stopListening(), "the proxy closing")


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
