"""Which events there are, and whether a handler can take the arguments of its event. Misuse is an error at once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR, CO_VARARGS
from types import CodeType, FunctionType, MethodType
from typing import Any

from ..protocol.errors import UnknownEvent

_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR

_FUNCTIONS = (FunctionType, MethodType)

MOST_CODES = 1000
"""Of how many functions it is remembered that they take the arguments of an event."""

_TRANSLATED = {
    "connect": "connection",
    "connect_error": "connection_error",
    "disconnect": "close",
    "disconnecting": "close",
    "disconnection": "close",
    "end": "close",
    "ping": "heartbeat",
    "pong": "heartbeat",
}
"""The names of other libraries' events: python-engineio, Socket.IO, and streams of Node.js."""


class EventSet(dict[str, tuple[str, ...]]):
    """
    The events of a class, of which there are no others: the names of the arguments of each.

    @param owner: what has them, with its article.
    @param events: the events.
    @param elsewhere: the events of another class, which are mistaken for these.
    @param howThere: how to hear of one of those, with a place for its name.
    @param howToSend: what to call in place of C{emit}, which sends nothing.
    @ivar fitting: the event whose arguments some code takes, by the identity of that code, and for a partial with the
        number of its arguments.
    """

    def __init__(
        self,
        owner: str,
        events: Mapping[str, tuple[str, ...]],
        elsewhere: Mapping[str, tuple[str, ...]],
        howThere: str,
        howToSend: str,
    ) -> None:
        super().__init__(events)
        self._owner = owner
        self._elsewhere = elsewhere
        self._howThere = howThere
        self._howToSend = howToSend
        self.fitting: dict[Any, str] = {}
        # So that no identity is used again.
        self._codes: list[CodeType] = []

    def keep(self, event: str, key: Any, code: CodeType) -> None:
        """Remember that code takes the arguments of an event: handlers are added in each session."""
        if len(self._codes) >= MOST_CODES:
            # Somebody makes code as it runs.
            self.fitting.clear()
            self._codes.clear()
        self.fitting[key] = event
        self._codes.append(code)

    def check(self, event: Any) -> None:
        """
        Refuse a name that isn't that of an event.

        @raise UnknownEvent: it is a name that no event has.
        @raise TypeError: it isn't a name.
        """
        checkName(event, next(iter(self)))
        if event not in self:
            raise UnknownEvent(event, self._owner, self._cure(event))

    def unknownSent(self, event: str) -> UnknownEvent:
        """Return the error if C{emit} is called with a name that no event has."""
        cure = f"to send a message, call {self._howToSend}; for events of your own, make an EventEmitter"
        return UnknownEvent(event, self._owner, cure)

    def _cure(self, event: str) -> str:
        name = _TRANSLATED.get(event.lower(), event)
        for isExact in (True, False):
            here, there = _find(name, self, isExact), _find(name, self._elsewhere, isExact)
            if here is not None:
                return f"it is called {here!r} here" if isExact else f"did you mean {here!r}?"
            if there is not None:
                return self._howThere.format(there)
        return f"the events are {', '.join(self)}; for events of your own, make an EventEmitter"


def _find(name: str, events: Mapping[str, object], isExact: bool) -> str | None:
    if isExact:
        return name if name in events else None
    names = {each.lower(): each for each in events}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return names[near[0]] if near else None


_OF_SERVER: Mapping[str, tuple[str, ...]] = {
    "connection": ("socket",),
    "connection_error": ("error",),
    "flush": ("socket", "packets"),
    "drain": ("socket",),
    "initial_headers": ("headers", "request"),
    "headers": ("headers", "request"),
}

_OF_SOCKET: Mapping[str, tuple[str, ...]] = {
    "message": ("data",),
    "open": (),
    "data": ("data",),
    "packet": ("packet",),
    "packetCreate": ("packet",),
    "heartbeat": (),
    "flush": ("packets",),
    "drain": (),
    "upgrading": ("transport",),
    "upgrade": ("transport",),
    "suspend": ("description",),
    "resume": (),
    "error": ("exception",),
    "close": ("reason", "description"),
}

SERVER_EVENTS = EventSet(
    "a server",
    _OF_SERVER,
    _OF_SOCKET,
    "{0!r} is an event of each socket; call socket.on({0!r}, handler) in a handler of 'connection'",
    "server.broadcast(data), or send(data) of one socket",
)

SOCKET_EVENTS = EventSet(
    "a socket", _OF_SOCKET, _OF_SERVER, "{0!r} is an event of the server; call server.on({0!r}, handler)", "send(data)"
)


