"""
The client for browsers, served below the server's path: what the option C{serveClient} asks for.

The files are those of npm's C{socket.io-client}, read once at the start. No file of it is part of this package.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .. import OptionError, Server

if TYPE_CHECKING:
    from twisted.web.server import Request

_SCRIPTS = ("socket.io.js", "socket.io.min.js", "socket.io.msgpack.min.js", "socket.io.esm.min.js")

FILES: Mapping[str, str] = dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8") | {
    f"{each}.map": "application/json; charset=utf-8" for each in _SCRIPTS
}
"""The names that are served, each with its Content-Type. Of the folder nothing else is."""

_ACCEPTS_GZIP = re.compile(rb"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[0-9.]+\s*)?(?:,|$)", re.IGNORECASE)


def serveBundle(engine: Server, folder: str) -> None:
    """
    Serve the client's files below the path of a server: C{/socket.io/socket.io.js}, and the others of L{FILES}.

    They are answered by a middleware, behind those that the server has already. They have the server's CORS headers,
    and an entity tag by which a browser asks whether its copy is current. Names that the folder hasn't are left to the
    server, and so are all other requests.

    @param engine: the L{Server}.
    @param folder: the folder C{dist} of npm's C{socket.io-client}. It is read now, and never again.
    @raise OptionError: it isn't a folder, has none of the files, or one of them can't be read.
    """
    files = _read(folder)

    def middleware(request: Request) -> None:
        files[request.path.rpartition(b"/")[2].decode()].answer(request)

    engine.use(middleware, names=files)


def _read(folder: str) -> dict[str, _File]:
    expected = "expected the folder dist of npm's socket.io-client"
    try:
        path = Path(folder)
        found = {name: (path / name).read_bytes() for name in FILES if (path / name).is_file()}
    except (TypeError, ValueError, OSError) as error:
        raise OptionError("serveClient", folder, f"{expected}: {error}") from None
    if not path.is_dir():
        raise OptionError("serveClient", folder, f"{expected}: there is no such folder")
    if not found:
        below = path / "dist"
        cure = f"; did you mean {str(below)!r}?" if any((below / each).is_file() for each in FILES) else ""
        raise OptionError("serveClient", folder, f"{expected}: it has none of {', '.join(_SCRIPTS)}{cure}")
    return {name: _File(FILES[name], content) for name, content in found.items()}


@attrs.frozen
class _Form:
    """A file's content as it is sent, with its entity tag, which differs for each coding (RFC 9110, 8.8.3)."""

    body: bytes
    tag: bytes


class _File:
    """
    A file, as it is and compressed.

    @param contentType: its Content-Type.
    @param content: what is in it.
    """

    def __init__(self, contentType: str, content: bytes) -> None:
        self._contentType = contentType
        digest = hashlib.sha256(content).hexdigest()[:32]
        self._plain = _Form(content, f'"{digest}"'.encode())
        self._compressed = _Form(gzip.compress(content, mtime=0), f'"{digest}-gzip"'.encode())

    def answer(self, request: Request) -> None:
        """Answer a request for it."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            self._finish(request, HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", b"Method Not Allowed\n")
            return
        headers = request.requestHeaders
        isCompressed = _ACCEPTS_GZIP.search(b",".join(headers.getRawHeaders(b"accept-encoding", ()))) is not None
        form = self._compressed if isCompressed else self._plain
        request.setHeader("ETag", form.tag)
        # Browsers keep it, and ask each time whether it is current: the next version has the same name.
        request.setHeader("Cache-Control", "no-cache")
        # The server's CORS may have added its own.
        request.responseHeaders.addRawHeader("Vary", "Accept-Encoding")
        known = b",".join(headers.getRawHeaders(b"if-none-match", ())).split(b",")
        if any(each.strip().removeprefix(b"W/") in (form.tag, b"*") for each in known):
            request.setResponseCode(HTTPStatus.NOT_MODIFIED)
            request.finish()
            return
        if isCompressed:
            request.setHeader("Content-Encoding", "gzip")
        self._finish(request, HTTPStatus.OK, self._contentType, form.body)

    @staticmethod
    def _finish(request: Request, status: HTTPStatus, contentType: str, body: bytes) -> None:
        request.setResponseCode(status)
        request.setHeader("Content-Type", contentType)
        request.setHeader("Content-Length", str(len(body)))
        if request.method != b"HEAD":
            request.write(body)
        request.finish()
