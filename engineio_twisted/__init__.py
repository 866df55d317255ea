"""
The Engine.IO server for Twisted.

L{listen} makes a server with a port of its own, L{attach} one on a site that is there; L{Server} and
L{EngineIOResource} are for everything else. docs/ has the protocol, the architecture and the reasons.
"""

from .engine_autobahn import AutobahnEngine
from .errors import (
    BufferLimitExceeded,
    CloseReason,
    DecodeError,
    EngineIOError,
    ErrorCode,
    OptionError,
    RequestRefused,
)
from .factory import SocketFactory
from .fast_http import FastSite
from .observer import IServerObserver, LogObserver, ServerObserver, ServerStats
from .options import Cookie, Cors, FastPaths, HttpCompression, PerMessageDeflate, ServerOptions
from .packet import Packet, PacketType
from .polling import PollingTransport
from .resource import EngineIOResource, Site
from .server import ConnectionErrorEvent, Server, attach, listen
from .socket import ReadyState, Socket
from .transport import ITransport, ResponseHeaders, Transport
from .websocket import IWebSocket, IWebSocketEngine, IWebSocketReceiver, WebSocketTransport

protocol = 4
"""The newest revision of the protocol that is served."""

transports: dict[str, type[Transport]] = {each.name: each for each in (PollingTransport, WebSocketTransport)}
"""The transports by name."""

__all__ = [
    "AutobahnEngine",
    "BufferLimitExceeded",
    "Cookie",
    "Cors",
    "FastPaths",
    "FastSite",
    "HttpCompression",
    "IServerObserver",
    "IWebSocket",
    "IWebSocketEngine",
    "IWebSocketReceiver",
    "PerMessageDeflate",
    "ResponseHeaders",
    "CloseReason",
    "ConnectionErrorEvent",
    "DecodeError",
    "EngineIOError",
    "EngineIOResource",
    "ErrorCode",
    "ITransport",
    "LogObserver",
    "OptionError",
    "Packet",
    "PacketType",
    "PollingTransport",
    "ReadyState",
    "RequestRefused",
    "Server",
    "ServerObserver",
    "ServerOptions",
    "ServerStats",
    "Site",
    "Socket",
    "SocketFactory",
    "Transport",
    "WebSocketTransport",
    "attach",
    "listen",
    "protocol",
    "transports",
]
