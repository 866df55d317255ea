"""What the two services of this example ask each other, with AMP."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.protocols.amp import Command, Integer, Unicode


class UnknownItemError(Exception):
    """There is no such item."""


class GetPrice(Command):
    """What does an item cost? The shop asks."""

    arguments: ClassVar[Any] = [(b"item", Unicode())]
    response: ClassVar[Any] = [(b"cents", Integer())]
    errors: ClassVar[Any] = {UnknownItemError: b"UNKNOWN_ITEM"}


class Order(Command):
    """One of an item is sold. The shop tells."""

    arguments: ClassVar[Any] = [(b"item", Unicode())]
    response: ClassVar[Any] = []
    errors: ClassVar[Any] = {UnknownItemError: b"UNKNOWN_ITEM"}


class PriceChanged(Command):
    """An item costs something else now. The stock tells every shop."""

    arguments: ClassVar[Any] = [(b"item", Unicode()), (b"cents", Integer())]
    response: ClassVar[Any] = []
