"""The client of Engine.IO: one session with a server, over long-polling and WebSocket. docs/client.md"""

from .errors import ConnectionFailed, FailedResponse, FailureType, MessageTooLarge
from .options import ClientKeywords, ClientOptions

__all__ = [
    "ClientKeywords",
    "ClientOptions",
    "ConnectionFailed",
    "FailedResponse",
    "FailureType",
    "MessageTooLarge",
]
