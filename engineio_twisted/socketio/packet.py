"""Packets of Socket.IO, and their JSON form. Pure: no Twisted, no clock, no IO. docs/socketio-protocol.md."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, Protocol


class PacketType(IntEnum):
    """The type of a packet."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


class Packet(NamedTuple):
    """
    A packet, complete with its attachments: what is decoded is never a BINARY_EVENT or a BINARY_ACK.

    @ivar type: a L{PacketType}.
    @ivar namespace: its namespace, as it was sent.
    @ivar id: the id that an acknowledgement has or is to have, or None.
    @ivar data: of an EVENT a list of the name and the arguments, of an ACK a list of the arguments.
    """

    type: int
    namespace: str = "/"
    id: int | None = None
    data: Any = None


class IncompletePacket(Protocol):
    """A packet whose attachments have not all come."""

    def add(self, message: str | bytes) -> Packet | None:
        """
        Add the next message.

        @return: the packet, if it is complete now.
        @raise InvalidPacket: the message is no attachment, or too large, or what the packet says is wrong.
        """
        ...
