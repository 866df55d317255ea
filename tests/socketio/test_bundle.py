"""The client for browsers below the server's path: its eight files, and nothing else of their folder."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from engineio_twisted import EngineIOResource, OptionError, Server, Site
from engineio_twisted.socketio.bundle import FILES, serveBundle
from engineio_twisted.socketio.testing import MemorySocketIO
from engineio_twisted.testing import MemoryServer

from ..kit.clients import INTEROP
from ..kit.wire import connectTo, http

SCRIPT = "socket.io.min.js"
CONTENT = b"/* the client */ var io = function () {};\n" * 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the eight files, each with its name in it, and with others."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode() + b"\n" + CONTENT)
    for name in ("index.html", "socket.io.slim.js", ".npmrc", "socket.io.js.bak"):
        (folder / name).write_text("not for clients")
    return folder


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[..., MemoryServer]]:
    """Make a server in memory that serves the folder: `serving(cors={…})`."""
    servers: list[MemoryServer] = []

    def start(**options: Any) -> MemoryServer:
        servers.append(MemoryServer(partial(serveBundle, folder=str(folder)), path="/socket.io", **options))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


def header(response: Any, name: str) -> str | None:
    values = response.headers.getRawHeaders(name)
    return None if values is None else ", ".join(values)


@pytest.mark.parametrize("name", FILES)
def test_eachFile(serving: Any, name: str) -> None:
    """Is served whole, by its own name, with its type; a script may have a query, as pages give it one."""
    kit = serving()
    for target in (f"/socket.io/{name}", f"/socket.io/{name}?v=4.8.1"):
        response = kit.request("GET", target)
        assert response.status == 200
        assert response.body == name.encode() + b"\n" + CONTENT
        kind = "application/json" if name.endswith(".map") else "text/javascript"
        assert header(response, "Content-Type") == f"{kind}; charset=utf-8"
        assert header(response, "Content-Encoding") is None
        assert header(response, "Vary") == "Accept-Encoding"
        assert header(response, "Cache-Control") == "no-cache"


@pytest.mark.parametrize(
    "target",
    [
        "/socket.io/index.html",
        "/socket.io/socket.io.slim.js",
        "/socket.io/.npmrc",
        "/socket.io/socket.io.js.bak",
        "/socket.io/../dist/index.html",
        "/socket.io/socket.io.js/",
        "/socket.io/%73ocket.io.js",
        "/socket.io/SOCKET.IO.JS",
        "/socket.io/",
        "/socket.io",
    ],
)
def test_nothingElse(serving: Any, target: str) -> None:
    """Anything else is a request of Engine.IO, and is refused as one without the protocol's parameters."""
    response = serving().request("GET", target)
    assert response.status == 400
    assert b"Transport unknown" in response.body


def test_outsideThePath(serving: Any) -> None:
    """The same names elsewhere on the site are the site's."""
    assert serving().request("GET", f"/{SCRIPT}").status == 404


def test_sessionsGoOn(serving: Any) -> None:
    """Clients connect beside it, on either transport and by an upgrade."""
    kit = serving()
    assert kit.connect("polling", upgrade=False).transport == "polling"
    assert kit.connect("websocket").transport == "websocket"
    assert kit.connect().transport == "websocket"


def test_aFolderWithSomeOfThem(folder: Path, serving: Any) -> None:
    """A version of the client that lacks one of the files: only that is missing."""
    (folder / "socket.io.esm.min.js").unlink()
    kit = serving()
    assert kit.request("GET", "/socket.io/socket.io.js").status == 200
    assert kit.request("GET", "/socket.io/socket.io.esm.min.js").status == 400


def test_filesAreReadOnce(folder: Path, serving: Any) -> None:
    """What becomes of the folder later changes nothing for clients, whose pages name no version."""
    kit = serving()
    for each in folder.iterdir():
        each.unlink()
    assert kit.request("GET", f"/socket.io/{SCRIPT}").body.endswith(CONTENT)


