"""The client of python-engineio against the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from ..kit.clients import Application, Message, Program, Run, Session, echoed, overEveryTransport, pack


def assertTransport(session: Session, program: Program, transports: list[str]) -> None:
    """Both sides ended up on the last of the client's transports."""
    assert session.socket.transport.name == transports[-1]
    assert session.socket.upgraded is (len(transports) > 1)
    assert program.named("connect") == [{"event": "connect", "transport": transports[0]}]
    (connected,) = program.named("connected")
    assert connected == {"event": "connected", "sid": session.socket.id, "transport": transports[-1]}


MESSAGES: dict[str, list[Message]] = {
    # Fewer than sixteen: this client refuses a payload with more packets than that.
    "several": ["one", bytes(range(256)), "", b"", "é € 😀 👩‍👩‍👧‍👦 \u2028", "six", "seven", b"eight", "nine", "ten"],
    # One at a time: this client puts all it has into one request, however much the server takes.
    "large text": ["0123456789abcdé" * 33_333],
    "large binary": [bytes(range(250)) * 2_000],
}


@overEveryTransport
@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, python: Run, transports: list[str], messages: list[Message]) -> None:
    """What this client sends arrives unchanged and in order, and so does the echo; then the client leaves."""
    session, program = await echoed(serve, python, transports, messages)
    assert program.named("disconnect") == [{"event": "disconnect", "reason": "client disconnect"}]
    assertTransport(session, program, transports)


@pytest.mark.parametrize(
    ("close", "ending"),
    [
        (lambda socket: socket.close(), "forced close"),
        (lambda socket: socket.server.drain(), "server shutting down"),
    ],
    ids=["session", "server"],
)
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_serverCloses(
    serve: Any, python: Run, transports: list[str], close: Callable[[Any], object], ending: str
) -> None:
    """When the server closes, or is drained, this client gets what was sent before, and notices the end."""

    def handler(socket: Any) -> None:
        def leave(message: Message) -> None:
            socket.send("goodbye")
            close(socket)

        socket.on("message", leave)

    application = Application(handler, echo=False)
    running = await serve(application)
    program = python(running.url, "listen", transports, messages=[pack("hello")])
    session = await application.ended(program, ending)
    assert session.messages == ["hello"]
    assert program.messages == ["goodbye"]
    # The close packet is told as it is; a closed WebSocket this client calls an error, clean as it may be.
    reason = "server disconnect" if transports == ["polling"] else "transport error"
    assert program.named("disconnect") == [{"event": "disconnect", "reason": reason}]
    assertTransport(session, program, transports)
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_lost(serve: Any, python: Run) -> None:
    """This client's program fails at once, and says why, when it loses the connection in the middle of an echo."""
    application = Application(lambda socket: socket.on("message", lambda message: socket.close()))
    running = await serve(application)
    program = python(running.url, "echo", ["websocket"], messages=[pack("one"), pack("two")])
    with pytest.raises(AssertionError, match=r"the connection was lost \(transport error\), \d messages had not come"):
        await program.finish()
    assert "Timeout" not in str(program)
