"""A server and its clients in memory, for the tests of an application: no socket, no waiting (docs/testing.md)."""

from .client import ProtocolViolation, Response
from .network import MemoryConnection, MemoryNetwork
from .server import End, HandshakeRefused, MemoryClient, MemoryServer

__all__ = [
    "End",
    "HandshakeRefused",
    "MemoryClient",
    "MemoryConnection",
    "MemoryNetwork",
    "MemoryServer",
    "ProtocolViolation",
    "Response",
]
