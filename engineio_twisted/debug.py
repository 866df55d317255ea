"""What C{DEBUG} in the environment shows of servers and clients on stderr. docs/logging.md"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .logs import DebugScope
from .observer import ServerObserver
from .protocol.errors import HTTPRefusal
from .protocol.packet import Packet, describe


class DebugRequests(ServerObserver):
    """Shows the sessions that are opened and the requests that are refused."""

    def __init__(self) -> None:
        self._scope = DebugScope("engine")

    @property
    def isWanted(self) -> bool:
        """Whether DEBUG asks for it."""
        return self._scope.enabled

    def opened(self, socket: Any) -> None:
        self._scope.log(f"session {socket.logName} opened on {socket.transport.name}")

    def refused(self, request: Any, refusal: HTTPRefusal) -> None:
        # No more: what is in the query and in the body, and so in the context and the message, may be a secret.
        path = request.uri.partition(b"?")[0]
        self._scope.log(f"refused {request.method!r} {path!r}: {refusal.name}")


class DebugStates(ServerObserver):
    """Shows how the states of sessions change."""

    def __init__(self) -> None:
        self._scope = DebugScope("engine:socket")

    @property
    def isWanted(self) -> bool:
        """Whether DEBUG asks for it."""
        return self._scope.enabled

    def stateChanged(self, socket: Any, before: Any, after: Any) -> None:
        self._scope.log(f"{socket.logName}: {before.value} -> {after.value}")


class DebugPackets(ServerObserver):
    """Shows the packets that come and go, by type and size."""

    def __init__(self) -> None:
        self._scopes = {"polling": DebugScope("engine:polling"), "websocket": DebugScope("engine:ws")}

    @property
    def isWanted(self) -> bool:
        """Whether DEBUG asks for it."""
        return any(each.enabled for each in self._scopes.values())

    def packetsReceived(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        self._show(f"{socket.logName}: received", packets, transport)

    def packetsSent(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        self._show(f"{socket.logName}: sending", packets, transport)

    def _show(self, what: str, packets: Sequence[Packet], transport: Any) -> None:
        self._scopes[transport.name].log(f"{what} {'; '.join(map(describe, packets))}")


def debugObservers() -> list[ServerObserver]:
    """Return the observers that show on stderr what C{DEBUG} in the environment asks for."""
    return [each for each in (DebugRequests(), DebugStates(), DebugPackets()) if each.isWanted]
