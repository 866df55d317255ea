"""The interfaces of several processes: another worker, and whoever hears of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import Attribute, Interface

# For annotations of the interfaces, which are read by type checkers alone.
from .page import SharedPage


class IPacketReceiver(Interface):
    """Hears what comes on a L{PacketConnection<engineio_twisted.workers.handover.PacketConnection>}."""

    def packetReceived(data: bytes, descriptors: Sequence[int]) -> None:
        """
        Called with each message, in the order in which the peer sent them.

        @param data: the message, of one byte at least.
        @param descriptors: the file descriptors that came with it, which are the receiver's to close. There are fewer
            than the peer sent if this process has no room for more.
        """

    def packetsLost() -> None:
        """
        Called once, when the peer is gone and everything that it sent was received. It isn't called after the
        connection was closed here.
        """


class INeighbour(Interface):
    """Another worker, as this one reaches it."""

    number: int = Attribute("Its number, which is in the ids of its sessions.")
    slot: int = Attribute("Its slot, for operators.")
    takesConnections: bool = Attribute("Whether a connection may be moved to it now.")

    def move(released: Any) -> None:
        """
        Give it a connection.

        C{released.forget()} is called once the connection is the neighbour's, C{released.back()} if it will never
        be. Either may be called before this returns.

        @param released: a L{Released<engineio_twisted.web.directed.Released>} whose C{facts} are set.
        """

    def openLink(kind: str, protocol: Any) -> None:
        """
        Connect a protocol to one that the neighbour makes. If the neighbour never gets the other end, the protocol
        loses its connection.

        @param kind: what the link is for: C{relay} or C{exchange}.
        @param protocol: a L{twisted.internet.interfaces.IProtocol}.
        @raise OSError: no descriptor is left in this process, or too much waits to be given to the neighbour. The
            protocol is not connected.
        """

    def lose() -> None:
        """Let go of it. It sees that this worker is gone; links that are open stay. Nothing is called after this."""


class IHandoverReceiver(Interface):
    """What hears of its neighbours: a worker's L{Cluster<engineio_twisted.workers.cluster.Cluster>}."""

    page: SharedPage = Attribute("The page that all workers share.")

    def connectionCame(neighbour: INeighbour, carrier: Any, facts: Any, data: bytes) -> None:
        """
        Called with a connection that a neighbour has moved here.

        @param neighbour: who had it.
        @param carrier: its socket, which is the callee's to close.
        @param facts: the L{Facts<engineio_twisted.workers.frames.Facts>} that came with it.
        @param data: what was read of it and not served.
        """

    def protocolForLink(neighbour: INeighbour, kind: str) -> Any:
        """
        Return a L{twisted.internet.interfaces.IProtocol} for a link that a neighbour opens; None refuses it.

        @param neighbour: who opens it.
        @param kind: what the link is for: C{relay} or C{exchange}.
        """

    def neighbourLost(neighbour: INeighbour) -> None:
        """
        Called once, when a neighbour is gone. What was queued for it comes back to this worker after this has
        returned. It isn't called after L{INeighbour.lose}.
        """
