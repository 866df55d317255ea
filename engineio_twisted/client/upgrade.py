"""The move of a client's session from polling to WebSocket. docs/protocol.md, "Upgrade"."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ..interfaces import LEFT, Closing
from ..protocol.packet import PROBE, Packet, PacketType, excerpt
from ..session.states import Input, UpgradeState
from ..session.suspension import isSuspended
from ..session.upgrade import Upgrade
from .errors import ConnectionFailed, FailureType

MAX_REMEMBERED = 1000
"""Servers of which it is remembered that sessions have moved to WebSocket."""

_upgradedTo: OrderedDict[str, None] = OrderedDict()
"""Servers to which the last session moved to WebSocket, the latest last."""


def remember(origin: str) -> None:
    """Remember that a session with a server is on WebSocket."""
    _upgradedTo[origin] = None
    _upgradedTo.move_to_end(origin)
    if len(_upgradedTo) > MAX_REMEMBERED:
        _upgradedTo.popitem(last=False)


def isRemembered(origin: str) -> bool:
    """Return whether the last session with a server was on WebSocket."""
    return origin in _upgradedTo


def forget(origin: str) -> None:
    """Forget that, as a WebSocket of that server has failed."""
    _upgradedTo.pop(origin, None)


class ClientUpgrade(Upgrade):
    """
    A WebSocket that this client tries out.

    It is asked to answer a probe. If it does, polling begins nothing new, and when neither a GET nor a POST is under
    way the server is told that the session has moved.

    @param session: the L{Client}, whose transport is polling.
    @param candidate: the WebSocket, which isn't connected yet.
    """

    __slots__ = ("_failure", "_isAsked")

    def __init__(self, session: Any, candidate: Any) -> None:
        super().__init__(session, candidate)
        self._failure: ConnectionFailed | None = None
        self._isAsked = False

    def opened(self) -> None:
        """Called when the WebSocket is open, and again when it is writable after it wasn't."""
        if not self._isAsked:
            self._isAsked = True
            self.candidate.send([Packet(PacketType.PING, PROBE)])

    def received(self, packet: Packet) -> None:
        session = self._session
        if packet.type is PacketType.PONG and packet.data == PROBE and self._step(Input.PROBE):
            session.emit("upgrading", self.candidate)
            # A handler may have closed the session.
            if session._upgrade is self:
                session.transport.pause(self._paused)
        elif packet.type is not PacketType.NOOP:
            data = packet.data
            text = data if isinstance(data, str) else excerpt(data)
            self.failed(
                ConnectionFailed(
                    FailureType.PROBE,
                    f"the probe was answered {packet.type.name.lower()} {text:.40}: expected pong {PROBE}",
                    self.candidate.name,
                )
            )

    def failed(self, failure: ConnectionFailed) -> None:
        """Give the WebSocket up, and say why."""
        self._failure = failure
        self.abandon()

    def _paused(self) -> None:
        """Called when no request of polling is under way any more."""
        session = self._session
        if session._upgrade is self and self._step(Input.UPGRADE):
            self.candidate.send([Packet(PacketType.UPGRADE)])
            session._hasUpgraded()
            self._complete()

    def pollWaits(self) -> None:
        """Do nothing: that no GET waits is what L{received} asks the transport for."""

    def abandon(self, closing: Closing = LEFT) -> None:
        session = self._session
        isPausing = session._upgradeState is UpgradeState.PROBED
        super().abandon(closing)
        if closing is LEFT:
            session._upgradeFailed(self._failure or self._whyAbandoned(), isPausing)

    def _whyAbandoned(self) -> ConnectionFailed:
        session = self._session
        if isSuspended(session):
            description = f"polling has failed: {session._resumption.suspended.description}"
            return ConnectionFailed(FailureType.LOST, description, session.transport.name)
        description = f"the upgrade took longer than upgradeTimeout, {session.opts.upgradeTimeout} ms"
        return ConnectionFailed(FailureType.TIMEOUT, description, self.candidate.name)
