"""
The events of a session, for type checkers: which there are, and what handlers each takes.

To add one, name it in L{SocketEvent} and in the two overloads of L{SocketEvents.on} that have its handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .emitter import EventEmitter

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias, TypeVar, overload

    from ..protocol.errors import CloseReason
    from ..protocol.packet import Packet
    from ..transport import Transport
    from .emitter import Handler

    SocketEvent: TypeAlias = Literal[
        "open",
        "packet",
        "packetCreate",
        "data",
        "message",
        "heartbeat",
        "flush",
        "drain",
        "upgrading",
        "upgrade",
        "suspend",
        "resume",
        "error",
        "close",
    ]

    PlainEvent: TypeAlias = Literal["open", "heartbeat", "drain", "resume"]
    PlainHandler: TypeAlias = Callable[[], object]
    MessageHandler: TypeAlias = Callable[[str | bytes], object]
    PacketHandler: TypeAlias = Callable[[Packet], object]
    PacketsHandler: TypeAlias = Callable[[list[Packet]], object]
    TransportHandler: TypeAlias = Callable[[Transport], object]
    TextHandler: TypeAlias = Callable[[str], object]
    ErrorHandler: TypeAlias = Callable[[BaseException], object]
    CloseHandler: TypeAlias = Callable[[CloseReason, str], object]

    PlainHandlerT = TypeVar("PlainHandlerT", bound=PlainHandler)
    MessageHandlerT = TypeVar("MessageHandlerT", bound=MessageHandler)
    PacketHandlerT = TypeVar("PacketHandlerT", bound=PacketHandler)
    PacketsHandlerT = TypeVar("PacketsHandlerT", bound=PacketsHandler)
    TransportHandlerT = TypeVar("TransportHandlerT", bound=TransportHandler)
    TextHandlerT = TypeVar("TextHandlerT", bound=TextHandler)
    ErrorHandlerT = TypeVar("ErrorHandlerT", bound=ErrorHandler)
    CloseHandlerT = TypeVar("CloseHandlerT", bound=CloseHandler)


class SocketEvents(EventEmitter):
    """What emits the events of a session."""

    if TYPE_CHECKING:
        # An EventEmitter takes any name. A socket takes these alone, which is what the errors ignored here say.

        @overload  # type: ignore[override]
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

        def removeListener(self, event: SocketEvent, handler: Handler) -> None: ...  # type: ignore[override]
        def listeners(self, event: SocketEvent) -> list[Handler]: ...  # type: ignore[override]
        def hears(self, event: SocketEvent) -> bool: ...  # type: ignore[override]
        def emit(self, event: SocketEvent, *args: Any) -> bool: ...  # type: ignore[override]
