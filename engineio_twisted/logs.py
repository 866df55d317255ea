"""
Lines of the log that clients can cause: at most one a second of each kind, and a count of those that are left out.

One line comes once: that a client speaks Socket.IO.

docs/logging.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from time import monotonic
from typing import TYPE_CHECKING, Any, AnyStr, ClassVar

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

INTERVAL = 1.0
"""Seconds in which there is no more than one line of each kind."""


class _Kind:
    """
    Lines of one kind.

    @ivar until: the time, in seconds, from which there may be another.
    @ivar suppressed: how many were left out.
    @ivar call: what logs how many, once there are any.
    """

    __slots__ = ("call", "suppressed", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.suppressed = 0
        self.call: IDelayedCall | None = None


class LogThrottle:
    """
    Decides whether a line that a client can cause may be logged, so that no client can fill the log.

    One line of each kind may be, in each second. Those left out are counted, and one line has their number: when the
    second is over, or, without a clock, in place of the next line.

    @param clock: returns the C{IReactorTime} whose seconds count; called when it is needed.
    """

    _log = Logger()

    def __init__(self, clock: Callable[[], Any] | None = None) -> None:
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def allows(self, kind: str) -> bool:
        """
        Return whether a line may be logged now. One that may not is counted.

        @param kind: one of few, which never depends on what a client sent.
        """
        state = self._kinds.get(kind)
        if state is None:
            state = self._kinds[kind] = _Kind()
        now = self._now()
        # A clock may be set back.
        isInside = state.until - INTERVAL <= now < state.until
        if not isInside and not state.suppressed:
            state.until = now + INTERVAL
            return True
        state.suppressed += 1
        if self._clock is None:
            if not isInside:
                self._report(kind, state)
        elif state.call is None:
            state.call = self._clock().callLater(max(0.0, state.until - now), self._report, kind, state)
        return False

    def flush(self) -> None:
        """Log the counts that aren't logged yet, without waiting for the end of a second."""
        for kind, state in list(self._kinds.items()):
            if state.suppressed:
                if state.call is not None and state.call.active():
                    state.call.cancel()
                self._report(kind, state)

    def _now(self) -> float:
        return monotonic() if self._clock is None else float(self._clock().seconds())

    def _report(self, kind: str, state: _Kind) -> None:
        count, state.suppressed, state.call = state.suppressed, 0, None
        # This is the line of the next second.
        state.until = self._now() + INTERVAL
        self._log.warn("{kind}: {count} more lines were suppressed", count=count, kind=kind)


class ThrottledLogger(Logger):
    """
    A logger for code of others that logs what clients do: below C{error}, one line a second of each format.

    In place of the C{Logger} of a class of theirs.
    """

    throttle: ClassVar[LogThrottle] = LogThrottle()

    def emit(self, level: Any, *args: Any, **fields: Any) -> None:
        """Log a line, given its format, unless there was one of that in the last second."""
        if level >= LogLevel.error or self.throttle.allows(str(args)):
            super().emit(level, *args, **fields)


class SocketIONotice:
    """
    Says in the log, once, that a client of Socket.IO has come to a server that speaks Engine.IO alone, or to the wrong
    path.

    @ivar isDue: whether first messages of sessions are looked at.
    @ivar isBound: whether a Socket.IO layer is bound to the server.
    """

    _log = Logger()
    isDue: bool = True
    isBound: bool = False
    _isSaid = False

    def layerBound(self) -> None:
        """Look at no first messages from now on: a Socket.IO layer is bound to the server, which calls this."""
        self.isDue, self.isBound = False, True

    def requested(self, request: Any, path: str | None) -> None:
        """
        Note a request to C{/socket.io/}, outside the path of the server, unless something else serves it.

        @param request: a L{twisted.web.server.Request}.
        @param path: the path at which the site has a Socket.IO server; None if it has none.
        """
        if not self._isSaid and b"EIO=" in request.uri:
            request.notifyFinish().addCallbacks(lambda _: self._requestOver(request, path), lambda _: None)

    def _requestOver(self, request: Any, path: str | None) -> None:
        if request.code < 400:
            return
        what = "A client of Socket.IO asked for /socket.io/, which nothing serves"
        if path is None:
            self._say(f"{what}: {_NO_SOCKET_IO}")
        else:
            self._say(f"{what}: the Socket.IO server has the path {{path}}; give it path='/socket.io'", path=path)

    def firstMessage(self, data: object, session: str) -> None:
        """
        Note the first message of a session.

        @param session: as much of the id of the session as may stand in a log.
        """
        # "0" is Socket.IO's packet CONNECT; behind it are the name of a namespace and data.
        if isinstance(data, str) and (data == "0" or data.startswith(("0{", "0/"))):
            what = "The first message of session {session} is that of a Socket.IO client"
            self._say(f"{what}: {_NO_SOCKET_IO}", session=session)

    def _say(self, what: str, **values: str) -> None:
        if not self._isSaid:
            self._isSaid, self.isDue = True, False
            self._log.warn(what, **values)


_NO_SOCKET_IO = "this server speaks Engine.IO; call SocketIO(server) for Socket.IO; see docs/socketio.md"


SHOWN_OF_ID = 6
"""Characters of a session id that may stand in a log: all of it would be enough to take the session over."""


def beginningOfId(sid: AnyStr, prefix: AnyStr) -> AnyStr:
    """
    Return what of a session id may stand in a log: its first characters, of a short one the first half.

    @param prefix: what ids begin with that is no secret.
    """
    known = len(prefix) if sid.startswith(prefix) else 0
    return sid[: known + min(SHOWN_OF_ID, (len(sid) - known) // 2)]


class DebugScope:
    """
    One scope.

    @param name: such as C{engine:socket}.
    @param wanted: what DEBUG says; by default, what the environment says.
    @ivar enabled: whether anybody wants to see it.
    """

    _log = Logger()

    def __init__(self, name: str, wanted: str | None = None) -> None:
        self.name = name
        wanted = os.environ.get("DEBUG", "") if wanted is None else wanted
        patterns = [each for each in wanted.replace(",", " ").split() if each]
        excluded = any(fnmatchcase(name, each[1:]) for each in patterns if each.startswith("-"))
        self.enabled: bool = not excluded and any(fnmatchcase(name, each) for each in patterns)

    def log(self, message: str) -> None:
        """
        Write a line, if the scope is enabled.

        A stderr that fails stops nothing: that is logged once, and the scope is off from then on.
        """
        if not self.enabled:
            return
        try:
            sys.stderr.write(f"{self.name} {message}\n")
        except BaseException:
            self.enabled = False
            with suppress(BaseException):
                self._log.failure("DEBUG shows nothing more of {scope}: stderr failed", scope=self.name)
