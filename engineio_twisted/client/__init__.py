"""The client of Engine.IO: one session with a server, over long-polling and WebSocket. docs/client.md"""

from .client import Client
from .endpoints import ClientSessionEndpoint
from .errors import ConnectionFailed, FailedResponse, FailureType, MessageTooLarge
from .handshake import Handshake
from .options import ClientKeywords, ClientOptions
from .tunnels import TunnelEndpoint

__all__ = [
    "Client",
    "ClientKeywords",
    "ClientOptions",
    "ClientSessionEndpoint",
    "ConnectionFailed",
    "FailedResponse",
    "FailureType",
    "Handshake",
    "MessageTooLarge",
    "TunnelEndpoint",
]
