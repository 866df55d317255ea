"""Settings as TOML: the values of a file that `--config` names."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import attrs

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def asToml(value: Any) -> str:
    """
    Return a setting as a value of TOML.

    @param value: None, or an option with settings of its own, is false or true: that is how the file switches it.
    @raise ValueError: it is text that UTF-8 can't carry.
    @raise TypeError: it is an object that has no such value.
    """
    if value is None or isinstance(value, bool):
        return str(bool(value)).lower()
    if attrs.has(type(value)):
        return "true"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(asToml, value))}]"
    if not isinstance(value, str):
        raise TypeError(f"{value!r} can't be written as TOML")
    value.encode()
    return f'"{re.sub(_UNPRINTABLE, _escaped, value)}"'


_UNPRINTABLE = re.compile(r'[\\"\x00-\x1f\x7f]')


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"
