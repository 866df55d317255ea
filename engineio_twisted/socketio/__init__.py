"""
Socket.IO on an Engine.IO server: namespaces, rooms, acknowledgements (docs/socketio.md).

L{SocketIO} binds to a L{Server}. This package uses the public names of the engine alone.
"""

from .adapter import MemoryAdapter
from .errors import (
    AckTimeout,
    AdapterError,
    ConnectRefused,
    Disconnected,
    DisconnectReason,
    InvalidPacket,
    NotSupported,
    RemoteTimeout,
    ReservedEvent,
    SocketIOError,
    UnsendableValue,
)
from .handshake import Handshake
from .interfaces import Flags, IAdapter, IParser, Target
from .listening import attach, listen
from .namespace import Namespace
from .operator import Operator, SocketOperator
from .options import ConnectionStateRecovery, SocketIOOptions
from .packet import Packet, PacketType
from .parent import ParentNamespace
from .recovery import Kept
from .remote import RemoteSocket
from .server import SocketIO, SocketIOStats
from .socket import Socket
from .typed import handle, typed

__all__ = [
    "AckTimeout",
    "AdapterError",
    "ConnectRefused",
    "ConnectionStateRecovery",
    "DisconnectReason",
    "Disconnected",
    "Flags",
    "Handshake",
    "IAdapter",
    "IParser",
    "InvalidPacket",
    "Kept",
    "MemoryAdapter",
    "Namespace",
    "NotSupported",
    "Operator",
    "Packet",
    "PacketType",
    "ParentNamespace",
    "RemoteSocket",
    "RemoteTimeout",
    "ReservedEvent",
    "Socket",
    "SocketIO",
    "SocketIOError",
    "SocketIOOptions",
    "SocketIOStats",
    "SocketOperator",
    "Target",
    "UnsendableValue",
    "handle",
    "typed",
    "attach",
    "listen",
]
