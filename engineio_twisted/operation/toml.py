"""Settings as TOML: what a file that `--config` names may hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from .configuration import ConfigurationError
from .settings import GROUPS, Setting

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def asToml(value: Any) -> str:
    """
    Return a setting as a value of TOML.

    @param value: None, or an option with settings of its own, is false or true: that is how the file switches it.
    @raise UnicodeEncodeError: it is text that UTF-8 can't carry.
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
    value.encode()
    return f'"{re.sub(_UNPRINTABLE, _escaped, value)}"'


_UNPRINTABLE = re.compile(r'[\\"\x00-\x1f\x7f]')


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"


def document(settings: Iterable[tuple[Setting, Any, str]]) -> str:
    """
    Return the file that sets settings, in their groups. A comment says what has set a value that is no default.

    @param settings: as L{CommandLineSettings.inForce} yields them.
    @raise ConfigurationError: one can't be written.
    """
    groups: dict[str, list[str]] = {each: [] for each in GROUPS}
    tables: dict[str, list[str]] = {}
    for setting, value, source in settings:
        *above, name = setting.path
        comment = f"  # {source}" if source else ""
        if setting.part is not None and value is not False and value is not None:
            tables[name] = [f"[{name}]{comment}"]
            continue
        try:
            line = f"{name} = {asToml(value)}{comment}"
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{source} {value!r}: can't be written as TOML, which is UTF-8") from error
        (tables[above[0]] if above else groups[setting.group]).append(line)
    parts = [[f"# {GROUPS[group]}", *lines] for group, lines in groups.items() if lines]
    return "\n\n".join("\n".join(each) for each in [*parts, *tables.values()])
