"""
Files of a folder, as the resource that C{twistd engineio --static} serves: files, and nothing else.

Content types are those of L{twisted.web.static.File}. The rest is done here: that class lists folders, serves names
that begin with a dot, follows links out of its folder, and takes any number of ranges.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from secrets import token_hex
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from twisted.web.http import stringToDatetime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import File, getTypeAndEncoding
from zope.interface import implementer

from ..logs import LogThrottle

if TYPE_CHECKING:
    from twisted.web.server import Request

MAX_RANGES = 16
"""Ranges of one request. More are refused with 416, and so are ranges that have more bytes together than the file."""

PIECE = 65536
"""Bytes of a file that are read at a time."""

INDEX = "index.html"
"""The file of a folder that is served for the folder itself."""

_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENXIO}
"""Errors of a path that names no file that can be served."""

_FORBIDDEN = {errno.EACCES, errno.EPERM}
"""Errors of a file, or of a folder above it, that this process may not read."""

_MANY_DIGITS = 18
"""A number of more digits than this is behind the end of any file."""

_TRIES = 3
"""How often a file is looked for while the links to it are being replaced."""

_FLAGS = os.O_RDONLY
for _each in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    _FLAGS |= getattr(os, _each, 0)

# O_PATH: a folder that may be passed through, but not listed, is enough.
_FOLDER = os.O_RDONLY
for _each in ("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_PATH"):
    _FOLDER |= getattr(os, _each, 0)


class Refused(Exception):
    """
    A request is not answered with a file.

    @ivar status: the status of the response.
    @ivar headers: headers of the response.
    """

    def __init__(self, status: HTTPStatus, **headers: str) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.headers = headers


class Page(Resource):
    """
    A response without a file: a status, and a sentence.

    @param status: the status.
    @param message: the sentence; by default the name of the status.
    @param headers: headers of the response, with C{_} for C{-}.
    """

    isLeaf = True

    def __init__(self, status: HTTPStatus, message: str | None = None, **headers: str) -> None:
        super().__init__()
        self._status = status
        self._body = f"{status.phrase if message is None else message}\n".encode()
        self._headers = headers

    def render(self, request: Request) -> bytes:
        """Return the response's body, which HEAD has none of."""
        request.setResponseCode(self._status)
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        for name, value in self._headers.items():
            request.setHeader(name.replace("_", "-"), value)
        if request.method == b"HEAD":
            # twisted.web would log a line about each body that it leaves out.
            request.setHeader("Content-Length", str(len(self._body)))
            return b""
        return self._body


@attrs.frozen
class Opened:
    """
    An open file.

    @ivar file: what its bytes are read from.
    @ivar path: its path.
    @ivar size: its size in bytes, when it was opened.
    @ivar modified: when it was last changed, in seconds since 1970.
    """

    file: BinaryIO
    path: str
    size: int
    modified: int