def checkName(event: object, example: str = "message") -> None:
    """
    Refuse what isn't the name of an event, such as the function below C{@server.on} without parentheses.

    @param example: an event, for the error.
    @raise TypeError: it isn't text.
    """
    if isinstance(event, str):
        return
    cure = ""
    if callable(event):
        name = getattr(event, "__name__", "handler")
        cure = f"; write @on({example!r}) before {name}, with the name in parentheses, or on({example!r}, {name})"
    raise TypeError(f"event {event!r}: expected the name of an event{cure}")


def checkHandler(events: EventSet | None, event: str, handler: Any) -> None:
    """
    Refuse a handler that can't be called, or not with the arguments of its event, or that would do nothing.

    Only what the code of a handler says is known. A function of C, or what a decorator has made, is let through.

    @param events: the events that there are; None if there may be any.
    @raise UnknownEvent: there is no such event.
    @raise TypeError: the handler is refused, or the event isn't text.
    """
    key: Any = None
    if type(handler) is partial and not handler.keywords and type(handler.func) in _FUNCTIONS:
        key = id(handler.func.__code__), len(handler.args)
    elif type(handler) in _FUNCTIONS:
        key = id(handler.__code__)
    if events is None:
        checkName(event)
        arguments = None
    elif key in events.fitting and events.fitting[key] == event:
        return
    else:
        events.check(event)
        arguments = events[event]
    if not callable(handler):
        what = "a coroutine" if inspect.iscoroutine(handler) else repr(handler)
        isResult = handler is None or inspect.isawaitable(handler)
        cure = ", so leave out the parentheses behind its name" if isResult else ""
        raise TypeError(f"handler {what} of the event {event!r}: expected something to call{cure}")
    found = _functionOf(handler)
    if found is None:
        return
    function, before, keywords = found
    problem = _problem(function, before, keywords, arguments)
    if problem is not None:
        raise TypeError(f"handler {_described(handler)} of the event {event!r}: {problem}")
    if events is not None and key is not None:
        events.keep(event, key, function.__code__)


def _problem(function: FunctionType, before: int, keywords: set[str], arguments: tuple[str, ...] | None) -> str | None:
    """
    Return why a function can't be called with some arguments, None if it can be.

    @param before: how many arguments are before those.
    @param keywords: the keywords that it is given besides.
    """
    code = function.__code__
    if code.co_flags & _GENERATOR:
        return "a generator is never run; make it a coroutine with async def, or decorate it with @inlineCallbacks"
    if arguments is None:
        return None
    given = before + len(arguments)
    if given == code.co_argcount and not code.co_kwonlyargcount and not keywords:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional, keywordOnly = names[: code.co_argcount], names[code.co_argcount :]
    defaults = function.__defaults__ or ()
    optional = {*positional[len(positional) - len(defaults) :], *(function.__kwdefaults__ or ()), *keywords}
    isFitting = (
        (given <= len(positional) or bool(code.co_flags & CO_VARARGS))
        and not keywords & {*positional[:given]}
        and {*positional[given:], *keywordOnly} <= optional
    )
    if isFitting:
        return None
    return f"it is called with {', '.join(arguments)}" if arguments else "it is called without arguments"


def _functionOf(handler: Any) -> tuple[FunctionType, int, set[str]] | None:
    """
    Return the function that a handler calls.

    @return: the function, how many arguments are before those of the event, and the keywords it is given; None if
        that isn't known.
    """
    before = 0
    keywords: set[str] = set()
    while isinstance(handler, partial):
        before += len(handler.args)
        keywords.update(handler.keywords)
        handler = handler.func
    kind = type(handler)
    if kind is MethodType:
        handler, before = handler.__func__, before + 1
    elif isinstance(handler, type):
        isPlain = kind.__call__ is type.__call__ and _found(handler, "__new__") is object.__new__
        handler, before = _found(handler, "__init__") if isPlain else None, before + 1
    elif kind is not FunctionType:
        handler, before = _found(kind, "__call__"), before + 1
    return (handler, before, keywords) if type(handler) is FunctionType else None


def _found(kind: type, name: str) -> Any:
    """Return an attribute of a class as it stands there: a static method isn't what it holds."""
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None)


def _described(handler: Callable[..., object]) -> str:
    """Return the name of a handler with its parameters."""
    inner: Any = handler
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    try:
        parameters = str(inspect.signature(handler))
    except ValueError:
        # Such as a partial with too many.
        parameters = "(…)"
    return name.rpartition("<locals>.")[2] + parameters
