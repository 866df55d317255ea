"""The access log: a line for each request, in a file that is opened once and reopened when it was moved."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from io import FileIO
from types import FrameType
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger
from twisted.web.http import combinedLogFormatter
from twisted.web.iweb import IAccessLogFormatter
from zope.interface import provider

from ..logs import beginningOfId

STANDARD_OUTPUT = "-"
"""The name of standard output in place of a path."""


def absolute(path: str) -> str:
    """Return the path of an access log, whatever folder is the current one later."""
    return path if path == STANDARD_OUTPUT else os.path.abspath(path)


class AccessLog:
    """
    An open file for lines about requests. Each is written by one call of the system, as several processes may write.

    What can't be written or reopened is said in the log, once until it works again; the requests go on.

    @param path: of the file, or L{STANDARD_OUTPUT}.
    @param descriptor: of the file if it is open, which then belongs to this.
    @raise OSError: it can't be opened.
    @raise ValueError: it is no path.
    """

    _log = Logger()

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self._path = absolute(path)
        self._file = self._open() if descriptor is None else _lines(descriptor)
        self._isBroken = False

    def _open(self) -> FileIO:
        if self._path == STANDARD_OUTPUT:
            # Not sys.stdout, which twistd has put its log in the place of.
            return _lines(os.dup(1))
        # Opening a pipe would wait for somebody to read it; now that is an error.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        file = os.open(self._path, flags, 0o666)
        os.set_blocking(file, True)
        return _lines(file)

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file.fileno()

    def write(self, text: str) -> None:
        """Write a line."""
        try:
            line = text.encode("utf-8", "backslashreplace")
            while line:
                written = self._file.write(line)
                if not written:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                # A disk that is full takes a part, and the next call says why.
                line = line[written:]
            self._isBroken = False
        except (OSError, ValueError) as error:
            self._failed("written to", error)

    def reopen(self) -> None:
        """Go on with the file that has the path now; with the present one if that can't be opened."""
        try:
            file = self._open()
        except OSError as error:
            self._isBroken = False
            self._failed("reopened", error)
            return
        self.close()
        self._file = file

    def replace(self, descriptor: int) -> None:
        """Go on with a file that is open, whose descriptor then belongs to this."""
        self.close()
        self._file = _lines(descriptor)

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            self._failed("closed", error)

    def reopenOnSignal(self, callFromThread: Callable[..., Any]) -> Callable[[], None]:
        """
        Reopen the file on SIGUSR1, besides what was done by that signal before.

        @param callFromThread: of the reactor.
        @return: what undoes it.
        """
        number = getattr(signal, "SIGUSR1", None)
        if number is None:
            return lambda: None
        before = signal.getsignal(number)

        def reopen(received: int, frame: FrameType | None) -> None:
            callFromThread(self.reopen)
            if callable(before):
                before(received, frame)

        def undo() -> None:
            if signal.getsignal(number) is reopen:
                signal.signal(number, signal.SIG_DFL if before is None else before)

        signal.signal(number, reopen)
        return undo

    def _failed(self, what: str, error: Exception) -> None:
        if not self._isBroken:
            self._isBroken = True
            reason = getattr(error, "strerror", None) or str(error)
            self._log.error(
                "The access log {path} cannot be {what}: {reason}", path=self._path, what=what, reason=reason
            )


def _lines(descriptor: int) -> FileIO:
    return open(descriptor, "ab", buffering=0)


@provider(IAccessLogFormatter)
def formatAccess(timestamp: str, request: Any, address: str | None = None, idPrefix: str = "") -> str:
    """
    Return a line of an access log, in the combined format; of a session id, which is a secret, the beginning.

    @param address: the client's, if another one connected, such as a proxy.
    @param idPrefix: what ids begin with that is no secret.
    """
    line: str = combinedLogFormatter(timestamp, _Logged(request, address, idPrefix.encode()))
    return line


class _Logged:
    """A request as it may stand in a log."""

    def __init__(self, request: Any, address: str | None, idPrefix: bytes) -> None:
        self._request = request
        self._address = address
        self._idPrefix = idPrefix

    def getClientAddress(self) -> Any:
        if self._address is None:
            return self._request.getClientAddress()
        return (IPv6Address if ":" in self._address else IPv4Address)("TCP", self._address, 0)

    @property
    def uri(self) -> bytes:
        return self._withoutIds(self._request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        value: bytes | None = self._request.getHeader(name)
        return self._withoutIds(value) if name == b"referer" and value is not None else value

    def _withoutIds(self, address: bytes) -> bytes:
        path, mark, query = address.partition(b"?")
        return bytes(path + mark + b"&".join([self._shortened(each) for each in query.split(b"&")]))

    def _shortened(self, parameter: bytes) -> bytes:
        name, mark, value = parameter.partition(b"=")
        if unquote_to_bytes(name.replace(b"+", b" ")) != b"sid" or not value:
            return parameter
        return name + mark + beginningOfId(value, self._idPrefix) + b"..."

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)