class StaticFolder(Resource):
    """
    The files of a folder, and of the folders below it.

    A folder itself is answered with its C{index.html}; without one it does not exist. Names in an address that begin
    with a dot do not exist either, except C{.well-known}. Links are followed as long as they lead to something inside
    the folder; the folder itself may be a link. What is no ordinary file is never opened.

    Children that are put (C{putChild}) come before files.

    @param path: the folder.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        super().__init__()
        self._folder = os.path.abspath(path)
        self._throttle = LogThrottle()

    def getChild(self, name: bytes, request: Request) -> Resource:
        """Return the resource of an address, all of which is below this one."""
        return _Address(self, [name, *(request.postpath or ())])

    def open(self, path: str) -> Opened:
        """
        Open a file that is inside the folder.

        @param path: the path of the file, relative to the folder.
        @raise Refused: there is none, or it may not be read.
        @raise IsADirectoryError: it is a folder.
        """
        for left in reversed(range(_TRIES)):
            try:
                return _open(self._folder, path)
            except IsADirectoryError:
                raise
            except OSError as error:
                if error.errno in _FORBIDDEN:
                    raise Refused(HTTPStatus.FORBIDDEN) from None
                if error.errno not in _NOT_THERE:
                    # Too many open files, or a disk that fails: not the client's fault.
                    if self._throttle.allows("static"):
                        self._log.error("{path} cannot be read: {reason}", path=path, reason=error.strerror)
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE) from None
                if left:
                    continue
            except ValueError:
                # A name that this system can't have.
                pass
            break
        raise Refused(HTTPStatus.NOT_FOUND)


class _Address(Resource):
    """An address below a folder, given by its decoded segments."""

    isLeaf = True

    def __init__(self, folder: StaticFolder, segments: Sequence[bytes]) -> None:
        super().__init__()
        self._folder = folder
        self._segments = segments

    def render(self, request: Request) -> int | bytes:
        """Answer with the file, or say why not."""
        try:
            if request.method not in (b"GET", b"HEAD"):
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
            return self._answer(request)
        except IsADirectoryError:
            refused = Refused(HTTPStatus.NOT_FOUND)
        except Refused as why:
            refused = why
        return Page(refused.status, **refused.headers).render(request)

    def _answer(self, request: Request) -> int | bytes:
        *above, name = self._segments
        path = os.path.join(*map(_checked, above), _checked(name) if name else INDEX)
        isFolder = False
        try:
            opened = self._folder.open(path)
        except IsADirectoryError:
            if not name:
                raise
            isFolder = True
            opened = self._folder.open(os.path.join(path, INDEX))
        if isFolder:
            # Links in its index are relative to what is inside, so its address has to end with a slash.
            opened.file.close()
            return self._redirect(request)
        isSending = False
        try:
            answer = _answerWith(opened, request)
            isSending = answer == NOT_DONE_YET
            return answer
        finally:
            if not isSending:
                opened.file.close()

    def _redirect(self, request: Request) -> bytes:
        path, mark, query = request.uri.partition(b"?")
        # As it came, and relative: what a proxy has taken off the address, or put before it, is not known here.
        request.setHeader(b"Location", b"./" + path.rpartition(b"/")[2] + b"/" + mark + query)
        return Page(HTTPStatus.FOUND).render(request)


def _checked(segment: bytes) -> str:
    """
    Return the name that a segment of an address stands for.

    @raise Refused: it stands for none that is served.
    """
    if b"\0" in segment:
        raise Refused(HTTPStatus.BAD_REQUEST)
    isHidden = segment.startswith(b".") and segment != b".well-known"
    if not segment or isHidden or b"/" in segment or b"\\" in segment:
        raise Refused(HTTPStatus.NOT_FOUND)
    # A name on a disk is bytes; those that are no UTF-8 are kept.
    return os.fsdecode(segment)


def _open(folder: str, path: str) -> Opened:
    root = os.path.realpath(folder)
    found = os.path.realpath(os.path.join(folder, path), strict=True)
    if os.path.commonpath([root, found]) != root:
        raise Refused(HTTPStatus.NOT_FOUND)
    with _folderOf(root, found) as (above, name):
        # Before it is opened: opening alone does something to a device, and waits for the other end of a pipe.
        _ordinary(os.stat(name, dir_fd=above, follow_symlinks=False))
        file = os.open(name, _FLAGS, dir_fd=above)
    try:
        status = os.fstat(file)
        _ordinary(status)
        return Opened(open(file, "rb", buffering=0), found, status.st_size, int(status.st_mtime))
    except BaseException:
        os.close(file)
        raise


@contextmanager
def _folderOf(root: str, found: str) -> Iterator[tuple[int | None, str]]:
    """
    Open the folder that a file is in, from the root on. No link is followed: what is one now was none a moment ago.

    @param root: the root, without links.
    @param found: the path of the file, without links.
    @return: the folder's descriptor, and the file's name in it; or None and its path, if the system has no such calls.
    """
    if os.open not in os.supports_dir_fd:
        yield None, found
        return
    *between, name = os.path.relpath(found, root).split(os.sep)
    folder = os.open(root, _FOLDER)
    try:
        for each in between:
            below = os.open(each, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)


def _ordinary(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise Refused(HTTPStatus.NOT_FOUND)


def _answerWith(opened: Opened, request: Request) -> int | bytes:
    modified = _asDate(opened.modified)
    request.setHeader("Accept-Ranges", "bytes")
    if modified is not None:
        request.setHeader("Last-Modified", modified)
    if _isKnown(opened, request):
        request.setResponseCode(HTTPStatus.NOT_MODIFIED)
        return b""
    name = os.path.basename(opened.path)
    kind, coding = getTypeAndEncoding(name, File.contentTypes, File.contentEncodings, "text/html")
    request.setHeader("Content-Type", kind)
    if coding is not None:
        request.setHeader("Content-Encoding", coding)
    parts = [(b"", 0, opened.size)]
    ranges = _ranges(opened, modified, request) if request.method == b"GET" else None
    if ranges is not None:
        request.setResponseCode(HTTPStatus.PARTIAL_CONTENT)
        if len(ranges) == 1:
            ((start, size),) = ranges
            request.setHeader("Content-Range", _contentRange(start, size, opened.size))
            parts = [(b"", start, size)]
        else:
            parts = _multipart(ranges, kind, opened.size, request)
    request.setHeader("Content-Length", str(sum(len(head) + size for head, _, size in parts)))
    if request.method == b"HEAD":
        return b""
    FileProducer(request, opened.file, parts).start()
    return NOT_DONE_YET


def _asDate(seconds: int) -> str | None:
    try:
        return formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError, OSError):
        # A file may have any time, a date only four digits for the year.
        return None


def _isKnown(opened: Opened, request: Request) -> bool:
    """Return whether the client says that it has this version of the file."""
    headers = request.requestHeaders
    since = headers.getRawHeaders(b"if-modified-since")
    if since is None or headers.hasHeader(b"if-none-match"):
        return False
    try:
        return opened.modified <= int(stringToDatetime(since[-1]))
    except (ValueError, LookupError, OverflowError):
        # RFC 9110, 13.1.3: one that is no date is ignored.
        return False


def _contentRange(start: int, size: int, total: int) -> str:
    return f"bytes {start}-{start + size - 1}/{total}"


def _ranges(opened: Opened, modified: str | None, request: Request) -> list[tuple[int, int]] | None:
    """
    Return what of the file is asked for, as begins and sizes; None for all of it.

    @raise Refused: there is nothing of that, it isn't said in a way that is understood, or it is too much.
    """
    headers = request.requestHeaders
    given = headers.getRawHeaders(b"range")
    condition = headers.getRawHeaders(b"if-range")
    if given is None or (condition is not None and (modified is None or condition != [modified.encode()])):
        return None
    refused = Refused(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{opened.size}")
    unit, equals, asked = b",".join(given).partition(b"=")
    if equals and unit.strip().isalpha() and unit.strip().lower() != b"bytes":
        # RFC 9110, 14.2: a unit that isn't known is ignored.
        return None
    specs = asked.split(b",", MAX_RANGES)
    if unit.strip().lower() != b"bytes" or len(specs) > MAX_RANGES:
        raise refused
    found = []
    for spec in filter(None, [each.strip(b" \t") for each in specs]):
        first, dash, last = spec.partition(b"-")
        if not dash or not (first or last) or not all(each.isdigit() or not each for each in (first, last)):
            raise refused
        begin, end = _number(first), _number(last)
        if first and last and end < begin:
            raise refused
        start = begin if first else max(0, opened.size - end)
        stop = min(end + 1, opened.size) if first and last else opened.size
        if start < stop:
            found.append((start, stop - start))
    if not found or sum(size for _, size in found) > opened.size:
        raise refused
    return found


def _number(digits: bytes) -> int:
    """Return a number, of too many digits one that is larger than any file. Python refuses to read thousands."""
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MANY_DIGITS else 10**_MANY_DIGITS


def _multipart(
    ranges: Sequence[tuple[int, int]], kind: str, total: int, request: Request
) -> list[tuple[bytes, int, int]]:
    """Return the parts of a response that has several ranges: bytes to write, then begin and size of the range."""
    # Not to be guessed: what a file has in it is no boundary.
    boundary = token_hex(16)
    request.setHeader("Content-Type", f'multipart/byteranges; boundary="{boundary}"')
    parts = []
    for start, size in ranges:
        head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {_contentRange(start, size, total)}\r\n\r\n"
        parts.append((head.encode(), start, size))
    return [*parts, (f"\r\n--{boundary}--\r\n".encode(), 0, 0)]


@implementer(IPullProducer)
class FileProducer:
    """
    Writes parts of a file to a request, at the pace of its client, and ends it.

    A file that became shorter than it was can't be completed: then the connection is aborted, which tells the client
    so. Of one that became longer no more is sent than was announced.

    @param request: its headers are set, with the length of the parts.
    @param file: the file, which is closed at the end.
    @param parts: bytes to write, and behind each the begin and size of a range of the file.
    """

    def __init__(self, request: Any, file: BinaryIO, parts: Sequence[tuple[bytes, int, int]]) -> None:
        self._request: Any = request
        self._channel = request.channel
        self._file = file
        self._parts = list(parts)
        self._head = b""
        self._left = 0

    def start(self) -> None:
        """Begin to write."""
        self._request.notifyFinish().addErrback(self._lost)
        self._request.registerProducer(self, False)

    def _lost(self, _: object) -> None:
        if self._request is not None:
            self.stopProducing()
            # A channel that is closing does not stop its producer, and would ask for more for ever.
            self._channel.unregisterProducer()

    def resumeProducing(self) -> None:
        """Write the next piece."""
        request = self._request
        if request is None:
            return
        if not self._left and self._parts:
            self._head, begin, self._left = self._parts.pop(0)
            self._file.seek(begin)
        piece, self._head = self._head, b""
        if self._left:
            try:
                read = self._file.read(min(PIECE, self._left)) or b""
            except OSError:
                read = b""
            if not read:
                self._giveUp()
                return
            self._left -= len(read)
            piece += read
        isLast = not self._left and not self._parts
        if isLast:
            self.stopProducing()
        if piece:
            request.write(piece)
        if isLast:
            request.unregisterProducer()
            request.finish()

    def _giveUp(self) -> None:
        request = self._request
        self.stopProducing()
        request.unregisterProducer()
        # A request of another site than ours can only close its connection.
        getattr(request, "abort", request.loseConnection)()

    def stopProducing(self) -> None:
        """Called when the connection is lost: close the file."""
        self._request = None
        self._file.close()
