"""`engineio-twisted` and `python -m engineio_twisted`: `twistd engineio` in the foreground, without twistd."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import globalLogBeginner, textFileLogObserver

from .commandline import Options
from .tap import makeService


def main() -> None:
    """
    Run the command until it is told to stop.

    It logs to standard output, as `twistd -n` does, and writes no pid file.

    @raise SystemExit: an option is wrong, or the service has failed, with exit code 1. After SIGTERM or Ctrl-C the
        process ends by that signal, as twistd does.
    """
    with _endedByInterrupt():
        service, theReactor = _started()
    theReactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    signals = _Signals()
    theReactor.callWhenRunning(signals.watch)
    theReactor.run()
    if service.hasFailed:
        raise SystemExit(1)
    signals.endByThem()


def _started() -> tuple[Any, Any]:
    """Return the service that the command line asks for, which is started, and the reactor."""
    options = Options()
    options.parseOptions()
    from twisted.internet import reactor

    service = makeService(options)
    stderr = sys.stderr
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    try:
        service.privilegedStartService()
        service.startService()
    except SystemExit:
        # The line is for the terminal, not for the log.
        sys.stderr = stderr
        raise
    return service, reactor


@contextmanager
def _endedByInterrupt() -> Iterator[None]:
    """
    Let Ctrl-C end the process at once, as SIGTERM does before the reactor runs.

    A KeyboardInterrupt inside the callback of a Deferred would be logged, and the process go on.
    """
    isDefault = signal.getsignal(signal.SIGINT) == signal.default_int_handler
    if isDefault:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        # The reactor takes it over only then. The application may have a handler of its own by now.
        if isDefault and signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class _Signals:
    """The signal that has asked the process to end."""

    def __init__(self) -> None:
        self._asked: int | None = None

    def watch(self) -> None:
        """Note each such signal, before what the reactor does about it."""
        for each in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(each)
            if callable(before):
                signal.signal(each, self._noting(before))

    def _noting(self, before: Any) -> Any:
        def note(number: int, frame: Any) -> None:
            self._asked = number
            before(number, frame)

        return note

    def endByThem(self) -> None:
        """End the process by the signal, if there was one, so that a shell or a supervisor sees why it has ended."""
        if self._asked is not None:
            signal.signal(self._asked, signal.SIG_DFL)
            signal.raise_signal(self._asked)
