"""The handlers of a namespace or a socket, for events of the layer itself and for those that clients send."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import copy_context
from types import CoroutineType
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from .. import EventEmitter

OWN_EVENTS = frozenset({"connection", "disconnect", "disconnecting", "error", "new_namespace"})
"""Events of the layer itself. A client may send events of these names; they reach catch-all listeners alone."""

_NEVER = {
    "connect": "'connection' is the event of a socket that has joined",
    "connect_error": "a refused client is told by its own library; a middleware refuses",
    "newListener": "there is no event for that here",
    "removeListener": "there is no event for that here",
}
"""Names that neither the layer nor a client ever sends, and what to do instead."""


MOST_CODES = 1000
"""Of how many functions it is remembered that they take the arguments of an event."""

_fitting: dict[tuple[Any, type, str], None] = {}


class Listeners(EventEmitter):
    """
    Handlers by the name of an event.

    @cvar elsewhere: names of the layer's own events that others have, with what to do instead.
    @cvar argumentsOf: the arguments of the layer's own events that are emitted here.
    """

    elsewhere: ClassVar[dict[str, str]] = {}
    argumentsOf: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def on(self, event: str, *handler: Any) -> Any:
        """
        Register a handler for an event, after those registered before.

        @param handler: a function, a coroutine function, or a function that returns a Deferred. Without it, C{on} is a
            decorator.
        @return: the handler.
        @raise ValueError: an event with this name never fires here.
        @raise TypeError: the handler cannot be called, or not with the arguments of an event of the layer itself; or
            the event is not text.
        """
        self._checkName(event)
        if handler and event in self.argumentsOf:
            _checkArguments(handler[0], event, self.argumentsOf[event])
        return super().on(event, *handler)

    def once(self, event: str, *handler: Any) -> Any:
        """Register a handler for one call. Otherwise the same as L{on}."""
        self._checkName(event)
        if handler and event in self.argumentsOf:
            _checkArguments(handler[0], event, self.argumentsOf[event])
        return super().once(event, *handler)

    def _checkName(self, event: Any) -> None:
        cure = self.elsewhere.get(event) or _NEVER.get(event) if isinstance(event, str) else None
        if cure is not None:
            raise ValueError(f"event {event!r} never comes here: {cure}")

    def fire(self, event: str, *arguments: Any) -> bool:
        """Call the handlers of an event of the layer itself. Return whether there were any."""
        return super().emit(event, *arguments)


def _checkArguments(handler: Any, event: str, arguments: tuple[str, ...]) -> None:
    """
    Refuse a handler that can't be called with the arguments of an event. One whose signature isn't known passes.

    @raise TypeError: it can't.
    """
    # Handlers are added to each socket, and mostly are of the same code.
    key = getattr(handler, "__code__", None), type(handler), event
    if key in _fitting or not callable(handler):
        return
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        name = getattr(handler, "__qualname__", repr(handler)).rpartition("<locals>.")[2]
        problem = f"it is called with {', '.join(arguments)}"
        raise TypeError(f"handler {name}{signature} of the event {event!r}: {problem}") from None
    if key[0] is not None:
        if len(_fitting) >= MOST_CODES:
            _fitting.clear()
        _fitting[key] = None


def deferredOf(result: Any) -> Deferred[Any] | None:
    """Return a Deferred if a handler returned a coroutine or a Deferred; otherwise None."""
    if type(result) is CoroutineType:
        return Deferred.fromCoroutine(result)
    return result if isinstance(result, Deferred) else None


def begun(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    Run a coroutine until it waits for something, or to its end.

    Most handlers that are coroutines wait for nothing, and need no Deferred.

    @return: what it returned, or a Deferred of that. It runs in a context of its own, as with
        L{Deferred.fromCoroutine}.
    """
    context = copy_context()
    try:
        waited = context.run(coroutine.send, None)
    except StopIteration as end:
        return end.value
    return context.run(Deferred.fromCoroutine, _rest(coroutine, waited))


def _rest(coroutine: Coroutine[Any, Any, Any], waited: Any) -> Generator[Any, Any, Any]:
    """What a coroutine does that has begun, and waits for something."""
    while True:
        try:
            try:
                result = yield waited
            except BaseException as error:
                waited = coroutine.throw(error)
            else:
                waited = coroutine.send(result)
        except StopIteration as end:
            return end.value


class CatchAll:
    """Listeners of all events, in one direction."""

    __slots__ = ("listeners",)

    def __init__(self) -> None:
        # A tuple, so that nobody who goes through it needs a copy.
        self.listeners: tuple[Callable[..., object], ...] = ()

    def add(self, listener: Callable[..., object], isFirst: bool = False) -> None:
        """
        Add a listener, behind or before those that there are.

        @raise TypeError: it can't be called.
        """
        if not callable(listener):
            raise TypeError(f"listener {listener!r:.100}: expected something to call with the event and its arguments")
        self.listeners = (listener, *self.listeners) if isFirst else (*self.listeners, listener)

    def remove(self, listener: Callable[..., object] | None) -> None:
        """Remove a listener, or all; one that isn't there is no error."""
        if listener is None:
            self.listeners = ()
            return
        left = [*self.listeners]
        if listener in left:
            left.remove(listener)
        self.listeners = tuple(left)
