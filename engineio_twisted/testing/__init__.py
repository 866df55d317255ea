"""A server and its clients in memory, for the tests of an application: no socket, no waiting (docs/testing.md)."""

from .client import ClientListener, MemoryClient
from .network import MemoryConnection, MemoryNetwork
from .requests import HandshakeRefused, ProtocolViolation, Response
from .server import MemoryServer
from .serving import End

__all__ = [
    "ClientListener",
    "End",
    "HandshakeRefused",
    "MemoryClient",
    "MemoryConnection",
    "MemoryNetwork",
    "MemoryServer",
    "ProtocolViolation",
    "Response",
]
