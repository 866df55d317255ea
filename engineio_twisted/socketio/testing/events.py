"""What a client in memory gets from the server, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from ..errors import SocketIOError


class Refused(SocketIOError):
    """
    A client was refused a namespace.

    @ivar message: the text of the refusal. A client of protocol 4 that gets data has no text.
    @ivar data: what else the server said, or None.
    """

    message: str
    data: Any

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message if data is None else f"{message} {data!r}".strip())
        self.message, self.data = message, data


class NothingReceived(AssertionError):
    """There is nothing to receive: no event, or no acknowledgement."""


def _notAsked(*_: Any) -> None:
    raise AssertionError("the server asked for no acknowledgement")


def _argumentsOf(args: Iterable[Any]) -> tuple[Any, ...]:
    # For type checkers: of `tuple` itself as a converter they don't know which items it takes.
    return tuple(args)


@attrs.frozen
class Event:
    """
    An event from the server. Two are equal if their names and arguments are.

    @ivar name: its name.
    @ivar args: its arguments; with recovery, the last one is the offset, as in the stock client.
    @ivar isAsked: whether the server asked for an acknowledgement.
    """

    name: str
    args: tuple[Any, ...] = attrs.field(default=(), converter=_argumentsOf)
    isAsked: bool = attrs.field(default=False, eq=False, repr=False)
    _reply: Callable[..., None] = attrs.field(default=_notAsked, eq=False, repr=False)

    def answer(self, *args: Any) -> None:
        """
        Acknowledge the event.

        @param args: the arguments of the acknowledgement.
        @raise AssertionError: the server didn't ask for one, or has it already, or the socket has ended.
        """
        self._reply(*args)


class Question:
    """
    An event of a client that asks for an acknowledgement: what L{MemorySocket.ask} returns.

    @ivar args: the arguments of the acknowledgement; None until it comes.
    """

    def __init__(self, describe: Callable[[], str]) -> None:
        self._describe = describe
        self.args: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        return f"<Question {'unanswered' if self.args is None else self.args}>"

    @property
    def isAnswered(self) -> bool:
        """Whether the acknowledgement has come."""
        return self.args is not None

    @property
    def answer(self) -> Any:
        """
        The answer: None for no argument, the value of one, a tuple of several.

        @raise NothingReceived: it hasn't come.
        """
        if self.args is None:
            raise NothingReceived(f"no acknowledgement: {self._describe()}")
        return answerOf(self.args)


def answerOf(args: Sequence[Any]) -> Any:
    """Return the arguments of an acknowledgement as one value."""
    return None if not args else args[0] if len(args) == 1 else tuple(args)


def argumentsOf(answer: Any) -> list[Any]:
    """Return what a function returned as the arguments of an acknowledgement."""
    return [] if answer is None else list(answer) if isinstance(answer, tuple) else [answer]
