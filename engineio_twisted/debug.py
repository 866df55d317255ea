"""
What the parts do, step by step, on stderr, for the scopes that the environment variable DEBUG names.

C{DEBUG=engine*} shows all; it is a list with commas, C{*} stands for anything, and C{-name} excludes. Callers ask
C{enabled} first, so that a scope that is off costs one attribute (docs/interface.md, "Debugging").
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from fnmatch import fnmatchcase

from twisted.logger import Logger


class DebugScope:
    """
    One scope.

    @param name: such as C{engine:socket}.
    @param wanted: what DEBUG says; by default, what it said when the process started.
    @ivar enabled: whether anybody wants to see it.
    """

    _log = Logger()

    def __init__(self, name: str, wanted: str | None = None) -> None:
        self.name = name
        wanted = os.environ.get("DEBUG", "") if wanted is None else wanted
        patterns = [each for each in wanted.replace(",", " ").split() if each]
        excluded = any(fnmatchcase(name, each[1:]) for each in patterns if each.startswith("-"))
        self.enabled = not excluded and any(fnmatchcase(name, each) for each in patterns)

    def log(self, message: str) -> None:
        """
        Write a line, whether enabled or not.

        A stderr that fails stops nothing: that is logged once, and the scope is off from then on.
        """
        try:
            sys.stderr.write(f"{self.name} {message}\n")
        except BaseException:
            self.enabled = False
            with suppress(BaseException):
                self._log.failure("DEBUG shows nothing more of {scope}: stderr failed", scope=self.name)
