"""Rules of origins, as values of options: their normal form and their checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from .origins import readOrigin
from .validators import asTuple, refused

OriginRule: TypeAlias = bool | str | re.Pattern[str] | Sequence[str | re.Pattern[str]]
"""
Which origins: one, those in which a pattern is found, any in a list of both; C{"*"} or True all, False none.

C{"https://*.example.com"} stands for all below a domain, C{"http://localhost:*"} for all ports.
"""


SELF = "self"
"""Among allowed origins: that of the pages which come from where the request goes."""


_ORIGIN_RULE = (
    "an origin such as 'https://example.com', 'https://*.example.com' or 'http://localhost:*', a pattern of text, a"
    " list of those; or '*', True or False"
)


def _problemOf(rule: object) -> str | None:
    """Return what is wrong with a rule, besides that it is none; None if it is right."""
    if isinstance(rule, tuple):
        # Not "*", which would allow every origin by name, with credentials.
        problems = ["" if each == "*" or isinstance(each, bool | tuple) else _problemOf(each) for each in rule]
        return next((each for each in problems if each is not None), None)
    if isinstance(rule, str) and rule != "*":
        try:
            readOrigin(rule)
        except ValueError as error:
            return f"; not {rule!r}: {error}"
        return None
    isPattern = isinstance(rule, re.Pattern) and isinstance(rule.pattern, str)
    return None if isinstance(rule, bool) or rule == "*" or isPattern else ""


def asOriginRule(value: object) -> object:
    """Write the origins of a rule in their normal form; a rule with something else is left to its validator."""
    value = asTuple(value)
    if isinstance(value, tuple):
        return tuple(asOriginRule(each) if isinstance(each, str) else each for each in value)
    if isinstance(value, str) and value not in ("*", SELF):
        try:
            return readOrigin(value)
        except ValueError:
            pass
    return value


def originRule(value: object) -> OriginRule:
    """
    Check what a function returned as a rule; None is none.

    @raise TypeError: it is no rule.
    """
    rule = False if value is None else asOriginRule(value)
    problem = _problemOf(rule)
    if problem is not None:
        raise TypeError(f"{value!r}: expected {_ORIGIN_RULE}{problem}")
    return rule  # type: ignore[return-value]


def _origins(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    problem = _problemOf(value)
    if problem is not None:
        raise refused(attribute, value, f"{_ORIGIN_RULE}{problem}")


def allowedOrigins(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    others = tuple(each for each in value if each != SELF) if isinstance(value, tuple) else value
    problem = None if others == SELF else _problemOf(others)
    if problem is not None:
        raise refused(attribute, value, f"'{SELF}', {_ORIGIN_RULE}{problem}")


def originsOrFunction(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        _origins(instance, attribute, value)