@pytest.mark.parametrize(
    ("accepted", "isCompressed"),
    [
        ("gzip, deflate, br, zstd", True),
        ("gzip", True),
        ("GZIP", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=1", True),
        ("gzip ; q=0.001", True),
        ("gzip;q=0", False),
        ("br, gzip;q=0.000, deflate", False),
        ("identity", False),
        ("br", False),
        ("xgzip, gzipx", False),
        ("gzip;level=1", False),
        ("", False),
    ],
)
def test_compression(serving: Any, accepted: str, isCompressed: bool) -> None:
    """A client that accepts gzip gets it, much smaller; any other gets the file as it is."""
    kit = serving()
    response = kit.request("GET", f"/socket.io/{SCRIPT}", {"Accept-Encoding": accepted})
    assert response.body == SCRIPT.encode() + b"\n" + CONTENT
    assert header(response, "Content-Encoding") == ("gzip" if isCompressed else None)
    length = int(header(response, "Content-Length") or 0)
    assert length < len(CONTENT) / 10 if isCompressed else length > len(CONTENT)


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_aCopyThatIsCurrent(serving: Any, accepted: str) -> None:
    """A browser that has the file is told so, and gets it again if its copy is another one."""
    kit = serving()
    accepting = {"Accept-Encoding": accepted}
    first = kit.request("GET", f"/socket.io/{SCRIPT}", accepting)
    tag = header(first, "ETag")
    assert tag is not None
    assert re.fullmatch(r'"[!-~]+"', tag)
    for known in (tag, f"W/{tag}", f'"other", {tag}', f'{tag},"other"', "*"):
        for method in ("GET", "HEAD"):
            response = kit.request(method, f"/socket.io/{SCRIPT}", {**accepting, "If-None-Match": known})
            assert (response.status, response.body) == (304, b"")
            assert header(response, "ETag") == tag
            assert header(response, "Vary") == "Accept-Encoding"
            assert header(response, "Cache-Control") == "no-cache"
            assert header(response, "Content-Type") is None
            assert header(response, "Content-Length") in (None, "0")
    for other in ('"other"', "", tag.strip('"'), f"{tag[:-1]}x", 'W/"*"'):
        response = kit.request("GET", f"/socket.io/{SCRIPT}", {**accepting, "If-None-Match": other})
        assert (response.status, response.body) == (200, first.body)


def test_eachFormHasATagOfItsOwn(serving: Any) -> None:
    """So that a cache takes no compressed copy for the file as it is; and each file has other tags."""
    kit = serving()
    tags = [
        header(kit.request("GET", f"/socket.io/{name}", {"Accept-Encoding": accepted}), "ETag")
        for name in FILES
        for accepted in ("gzip", "identity")
    ]
    assert len({*tags}) == len(FILES) * 2
    plain, compressed = tags[1], tags[0]
    response = kit.request("GET", "/socket.io/socket.io.js", {"Accept-Encoding": "gzip", "If-None-Match": plain})
    assert response.status == 200
    assert header(response, "ETag") == compressed


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_head(serving: Any, accepted: str) -> None:
    """HEAD has the headers of GET, and no body."""
    kit = serving()
    accepting = {"Accept-Encoding": accepted}
    got = kit.request("GET", f"/socket.io/{SCRIPT}", accepting)
    asked = kit.request("HEAD", f"/socket.io/{SCRIPT}", accepting)
    assert (asked.status, asked.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Content-Encoding", "ETag", "Vary", "Cache-Control"):
        assert header(asked, name) == header(got, name)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_otherMethods(serving: Any, method: str) -> None:
    """Are refused, with those that work, and open no session."""
    kit = serving()
    response = kit.request(method, f"/socket.io/{SCRIPT}?EIO=4&transport=polling", body=b"x" * 10)
    assert response.status == 405
    assert header(response, "Allow") == "GET, HEAD"
    assert kit.server.clientsCount == 0


@pytest.mark.parametrize("status", [200, 304, 405])
def test_cors(serving: Any, status: int) -> None:
    """Each answer has the CORS headers of the server; a preflight request is answered as anywhere else."""
    kit = serving(cors={"origin": ["https://example.com"], "credentials": True})
    asking = {"Origin": "https://example.com", **({"If-None-Match": "*"} if status == 304 else {})}
    response = kit.request("POST" if status == 405 else "GET", f"/socket.io/{SCRIPT}", asking)
    assert response.status == status
    assert header(response, "Access-Control-Allow-Origin") == "https://example.com"
    assert header(response, "Access-Control-Allow-Credentials") == "true"
    varies = [] if status == 405 else ["Accept-Encoding"]
    assert (header(response, "Vary") or "").split(", ") == ["Origin", *varies]
    other = kit.request("GET", f"/socket.io/{SCRIPT}", {"Origin": "https://evil.example"})
    assert header(other, "Access-Control-Allow-Origin") is None
    preflight = kit.request(
        "OPTIONS",
        f"/socket.io/{SCRIPT}",
        {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"},
    )
    assert preflight.status == 204
    assert header(preflight, "Access-Control-Allow-Origin") == "https://example.com"


def test_theOption(folder: Path) -> None:
    """The option of a Socket.IO server takes the folder as text or as a path."""
    for given in (str(folder), folder):
        with MemorySocketIO(lambda io: None, serveClient=given) as kit:
            assert kit.engine.request("GET", f"/socket.io/{SCRIPT}").body.endswith(CONTENT)
    with MemorySocketIO(lambda io: None) as kit:
        assert kit.engine.request("GET", f"/socket.io/{SCRIPT}").status == 400


def test_middlewaresBefore(folder: Path) -> None:
    """Those that the server had before see each request first; none is counted as refused."""
    seen: list[bytes] = []

    def application(server: Server) -> None:
        def middleware(request: Any) -> None:
            seen.append(request.path)
            request.setHeader("X-Before", "yes")

        server.use(middleware)
        serveBundle(server, str(folder))

    with MemoryServer(application, path="/socket.io") as kit:
        response = kit.request("GET", f"/socket.io/{SCRIPT}")
        assert seen == [f"/socket.io/{SCRIPT}".encode()]
        assert header(response, "X-Before") == "yes"
        assert kit.server.stats().refused == {}


def test_aMiddlewareThatAnswers(folder: Path) -> None:
    """One that answers a request itself keeps the files from that client."""

    def application(server: Server) -> None:
        def middleware(request: Any) -> None:
            request.setResponseCode(403)
            request.finish()

        server.use(middleware)
        serveBundle(server, str(folder))

    with MemoryServer(application, path="/socket.io") as kit:
        response = kit.request("GET", f"/socket.io/{SCRIPT}")
        assert (response.status, response.body) == (403, b"")


def test_asAResource(folder: Path) -> None:
    """A server that is a resource of the application's site has the files below that, whatever its path option says."""
    clock = Clock()
    server = Server(reactor=clock)
    serveBundle(server, str(folder))
    root, live = Resource(), Resource()
    root.putChild(b"live", live)
    live.putChild(b"io", EngineIOResource(server))
    site: Any = Site(root, reactor=clock)
    server.attach(site)
    with MemoryServer(server, site=site) as kit:
        assert kit.request("GET", f"/live/io/{SCRIPT}").body.endswith(CONTENT)
        assert kit.request("GET", f"/live/{SCRIPT}").status == 404
        assert kit.connect(path="/live/io/").transport == "websocket"


@pytest_twisted.ensureDeferred
async def test_overTheNetwork(serve: Any, folder: Path) -> None:
    """A large file arrives whole, compressed, on a real connection, which serves the next request."""
    content = bytes(each % 251 for each in range(700_000))
    (folder / "socket.io.js.map").write_bytes(content)
    running = await serve(partial(serveBundle, folder=str(folder)), path="/socket.io")
    wire = await connectTo(running.port)
    for headers, coding in (((("Accept-Encoding", "gzip"),), "gzip"), ((), None)):
        wire.send(http("GET", "/socket.io/socket.io.js.map", headers))
        response = await wire.response()
        assert response.status == 200
        assert response.headers.get("content-encoding") == coding
        assert (gzip.decompress(response.body) if coding else response.body) == content
    wire.drop()
    await wire.lost()


@pytest.mark.node
def test_theClientItself(node: str) -> None:
    """npm's package has all eight files, and each is what a client gets."""
    dist = INTEROP / "node_modules" / "socket.io-client" / "dist"
    with MemoryServer(partial(serveBundle, folder=str(dist)), path="/socket.io") as kit:
        for name in FILES:
            response = kit.request("GET", f"/socket.io/{name}", {"Accept-Encoding": "gzip"})
            assert response.body == (dist / name).read_bytes()
            assert int(header(response, "Content-Length") or 0) < len(response.body) / 2


# The folder


def refusedFolder(folder: Any) -> str:
    with pytest.raises(OptionError) as raised:
        serveBundle(Server(reactor=Clock()), folder)
    assert raised.value.name == "serveClient"
    assert raised.value.value is folder
    return raised.value.problem


def test_noFolder(tmp_path: Path, folder: Path) -> None:
    """A folder that isn't there, or is a file, is an error when the server is made."""
    expected = "expected the folder dist of npm's socket.io-client: there is no such folder"
    assert refusedFolder(str(tmp_path / "node_modules")) == expected
    assert refusedFolder(str(folder / SCRIPT)) == expected
    for other in (True, None, 3):
        assert "expected the folder dist of npm's socket.io-client: " in refusedFolder(other)
    assert refusedFolder("a\0b").startswith("expected the folder dist")


def test_aFolderWithNoneOfThem(tmp_path: Path, folder: Path) -> None:
    """Is an error too; for the folder above, with the one that was meant."""
    empty = tmp_path / "empty"
    (empty / SCRIPT).mkdir(parents=True)
    problem = refusedFolder(str(empty))
    assert "it has none of socket.io.js, socket.io.min.js" in problem
    assert "did you mean" not in problem
    assert refusedFolder(str(tmp_path)).endswith(f"did you mean {str(folder)!r}?")


def test_aFileThatCannotBeRead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is an error when the server is made, and not for each client."""

    def unreadable(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    assert "Permission denied" in refusedFolder(str(folder))
