"""The WebSocket engines that there are here: Twisted's own needs a newer Twisted than everything else."""

from __future__ import annotations

from typing import Any

import pytest
from incremental import Version

from engineio_twisted import AutobahnEngine, turns
from engineio_twisted.transports import connection, delivery, engine_autobahn
from engineio_twisted.web import pace
from twisted import version

TwistedEngine: Any = None
if version >= Version("Twisted", 26, 10, 0):
    from engineio_twisted.transports.engine_twisted import TwistedEngine  # type: ignore[no-redef]


ENGINES = [each for each in (AutobahnEngine, TwistedEngine) if each is not None]

needsTwistedEngine = pytest.mark.skipif(TwistedEngine is None, reason="the engine of Twisted needs Twisted 26.10")


def piecesOf(webSocket: Any) -> list[Any]:
    """The pieces of a message that isn't complete, as the engine holds them."""
    if TwistedEngine is not None and hasattr(webSocket, "wire"):
        return list(webSocket.wire._textBuffer._pieces)
    message = webSocket._reader._message
    return list(getattr(message, "_raw", message)._pieces)


def closeWithin(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Abort closed WebSockets after so many seconds, whatever the package says."""
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", seconds)


def everyMessageTakesATurn(monkeypatch: pytest.MonkeyPatch) -> None:
    """End a turn of the reactor after each message of a client."""
    modules: list[Any] = [turns, delivery, engine_autobahn, pace]
    if TwistedEngine is not None:
        from engineio_twisted.transports import engine_twisted

        modules.append(engine_twisted)
    for each in modules:
        monkeypatch.setattr(each, "TURN", 0.0)
