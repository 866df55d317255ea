"""
The Engine.IO server for Twisted.

L{listen} makes a server with a port of its own, L{attach} one on a site that is there; L{Server} and
L{EngineIOResource} are for everything else. docs/ has the protocol, the architecture and the reasons.
"""

from typing import TYPE_CHECKING, Any

from .clock import DeadlineQueue
from .ends import Ends
from .interfaces import IServerExchange, ITransport, IWebSocket, IWebSocketEngine, IWebSocketReceiver
from .listening import attach, listen
from .logs import LogThrottle
from .observer import IServerObserver, LogObserver, Measure, ServerObserver, ServerStats
from .protocol.errors import (
    BufferLimitExceeded,
    CloseReason,
    DecodeError,
    EngineIOError,
    ErrorCode,
    OptionError,
    RequestRefused,
    UnknownEvent,
)
from .protocol.option_parts import Cookie, Cors, HttpCompression, PerMessageDeflate
from .protocol.options import OptionKeywords, ServerOptions
from .protocol.packet import Packet, PacketType
from .server import Server
from .session.emitter import EventEmitter
from .session.factory import SocketFactory
from .session.ids import generateId
from .session.socket import Socket
from .session.states import ReadyState
from .session.work import SessionWork
from .transport import Transport
from .transports.polling import PollingTransport
from .transports.websocket import WebSocketTransport
from .web.answers import ResponseHeaders
from .web.fast import FastSite
from .web.resource import EngineIOResource
from .web.site import Site
from .web.writer import ConnectionErrorEvent

if TYPE_CHECKING:
    from .transports.engine_autobahn import AutobahnEngine

__version__ = "0.1.0"
"""The version of the package."""

protocol = 4
"""The newest revision of the protocol that is served."""

transports: dict[str, type[Transport]] = {each.name: each for each in (PollingTransport, WebSocketTransport)}
"""The transports by name."""

__all__ = [
    "AutobahnEngine",
    "BufferLimitExceeded",
    "Cookie",
    "Cors",
    "FastSite",
    "HttpCompression",
    "IServerExchange",
    "IServerObserver",
    "IWebSocket",
    "IWebSocketEngine",
    "IWebSocketReceiver",
    "PerMessageDeflate",
    "ResponseHeaders",
    "CloseReason",
    "ConnectionErrorEvent",
    "DeadlineQueue",
    "DecodeError",
    "EngineIOError",
    "Ends",
    "EngineIOResource",
    "ErrorCode",
    "EventEmitter",
    "ITransport",
    "LogObserver",
    "LogThrottle",
    "Measure",
    "OptionError",
    "OptionKeywords",
    "Packet",
    "PacketType",
    "PollingTransport",
    "ReadyState",
    "RequestRefused",
    "Server",
    "ServerObserver",
    "ServerOptions",
    "ServerStats",
    "SessionWork",
    "Site",
    "Socket",
    "SocketFactory",
    "Transport",
    "UnknownEvent",
    "WebSocketTransport",
    "attach",
    "generateId",
    "listen",
    "protocol",
    "transports",
]


if not TYPE_CHECKING:
    # A type checker would take any name for one of this module's.
    def __getattr__(name: str) -> Any:
        """Import Autobahn for what needs it: a server with WebSocket, or a subclass of its engine."""
        if name == "AutobahnEngine":
            from .transports.engine_autobahn import AutobahnEngine

            return AutobahnEngine
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
