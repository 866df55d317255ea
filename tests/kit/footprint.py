"""How many bytes of memory objects take, with all that only they keep alive."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any


def footprint(*roots: Any, without: Iterable[Any] = ()) -> int:
    """
    The bytes of objects and of all they lead to, of each once.

    @param without: what isn't followed, as others lead to it too.
    """
    seen = {id(each) for each in without}
    size = 0
    todo = list(roots)
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type | ModuleType):
            continue
        seen.add(id(each))
        size += sys.getsizeof(each)
        if isinstance(each, FunctionType):
            # Its module is everybody's.
            todo += [each.__closure__, each.__defaults__, each.__kwdefaults__]
        else:
            todo += gc.get_referents(each)
    return size
