"""One session of a client in memory, which carries its namespaces: what the stock client calls a manager."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ... import ReadyState
from ...testing import End, MemoryClient, MemoryServer, ProtocolViolation
from ..errors import InvalidPacket
from ..interfaces import IParser
from ..packet import IncompletePacket, Packet, PacketType

if TYPE_CHECKING:
    from ..socket import Socket

# As servers write it: "/" is left out, any other namespace ends with a comma, and numbers have no zeros before them.
_HEAD = re.compile(r"(?:[0-4]|[56][1-9]\d*-)(?:/[^,]+,)?(?:0|[1-9]\d*)?(?:[\[{\"].*)?", re.DOTALL)


class Carried(Protocol):
    """A client's socket of one namespace, as its session knows it."""

    namespace: str

    @property
    def isActive(self) -> bool:
        """Whether it keeps the session open."""
        ...

    def connect(self) -> None:
        """Called when the session is open: ask for the namespace."""
        ...

    def take(self, packet: Packet) -> None:
        """Called with each packet of its namespace."""
        ...

    def sessionEnded(self, reason: str) -> None:
        """Called when the session has ended."""
        ...


class Session:
    """
    A session that carries namespaces.

    @param server: the server in memory.
    @param parser: reads what the server sends, and writes what the client sends.
    @param protocol: the revision of the Socket.IO protocol: 5 or 4.
    @param find: called with a namespace and an id, returns the server's L{Socket}, or None.
    @ivar engine: the L{MemoryClient}.
    """

    engine: MemoryClient

    def __init__(
        self,
        server: MemoryServer,
        parser: IParser,
        protocol: int = 5,
        find: Callable[[str, str], Socket | None] | None = None,
    ) -> None:
        self.server = server
        self._find = find
        self.protocol = protocol
        self._parser = parser
        self._sockets: dict[str, Carried] = {}
        self._incomplete: IncompletePacket | None = None

    def add(self, socket: Carried) -> Carried | None:
        """
        Carry a socket, and connect it as soon as the session is open.

        @return: the one that had its namespace before, or None.
        """
        before = self._sockets.get(socket.namespace)
        self._sockets[socket.namespace] = socket
        return before

    def socketOf(self, namespace: str) -> Carried | None:
        """Return the socket of a namespace, which may have ended; None if there was none."""
        return self._sockets.get(namespace)

    def find(self, namespace: str, id: str) -> Socket | None:  # noqa: A002
        """Return the server's socket by its namespace and id, if it is there."""
        return None if self._find is None else self._find(namespace, id)

    @property
    def isOpen(self) -> bool:
        """Whether packets can be sent."""
        return self.engine.readyState is ReadyState.OPEN

    def send(self, type: PacketType, namespace: str, id: int | None, data: Any) -> None:  # noqa: A002
        """
        Send a packet.

        @raise UnsendableValue: something in the data can't be sent.
        """
        encoded = self._parser.encode(type, namespace, id, data)
        self.sendRaw(*(encoded if isinstance(encoded, list) else [encoded]))

    def sendRaw(self, *messages: str | bytes) -> None:
        """Send messages of the engine as they are."""
        for each in messages:
            self.engine.send(each)

    def closeUnlessUsed(self) -> None:
        """Close the session if no socket is left in it, as the stock client does."""
        if self.isOpen and not any(each.isActive for each in self._sockets.values()):
            self.engine.close()

    # As the listener of the engine's client

    def opened(self, client: MemoryClient) -> None:
        """Connect what waits for the session."""
        self.engine = client
        for each in list(self._sockets.values()):
            each.connect()

    def received(self, client: MemoryClient, data: str | bytes) -> None:
        """
        Take a message.

        @raise ProtocolViolation: the server may not send it.
        """
        packet = self._read(data)
        if packet is None:
            return
        socket = self._sockets.get(packet.namespace)
        if socket is None:
            raise ProtocolViolation(f"{packet!r:.200}, of a namespace that the client didn't ask for")
        socket.take(packet)

    def ended(self, client: MemoryClient, end: End) -> None:
        """End what the session carries."""
        self.engine = client
        self._incomplete = None
        for each in self._sockets.values():
            each.sessionEnded(end.reason)

    def _read(self, data: str | bytes) -> Packet | None:
        try:
            if self._incomplete is not None:
                packet = self._incomplete.add(data)
                if packet is not None:
                    self._incomplete = None
                return packet
            if isinstance(data, str) and _HEAD.fullmatch(data) is None:
                raise ProtocolViolation(f"the message {data[:64]!r}: not as a server writes one")
            found = self._parser.decode(data)
        except InvalidPacket as error:
            raise ProtocolViolation(f"the message {data[:64]!r}: {error}") from None
        if isinstance(found, Packet):
            return found
        self._incomplete = found
        return None
