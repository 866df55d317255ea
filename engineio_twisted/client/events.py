"""The events of a client: those of a socket, and its own. L{SocketEvents} says how to add one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..session.events import SocketEvents
from ..session.handlers import SERVER_EVENTS, SOCKET_EVENTS, EventSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias, TypeVar, overload

    from ..session.emitter import Handler
    from ..session.events import (
        CloseHandler,
        CloseHandlerT,
        ErrorHandler,
        ErrorHandlerT,
        MessageHandler,
        MessageHandlerT,
        PacketHandler,
        PacketHandlerT,
        PacketsHandler,
        PacketsHandlerT,
        PlainEvent,
        PlainHandler,
        PlainHandlerT,
        SocketEvent,
        TextHandler,
        TextHandlerT,
        TransportHandler,
        TransportHandlerT,
    )
    from .errors import ConnectionFailed
    from .handshake import Handshake

    ClientEvent: TypeAlias = SocketEvent | Literal["handshake", "upgradeError"]

    HandshakeHandler: TypeAlias = Callable[[Handshake], object]
    FailureHandler: TypeAlias = Callable[[ConnectionFailed], object]

    HandshakeHandlerT = TypeVar("HandshakeHandlerT", bound=HandshakeHandler)
    FailureHandlerT = TypeVar("FailureHandlerT", bound=FailureHandler)

CLIENT_EVENTS = EventSet(
    "a client",
    {**SOCKET_EVENTS, "handshake": ("handshake",), "upgradeError": ("failure",)},
    SERVER_EVENTS,
    "{0!r} is an event of a server",
    "send(data)",
)


class ClientEvents(SocketEvents):
    """What emits the events of a client."""

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def on(self, event: Literal["handshake"], handler: HandshakeHandler) -> HandshakeHandler: ...
        @overload
        def on(self, event: Literal["handshake"]) -> Callable[[HandshakeHandlerT], HandshakeHandlerT]: ...
        @overload
        def on(self, event: Literal["upgradeError"], handler: FailureHandler) -> FailureHandler: ...
        @overload
        def on(self, event: Literal["upgradeError"]) -> Callable[[FailureHandlerT], FailureHandlerT]: ...
        @overload
        def on(self, event: PlainEvent, handler: PlainHandler) -> PlainHandler: ...
        @overload
        def on(self, event: PlainEvent) -> Callable[[PlainHandlerT], PlainHandlerT]: ...
        @overload
        def on(self, event: Literal["data", "message"], handler: MessageHandler) -> MessageHandler: ...
        @overload
        def on(self, event: Literal["data", "message"]) -> Callable[[MessageHandlerT], MessageHandlerT]: ...
        @overload
        def on(self, event: Literal["packet", "packetCreate"], handler: PacketHandler) -> PacketHandler: ...
        @overload
        def on(self, event: Literal["packet", "packetCreate"]) -> Callable[[PacketHandlerT], PacketHandlerT]: ...
        @overload
        def on(self, event: Literal["flush"], handler: PacketsHandler) -> PacketsHandler: ...
        @overload
        def on(self, event: Literal["flush"]) -> Callable[[PacketsHandlerT], PacketsHandlerT]: ...
        @overload
        def on(self, event: Literal["upgrading", "upgrade"], handler: TransportHandler) -> TransportHandler: ...
        @overload
        def on(self, event: Literal["upgrading", "upgrade"]) -> Callable[[TransportHandlerT], TransportHandlerT]: ...
        @overload
        def on(self, event: Literal["suspend"], handler: TextHandler) -> TextHandler: ...
        @overload
        def on(self, event: Literal["suspend"]) -> Callable[[TextHandlerT], TextHandlerT]: ...
        @overload
        def on(self, event: Literal["error"], handler: ErrorHandler) -> ErrorHandler: ...
        @overload
        def on(self, event: Literal["error"]) -> Callable[[ErrorHandlerT], ErrorHandlerT]: ...
        @overload
        def on(self, event: Literal["close"], handler: CloseHandler) -> CloseHandler: ...
        @overload
        def on(self, event: Literal["close"]) -> Callable[[CloseHandlerT], CloseHandlerT]: ...
        def on(self, event: str, handler: Any = None) -> Any: ...

        @overload  # type: ignore[override]
        def once(self, event: Literal["handshake"], handler: HandshakeHandler) -> HandshakeHandler: ...
        @overload
        def once(self, event: Literal["handshake"]) -> Callable[[HandshakeHandlerT], HandshakeHandlerT]: ...
        @overload
        def once(self, event: Literal["upgradeError"], handler: FailureHandler) -> FailureHandler: ...
        @overload
        def once(self, event: Literal["upgradeError"]) -> Callable[[FailureHandlerT], FailureHandlerT]: ...
        @overload
        def once(self, event: PlainEvent, handler: PlainHandler) -> PlainHandler: ...
        @overload
        def once(self, event: PlainEvent) -> Callable[[PlainHandlerT], PlainHandlerT]: ...
        @overload
        def once(self, event: Literal["data", "message"], handler: MessageHandler) -> MessageHandler: ...
        @overload
        def once(self, event: Literal["data", "message"]) -> Callable[[MessageHandlerT], MessageHandlerT]: ...
        @overload
        def once(self, event: Literal["packet", "packetCreate"], handler: PacketHandler) -> PacketHandler: ...
        @overload
        def once(self, event: Literal["packet", "packetCreate"]) -> Callable[[PacketHandlerT], PacketHandlerT]: ...
        @overload
        def once(self, event: Literal["flush"], handler: PacketsHandler) -> PacketsHandler: ...
        @overload
        def once(self, event: Literal["flush"]) -> Callable[[PacketsHandlerT], PacketsHandlerT]: ...
        @overload
        def once(self, event: Literal["upgrading", "upgrade"], handler: TransportHandler) -> TransportHandler: ...
        @overload
        def once(self, event: Literal["upgrading", "upgrade"]) -> Callable[[TransportHandlerT], TransportHandlerT]: ...
        @overload
        def once(self, event: Literal["suspend"], handler: TextHandler) -> TextHandler: ...
        @overload
        def once(self, event: Literal["suspend"]) -> Callable[[TextHandlerT], TextHandlerT]: ...
        @overload
        def once(self, event: Literal["error"], handler: ErrorHandler) -> ErrorHandler: ...
        @overload
        def once(self, event: Literal["error"]) -> Callable[[ErrorHandlerT], ErrorHandlerT]: ...
        @overload
        def once(self, event: Literal["close"], handler: CloseHandler) -> CloseHandler: ...
        @overload
        def once(self, event: Literal["close"]) -> Callable[[CloseHandlerT], CloseHandlerT]: ...
        def once(self, event: str, handler: Any = None) -> Any: ...

        def removeListener(self, event: ClientEvent, handler: Handler) -> None: ...  # type: ignore[override]
        def listeners(self, event: ClientEvent) -> list[Handler]: ...  # type: ignore[override]
        def hears(self, event: ClientEvent) -> bool: ...  # type: ignore[override]
        def emit(self, event: ClientEvent, *args: Any) -> bool: ...  # type: ignore[override]
