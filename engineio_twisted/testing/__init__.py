"""A server and its clients in memory, for the tests of an application: no socket, no waiting (docs/testing.md)."""

from typing import TYPE_CHECKING, Any

from .client import ClientListener, MemoryClient
from .network import MemoryConnection, MemoryNetwork
from .requests import HandshakeRefused, ProtocolViolation, Response
from .server import MemoryServer
from .serving import End

if TYPE_CHECKING:
    from .cluster import MemoryCluster

__all__ = [
    "ClientListener",
    "End",
    "HandshakeRefused",
    "MemoryCluster",
    "MemoryClient",
    "MemoryConnection",
    "MemoryNetwork",
    "MemoryServer",
    "ProtocolViolation",
    "Response",
]


def __getattr__(name: str) -> Any:
    if name == "MemoryCluster":
        # What only several processes need isn't imported without them.
        from .cluster import MemoryCluster

        return MemoryCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
