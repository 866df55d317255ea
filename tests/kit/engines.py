"""The WebSocket engines that there are here: Twisted's own needs a newer Twisted than everything else."""

from __future__ import annotations

from typing import Any

import pytest
from incremental import Version

from engineio_twisted import AutobahnEngine, turns
from engineio_twisted.transports import engine_autobahn, polling, websocket
from engineio_twisted.web import channel
from twisted import version

TwistedEngine: Any = None
if version >= Version("Twisted", 26, 10, 0):
    from engineio_twisted.transports.engine_twisted import TwistedEngine  # type: ignore[no-redef]


class ConfiguredAutobahn(AutobahnEngine):
    """An engine that sets an option of Autobahn's, whose WebSockets Autobahn therefore reads and writes alone."""

    def __init__(self, clock: Any, options: Any) -> None:
        super().__init__(clock, options)
        self.setProtocolOptions(maxConnections=2**31)


ENGINES = [each for each in (AutobahnEngine, TwistedEngine) if each is not None]

needsTwistedEngine = pytest.mark.skipif(TwistedEngine is None, reason="the engine of Twisted needs Twisted 26.10")


def closeWithin(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have WebSockets that are closed cut after so many seconds, whatever the package says."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", seconds)


def everyMessageTakesATurn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a turn of the reactor be over after each message of a client."""
    modules: list[Any] = [turns, polling, engine_autobahn, channel]
    if TwistedEngine is not None:
        from engineio_twisted.transports import engine_twisted

        modules.append(engine_twisted)
    for each in modules:
        monkeypatch.setattr(each, "TURN", 0.0)
