"""Checks and conversions of option values. Each error names the option, its value and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from .errors import OptionError
from .option_names import cureOf

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def refused(attribute: attrs.Attribute[Any], value: object, expected: str) -> OptionError:
    return OptionError(attribute.name, value, f"expected {expected}")


def wholeNumber(unit: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not int or value < 1:
            raise refused(attribute, value, f"a whole number of {unit}, 1 or more")

    return validate


def flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not bool:
        raise refused(attribute, value, "True or False")


def callableOrNone(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise refused(attribute, value, "something to call with the request, or None")


def asTuple(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def asBytes(value: object) -> object:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def withoutTrailingSlash(value: object) -> object:
    return value.rstrip("/") or value if isinstance(value, str) else value


def option(
    default: object,
    validator: Validator | None,
    help: str,  # noqa: A002
    converter: Any = None,
    *,
    isSecret: bool = False,
    **metadata: str,
) -> Any:
    """
    Return the field of an option.

    @param help: one sentence that stands alone: the command line and the tables of the documentation show it.
    @param isSecret: whether its value is left out of the representation of the options.
    @param metadata: C{group}, the heading under which these show it, and C{metavar}, what stands for its value there.
    """
    return attrs.field(
        default=default,
        validator=validator,
        converter=converter,
        repr=not isSecret,
        metadata={"help": help, **metadata},
    )


PartT = TypeVar("PartT")


def checkNames(given: Mapping[str, Any], *parts: type[Any], prefix: str = "") -> None:
    """
    Refuse options that none of some classes has a field for.

    @param prefix: what is before each name in the error.
    @raise OptionError: there is such a one.
    """
    known = [each.name for part in parts for each in attrs.fields(part)]
    for name, value in given.items():
        if name not in known:
            cure = cureOf(str(name), known, isSetting=bool(prefix))
            raise OptionError(f"{prefix}{name}", value, f"there is no such option; {cure}")


def part(name: str, part: type[PartT], hasDefaults: bool = True) -> Callable[[Any], PartT | None]:
    """Return what makes an option with settings of its own from a mapping, from False, and from True for defaults."""

    def convert(value: Any) -> PartT | None:
        if value is None or value is False:
            return None
        if value is True and hasDefaults:
            return part()
        if isinstance(value, part):
            return value
        if not isinstance(value, Mapping):
            kind: Any = part
            first = attrs.fields(kind)[0]
            example = {first.name: first.default}
            what = f"{part.__name__} or a mapping of its settings such as {example}"
            raise OptionError(name, value, f"expected {what}{', True' if hasDefaults else ''}, or False")
        checkNames(value, part, prefix=f"{name}.")
        try:
            return part(**value)
        except OptionError as error:
            raise OptionError(f"{name}.{error.name}", error.value, error.problem) from None

    return convert


def between(lowest: int, highest: int) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not int or not lowest <= value <= highest:
            raise refused(attribute, value, f"a whole number from {lowest} to {highest}")

    return validate


def orNone(validator: Validator) -> Validator:
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None:
            validator(instance, attribute, value)

    return validate


def matching(pattern: str, expected: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise refused(attribute, value, expected)

    return validate


_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2


token = matching(_NAME, "a token: letters, digits, and some of the signs that separate nothing")


def tokens(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    names = value if isinstance(value, tuple) else ()
    if not all(isinstance(each, str) and re.fullmatch(_NAME, each) for each in names) or not isinstance(value, tuple):
        raise refused(attribute, value, "names of methods or headers: a list, or text with commas between them")


def splitAtCommas(value: object) -> object:
    if isinstance(value, str):
        return tuple(each.strip() for each in value.split(",") if each.strip())
    return asTuple(value)


def oneOf(*words: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise refused(attribute, value, f"one of {', '.join(words)}")

    return validate


def lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value
