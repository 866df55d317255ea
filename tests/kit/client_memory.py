"""Connections of our client to a server of ours, both in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from .network import ClientTransport


@implementer(IStreamClientEndpoint)
class InMemory:
    """
    An endpoint by which connections go to a server in memory.

    @ivar failure: what they fail with, None if they don't.
    @ivar isReachable: whether they are made at all.
    """

    failure: Exception | None = None
    isReachable = True

    def __init__(self, network: Any) -> None:
        self._network = network

    def connect(self, factory: Any) -> Deferred[Any]:
        if self.failure is not None:
            raise self.failure
        if not self.isReachable:
            return Deferred()
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(ClientTransport(self._network, protocol))
        return succeed(protocol)
