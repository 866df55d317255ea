"""Events and their handlers, as the server and its sockets have them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, TypeVar, overload

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .handlers import EventSet, checkHandler, checkName

Handler = Callable[..., Any]
HandlerT = TypeVar("HandlerT", bound=Handler)


SENDING = frozenset({"packetCreate", "flush", "drain"})
"""Events of each packet sent. There are so many that they are emitted only if one of them has a listener."""

CANCELLED = (CancelledError, asyncio.CancelledError)
"""With what work fails that was cancelled; the second one if a task of asyncio was awaited."""

_DECORATED: Any = object()
"""In place of the handler that a decorator gets later."""


class EventEmitter:
    """
    Handlers by the name of an event.

    A server and its sockets have a fixed set of events. Make an instance of this class for events of your own.

    A handler may be a plain function, a coroutine function, or return a Deferred. It is called, never waited for:
    the next handler and the next event don't depend on it. What it raises, at once or later, goes to
    L{handlerFailed} and nowhere else; so do C{SystemExit} and C{KeyboardInterrupt}, which don't end the process.
    """

    # Whether there ever was a handler of an event in SENDING.
    _hasSendListeners = False
    _log = Logger()
    # A tuple of each is never changed, so that nobody who goes through it needs a copy.
    _handlers: dict[str, tuple[Handler, ...]] | None = None
    # The events that there are; None if there may be any.
    _events: ClassVar[EventSet | None] = None

    @overload
    def on(self, event: str) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def on(self, event: str, handler: HandlerT) -> HandlerT: ...

    def on(self, event: str, handler: HandlerT = _DECORATED) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """
        Call a handler at every event of a name, after those added before it.

        @param handler: what is called, with the event's arguments. Without it this is a decorator:
            C{@server.on("connection")}.
        @return: the handler, for L{removeListener}.
        @raise UnknownEvent: a server or a socket has no such event.
        @raise TypeError: the handler can't be called, or not with the arguments of the event; or the event isn't text.
        """
        if handler is _DECORATED:
            if self._events is None or event not in self._events:
                self._checkEvent(event)
            # Its type is known of the overload without a handler alone.
            return partial(self.on, event)  # type: ignore[return-value]
        known: Any = handler
        try:
            # Nearly always a function that was added before. This is called in each session.
            isChecked = self._events.fitting.get(id(known.__code__), _DECORATED) == event  # type: ignore[union-attr]
        except AttributeError:
            isChecked = type(handler) is _Once
        if not isChecked:
            checkHandler(self._events, event, handler)
        handlers = self._handlers
        if handlers is None:
            self._handlers = {event: (handler,)}
        else:
            handlers[event] = (*handlers[event], handler) if event in handlers else (handler,)
        if event in SENDING:
            self._hasSendListeners = True
        return handler

    @overload
    def once(self, event: str) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def once(self, event: str, handler: HandlerT) -> HandlerT: ...

    def once(self, event: str, handler: HandlerT = _DECORATED) -> HandlerT | Callable[[HandlerT], HandlerT]:
        """Call a handler at the next event of a name, and not again. Otherwise as L{on}."""
        if handler is _DECORATED:
            if self._events is None or event not in self._events:
                self._checkEvent(event)
            return partial(self.once, event)  # type: ignore[return-value]
        checkHandler(self._events, event, handler)
        self.on(event, _Once(self, event, handler))
        return handler

    def _checkEvent(self, event: str) -> None:
        if self._events is None:
            checkName(event)
        else:
            self._events.check(event)

    def removeListener(self, event: str, handler: Handler) -> None:
        """
        Stop calling a handler, the one added last if it was added more than once. One not there is no error.

        @raise UnknownEvent: a server or a socket has no such event.
        """
        self._checkEvent(event)
        handlers = self.handlersOf(event)
        for index in range(len(handlers) - 1, -1, -1):
            each = handlers[index]
            # Compared, not identified: a bound method is a new object each time it is asked for.
            if each == handler or (isinstance(each, _Once) and each.handler == handler):
                assert self._handlers is not None
                self._handlers[event] = handlers[:index] + handlers[index + 1 :]
                return

    def listeners(self, event: str) -> list[Handler]:
        """
        Return the handlers of an event, in the order in which they are called.

        @raise UnknownEvent: a server or a socket has no such event.
        """
        self._checkEvent(event)
        return [each.handler if isinstance(each, _Once) else each for each in self.handlersOf(event)]

    def handlersOf(self, event: str) -> tuple[Handler, ...]:
        """
        Return the handlers of an event as they are called, those of L{once} in what removes them.

        For a subclass that calls handlers itself, such as for what they return, and L{handlerFailed} with what they
        raise. The tuple is never changed. A name that no event has is no error.
        """
        return () if self._handlers is None else self._handlers.get(event, ())

    def hears(self, event: str) -> bool:
        """Return whether an event has handlers."""
        return self._handlers is not None and bool(self._handlers.get(event))

    def emit(self, event: str, *args: Any) -> bool:
        """
        Call the handlers of an event. This sends nothing to a client.

        @return: whether there was one.
        @raise UnknownEvent: a server or a socket has no such event.
        """
        handlers = self._handlers
        if handlers is None or not (wanted := handlers.get(event)):
            # There are handlers of known events alone.
            if self._events is not None and event not in self._events:
                raise self._events.unknownSent(event)
            return False
        for handler in wanted:
            # As _callHandler does, which would be a call more for each message.
            try:
                result = handler(*args)
            except BaseException:
                self.handlerFailed(event, args, Failure())
                continue
            if result is not None and result is not self:
                self._follow(result, event, args)
        return True

    def _callHandler(self, event: str, handler: Handler, *args: Any) -> None:
        """Call one handler, and follow the coroutine or Deferred that it returns, as L{emit} does."""
        try:
            result = handler(*args)
        except BaseException:
            self.handlerFailed(event, args, Failure())
            return
        if result is not None:
            self._follow(result, event, args)

    def _follow(self, result: Any, event: str, args: tuple[Any, ...]) -> None:
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(self._failedLater, event, args)

    def _failedLater(self, failure: Failure, event: str, args: tuple[Any, ...]) -> None:
        if not failure.check(*CANCELLED):
            self.handlerFailed(event, args, failure)

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised. The server and its sockets know more to do."""
        with suppress(BaseException):
            self._log.failure("Handler of {event} failed", failure, event=event)


class _Once:
    """A handler that removes itself when it is called."""

    def __init__(self, emitter: EventEmitter, event: str, handler: Handler) -> None:
        self.emitter, self.event, self.handler = emitter, event, handler
        self.isCalled = False

    def __call__(self, *args: Any) -> Any:
        # An event that comes again from inside itself may still find it.
        if self.isCalled:
            return None
        self.isCalled = True
        self.emitter.removeListener(self.event, self)
        return self.handler(*args)
