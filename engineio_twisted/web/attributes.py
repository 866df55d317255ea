"""Attributes that are made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class lazyAttribute:
    """
    An attribute of a class that each instance makes for itself, when it is first asked for it.

    C{functools.cached_property} does the same by way of C{__dict__}, which it thereby makes: that takes more time and
    memory than all else of a small object.

    @param make: makes it, of the instance.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self
        value = self._make(instance)
        setattr(instance, self._name, value)
        return value


class Derived:
    """
    An attribute of a class that is made each time it is asked for, unless an instance has one of its own.

    @param make: makes it, of the instance.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else self._make(instance)
