"""
The events of a server, for type checkers: which there are, and what handlers each takes.

To add one, name it in L{ServerEvent} and in the two overloads of L{ServerEvents.on} that have its handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .session.emitter import EventEmitter

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias, TypeVar, overload

    from twisted.web.server import Request

    from .protocol.packet import Packet
    from .session.emitter import Handler
    from .session.socket import Socket
    from .web.answers import ResponseHeaders
    from .web.writer import ConnectionErrorEvent

    ServerEvent: TypeAlias = Literal["connection", "connection_error", "flush", "drain", "initial_headers", "headers"]

    SocketHandler: TypeAlias = Callable[[Socket], object]
    PacketsHandler: TypeAlias = Callable[[Socket, list[Packet]], object]
    ErrorHandler: TypeAlias = Callable[[ConnectionErrorEvent], object]
    HeadersHandler: TypeAlias = Callable[[ResponseHeaders, Request], object]

    SocketHandlerT = TypeVar("SocketHandlerT", bound=SocketHandler)
    PacketsHandlerT = TypeVar("PacketsHandlerT", bound=PacketsHandler)
    ErrorHandlerT = TypeVar("ErrorHandlerT", bound=ErrorHandler)
    HeadersHandlerT = TypeVar("HeadersHandlerT", bound=HeadersHandler)


class ServerEvents(EventEmitter):
    """What emits the events of a server."""

    if TYPE_CHECKING:
        # An EventEmitter takes any name. A server takes these alone, which is what the errors ignored here say.

        @overload  # type: ignore[override]
        def on(self, event: Literal["connection", "drain"], handler: SocketHandler) -> SocketHandler: ...
        @overload
        def on(self, event: Literal["connection", "drain"]) -> Callable[[SocketHandlerT], SocketHandlerT]: ...
        @overload
        def on(self, event: Literal["flush"], handler: PacketsHandler) -> PacketsHandler: ...
        @overload
        def on(self, event: Literal["flush"]) -> Callable[[PacketsHandlerT], PacketsHandlerT]: ...
        @overload
        def on(self, event: Literal["connection_error"], handler: ErrorHandler) -> ErrorHandler: ...
        @overload
        def on(self, event: Literal["connection_error"]) -> Callable[[ErrorHandlerT], ErrorHandlerT]: ...
        @overload
        def on(self, event: Literal["headers", "initial_headers"], handler: HeadersHandler) -> HeadersHandler: ...
        @overload
        def on(self, event: Literal["headers", "initial_headers"]) -> Callable[[HeadersHandlerT], HeadersHandlerT]: ...
        def on(self, event: str, handler: Any = None) -> Any: ...

        @overload  # type: ignore[override]
        def once(self, event: Literal["connection", "drain"], handler: SocketHandler) -> SocketHandler: ...
        @overload
        def once(self, event: Literal["connection", "drain"]) -> Callable[[SocketHandlerT], SocketHandlerT]: ...
        @overload
        def once(self, event: Literal["flush"], handler: PacketsHandler) -> PacketsHandler: ...
        @overload
        def once(self, event: Literal["flush"]) -> Callable[[PacketsHandlerT], PacketsHandlerT]: ...
        @overload
        def once(self, event: Literal["connection_error"], handler: ErrorHandler) -> ErrorHandler: ...
        @overload
        def once(self, event: Literal["connection_error"]) -> Callable[[ErrorHandlerT], ErrorHandlerT]: ...
        @overload
        def once(self, event: Literal["headers", "initial_headers"], handler: HeadersHandler) -> HeadersHandler: ...
        @overload
        def once(
            self, event: Literal["headers", "initial_headers"]
        ) -> Callable[[HeadersHandlerT], HeadersHandlerT]: ...
        def once(self, event: str, handler: Any = None) -> Any: ...

        def removeListener(self, event: ServerEvent, handler: Handler) -> None: ...  # type: ignore[override]
        def listeners(self, event: ServerEvent) -> list[Handler]: ...  # type: ignore[override]
        def hears(self, event: ServerEvent) -> bool: ...  # type: ignore[override]
        def emit(self, event: ServerEvent, *args: Any) -> bool: ...  # type: ignore[override]
