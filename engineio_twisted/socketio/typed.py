"""
Events as methods, for type checkers: those of the server by a protocol, those of clients by an object.

docs/type-checking.md, "Socket.IO".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred

EventsT = TypeVar("EventsT")


class Emitting(Protocol):
    """A namespace, a socket or an operator of either."""

    def emit(self, event: str, *arguments: Any) -> None:
        """Send an event."""
        ...

    def emitWithAck(self, event: str, *arguments: Any) -> Deferred[Any]:
        """Send an event, and return a Deferred of what acknowledges it."""
        ...


class Listening(Protocol):
    """A namespace, a parent of namespaces, or a socket."""

    def on(self, event: str, handler: Callable[..., Any]) -> Any:
        """Call a handler at every event of a name."""
        ...


def _methodsOf(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for each in reversed(kind.__mro__)
        for name, member in vars(each).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


class _Emitter:
    """
    Emits an event when one of its methods is called.

    @param target: what emits it.
    @param events: the names, and whether an acknowledgement is wanted.
    """

    __slots__ = ("_events", "_kind", "_target")

    def __init__(self, target: Emitting, kind: Any, events: dict[str, bool]) -> None:
        self._target, self._kind, self._events = target, kind, events

    def __getattr__(self, name: str) -> Callable[..., Any]:
        isAcknowledged = self._events.get(name)
        if isAcknowledged is None:
            raise AttributeError(f"{self._kind.__name__} has no event {name!r}: it has {', '.join(self._events)}")
        return partial(self._target.emitWithAck if isAcknowledged else self._target.emit, name)


def typed(target: Emitting, events: Callable[..., EventsT]) -> EventsT:
    """
    Return an object with a method for each event that may be sent, so that a type checker knows its arguments.

    The method C{said} emits C{said}. One whose result is not None asks for the acknowledgement, and returns the
    Deferred of it.

    @param target: a L{Namespace}, a L{Socket}, or an operator of either.
    @param events: a class that names the events by its methods, such as a C{typing.Protocol}. They are never run.
    @raise TypeError: it is no class with methods.
    """
    methods = _methodsOf(events) if isinstance(events, type) else {}
    if not methods:
        raise TypeError(f"events {events!r:.100}: expected a class with a method for each event")
    nothing = (None, "None", inspect.Signature.empty)
    found = {name: inspect.signature(each).return_annotation not in nothing for name, each in methods.items()}
    return cast("EventsT", _Emitter(target, events, found))


def handle(target: Listening, handlers: object) -> None:
    """
    Let each public method of an object handle the event of its name, as C{target.on(name, method)} does.

    A type checker compares the object with a protocol of the events if its variable is annotated with that.

    @param target: a L{Namespace}, whose handlers get the socket first, a L{ParentNamespace}, or a L{Socket}.
    @param handlers: the object.
    @raise TypeError: it has no public method.
    @raise ValueError: the layer keeps one of the names for itself.
    """
    names = _methodsOf(type(handlers))
    if not names:
        raise TypeError(f"handlers {handlers!r:.100}: expected an object with a method for each event")
    for name in names:
        target.on(name, getattr(handlers, name))
