"""The Python objects that settings name, such as the application, and one line about why one can't be used."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from typing import Any

from ..protocol.errors import OptionError

DEFAULT_APP = "engineio_twisted.operation.tap:echo"


def findObject(name: str, path: str) -> Any:
    """
    Return the object that C{module:attribute} names.

    @param name: of the option, for the error.
    @raise OptionError: there is none.
    """
    moduleName, _, attributes = path.partition(":")
    if not moduleName or not attributes:
        raise OptionError(name, path, f"expected module:callable, such as {DEFAULT_APP}")
    # As with `python -m`: a module beside which the command is run is found.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(moduleName)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:
        raise OptionError(name, path, f"cannot be imported {described(error)}") from error
    return found


def described(error: BaseException) -> str:
    """
    Return one line about an exception of an application: its type, its text, and the file and line.

    Without a line of the application's, that of a library is named; a module that isn't there has none.
    """
    text = str(error)
    place = None
    if isinstance(error, SyntaxError) and error.filename is not None:
        text, place = error.msg, f"{error.filename}:{error.lineno}"
    else:
        frames = [
            each
            for each in traceback.extract_tb(error.__traceback__)
            if not each.filename.startswith(("<frozen importlib", *_OURS))
        ]
        ofApplication = [each for each in frames if not each.filename.startswith(_LIBRARIES)]
        if frames:
            last = (ofApplication or frames)[-1]
            place = f"{last.filename}:{last.lineno}"
    what = f"({type(error).__name__}: {' '.join(text.split())})"
    return what if place is None else f"{what} at {place}"


_OURS = (os.path.join(os.path.dirname(os.path.dirname(__file__)), ""), importlib.__file__)
_LIBRARIES = tuple(os.path.join(path, "") for path in {*map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))})
