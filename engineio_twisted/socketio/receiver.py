"""What a socket receives: middlewares, listeners, handlers, and what acknowledges an event (L{Socket})."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .listeners import OWN_EVENTS, CatchAll, begun
from .middlewares import EventMiddlewares
from .packet import PacketType
from .sender import CONNECTED, Sender

_ACK = PacketType.ACK


class Receiver(Sender):
    """The half of a socket that receives."""

    def __init__(self, namespace: Any, client: Any, id: str) -> None:  # noqa: A002
        super().__init__(namespace, client, id)
        self._incoming: CatchAll | None = None
        self._middlewares: EventMiddlewares | None = None

    def use(self, middleware: Callable[[str, list[Any]], object]) -> Callable[[str, list[Any]], object]:
        """
        Add a middleware, which is called with each event of the client, before its handlers.

        It may change the list of arguments. If it raises, the event is dropped and C{error} is emitted. A coroutine or
        a Deferred is awaited, and later events wait for it.

        @param middleware: called with the name of the event and the list of its arguments.
        @return: the middleware.
        @raise TypeError: it cannot be called.
        """
        if not callable(middleware):
            raise TypeError(f"middleware {middleware!r:.100}: expected something to call with each event")
        if self._middlewares is None:
            self._middlewares = EventMiddlewares(self, self._namespace.io.opts.maxWaitingEvents)
        self._middlewares.add(middleware)
        return middleware

    def onAny(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener, called with each event of the client and its arguments, before the handlers. Return it."""
        if self._incoming is None:
            self._incoming = CatchAll()
        self._incoming.add(listener)
        return listener

    def prependAny(self, listener: Callable[..., object]) -> Callable[..., object]:
        """Add a listener before those of L{onAny}. Return it."""
        if self._incoming is None:
            self._incoming = CatchAll()
        self._incoming.add(listener, isFirst=True)
        return listener

    def offAny(self, listener: Callable[..., object] | None = None) -> None:
        """Remove a listener of L{onAny}, or all of them."""
        if self._incoming is not None:
            self._incoming.remove(listener)

    def listenersAny(self) -> list[Callable[..., object]]:
        """Return the listeners of L{onAny}."""
        return [] if self._incoming is None else [*self._incoming.listeners]

    def received(self, data: list[Any], ackId: int | None) -> None:
        """
        Called with each event of the client.

        @param data: its name and its arguments; a list of its own.
        """
        if self._middlewares is None:
            self._dispatch(data, ackId)
        else:
            self._middlewares.receive(data[0], data[1:], ackId)

    def _dispatch(self, data: list[Any], ackId: int | None) -> None:
        """Call the handlers of an event, and acknowledge it with what the first one returns."""
        if self._incoming is not None:
            for each in self._incoming.listeners:
                self._callListener(each, data)
        event = data[0]
        if event in OWN_EVENTS:
            return
        handlers = self.handlersOf(event)
        isHandled = False
        if handlers:
            ackId = self._call(handlers, event, data[1:], ackId)
            isHandled = True
        # Handlers of a namespace get the socket in place of the name.
        data[0] = self
        namespace = self._namespace
        while namespace is not None:
            handlers = namespace.handlersOf(event)
            if handlers:
                ackId = self._call(handlers, event, data, ackId)
                isHandled = True
            namespace = namespace.parent
        if not isHandled:
            self._dispatchUnhandled(event, data[1:], ackId)

    def _dispatchUnhandled(self, event: str, arguments: list[Any], ackId: int | None) -> None:
        namespace = self._namespace
        while namespace is not None:
            ackId = self._call(namespace.unhandled, event, [self, event, *arguments], ackId)
            namespace = namespace.parent

    def _call(self, handlers: Any, event: str, arguments: list[Any], ackId: int | None) -> int | None:
        """Call handlers; return the id that is still to be acknowledged, that is None as soon as one was called."""
        for handler in handlers:
            try:
                result = handler(*arguments)
            except BaseException as error:
                self._raised(event, error)
            else:
                if result is not None:
                    self._returned(result, event, ackId)
                elif ackId is not None:
                    self._acknowledge(None, event, ackId)
            ackId = None
        return ackId

    def _raised(self, event: str, error: BaseException) -> None:
        failure = Failure()
        isCalled = error.__traceback__ is not None and error.__traceback__.tb_next is not None
        if isinstance(error, TypeError) and not isCalled:
            # The client chose how many arguments there are, and may do so again and again.
            self._namespace.io._handlerUnfit(self, event, error)
            self._tellError(error)
        else:
            self.handlerFailed(event, (), failure)

    def _returned(self, result: Any, event: str, ackId: int | None) -> None:
        if type(result) is CoroutineType:
            try:
                result = begun(result)
            except BaseException:
                self._failedLater(Failure(), event, ackId)
                return
        if isinstance(result, Deferred):
            arguments = (event, ackId)
            result.addCallbacks(self._acknowledgeLater, self._failedLater, arguments, {}, arguments)
            self._namespace.io.watch(result)
        elif ackId is not None:
            self._acknowledge(result, event, ackId)

    def _acknowledgeLater(self, result: Any, event: str, ackId: int | None) -> Any:
        if ackId is not None:
            self._acknowledge(result, event, ackId)
        return result

    def _acknowledge(self, result: Any, event: str, ackId: int) -> None:
        """Acknowledge an event with what a handler returned; after the end that does nothing."""
        if self._state is not CONNECTED:
            return
        if result is None:
            arguments = []
        elif type(result) is tuple:
            arguments = [*result]
        else:
            arguments = [result]
        namespace = self._namespace
        try:
            encoded = namespace.encode(_ACK, namespace.name, ackId, arguments)
            if type(encoded) is list:
                self.client.conn.sendAll(encoded)
            else:
                self.client.conn.send(encoded)
        except BaseException:
            self.handlerFailed(event, (), Failure())
