"""Files of a folder: files and nothing else, whatever is asked for; over real sockets, on both sites."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogPublisher
from twisted.web.pages import errorPage
from twisted.web.resource import Resource
from twisted.web.server import Site as StockSite

from engineio_twisted import FastSite, Server, Site
from engineio_twisted.listening import NotImplementedResource
from engineio_twisted.operation import static
from engineio_twisted.operation.health import HealthResource
from engineio_twisted.operation.static import MAX_RANGES, StaticFolder

from ..kit.services import services, talking
from ..kit.wire import Response, connectTo, eventually, http

CONTENT = bytes(range(256)) * 40
CHANGED = 1_700_000_000

HIDDEN = [".env", ".git/config", ".git", ".", "..", "../outside.txt", "sub/.hidden", "sub/../page.html", "..data/v.txt"]


def escaped(path: str) -> str:
    """A path of which each character is written as its number."""
    return "/".join("".join(f"%{ord(character):02x}" for character in part) for part in path.split("/"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what a folder may have."""
    folder = tmp_path / "public"
    for name in ("sub", "empty", ".git", ".well-known/acme", "..2024", "indexed"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "public-other").mkdir()
    (tmp_path / "public-other" / "file.txt").write_text("secret")
    (folder / "data.bin").write_bytes(CONTENT)
    (folder / "page.html").write_text("<p>hello</p>")
    (folder / "index.html").write_text("<p>index</p>")
    (folder / "indexed" / "index.html").write_text("<p>below</p>")
    (folder / "sub" / "text.txt").write_text("text")
    (folder / "sub" / ".hidden").write_text("secret")
    (folder / "none.txt").write_text("")
    (folder / ".env").write_text("secret")
    (folder / ".git" / "config").write_text("secret")
    (folder / ".well-known" / "acme" / "token").write_text("token")
    # As Kubernetes mounts a ConfigMap.
    (folder / "..2024" / "v.txt").write_text("version")
    (folder / "..data").symlink_to("..2024")
    (folder / "v.txt").symlink_to("..data/v.txt")
    (folder / "inside.txt").symlink_to("sub/text.txt")
    (folder / "out.txt").symlink_to("../outside.txt")
    (folder / "other").symlink_to("../public-other")
    (folder / "absolute").symlink_to("/etc")
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere").symlink_to("not-there")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("latin")
    (folder / "café.txt").write_text("café")
    (folder / "two words.txt").write_text("words")
    os.utime(folder / "data.bin", (CHANGED, CHANGED))
    return folder


@pytest.fixture(params=[FastSite, Site])
def siteClass(request: pytest.FixtureRequest) -> Any:
    """The class of the site that serves: the one with the fast path, or the one without."""
    return request.param


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """All that is logged, at any level."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def serving(siteClass: Any, serve: Any) -> Iterator[Any]:
    """Serves a folder beside a server; returns a coroutine function that asks for something."""
    assert serve is not None, "what is closed leaves the reactor before a test ends"
    started: list[Any] = []

    async def start(folder: Path) -> Any:
        server = Server(reactor=reactor)
        site = siteClass(StaticFolder(str(folder)), reactor=reactor)
        server.attach(site)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        started.append((server, site, port))

        async def ask(where: str, *headers: tuple[str, str], method: str = "GET") -> Response:
            wire = await connectTo(port.getHost().port)
            try:
                wire.send(http(method, where, headers))
                response = await wire.response(method)
                assert not wire.received, "more than was announced"
                return response
            finally:
                wire.drop()

        ask.port = port.getHost().port  # type: ignore[attr-defined]
        ask.site = site  # type: ignore[attr-defined]
        return ask

    yield start
    for server, site, port in started:
        pytest_twisted.blockon(port.stopListening())
        pytest_twisted.blockon(server.close())
        pytest_twisted.blockon(site.closeConnections())


@pytest_twisted.ensureDeferred
async def test_files(serving: Any, folder: Path) -> None:
    """Are served whole, with their type, from folders below too, and through links that lead to something inside."""
    ask = await serving(folder)
    for where, expected, kind in [
        ("/data.bin", CONTENT, "application/octet-stream"),
        ("/page.html", b"<p>hello</p>", "text/html"),
        ("/page.html?a=/../b%00", b"<p>hello</p>", "text/html"),
        ("/", b"<p>index</p>", "text/html"),
        ("/indexed/", b"<p>below</p>", "text/html"),
        ("/sub/text.txt", b"text", "text/plain"),
        ("/s%75b/t%65xt.txt", b"text", "text/plain"),
        ("/none.txt", b"", "text/plain"),
        ("/.well-known/acme/token", b"token", "text/html"),
        ("/v.txt", b"version", "text/plain"),
        ("/inside.txt", b"text", "text/plain"),
        ("/caf%E9.txt", b"latin", "text/plain"),
        ("/caf%C3%A9.txt", "café".encode(), "text/plain"),
        ("/two%20words.txt", b"words", "text/plain"),
    ]:
        response = await ask(where)
        assert (response.status, response.body) == (200, expected), where
        assert response.headers["content-type"] == kind, where
        head = await ask(where, method="HEAD")
        assert (head.status, head.body) == (200, b""), where
        assert head.headers["content-length"] == str(len(expected)), where
        assert head.headers["content-type"] == kind, where


NOT_SERVED = [
    *(f"/{each}" for each in HIDDEN),
    *(f"/{escaped(each)}" for each in HIDDEN),
    "/sub",
    "/sub/",
    "/empty/",
    "/..2024/v.txt",
    "/.well-known/",
    "/.well-known/.env",
    "/.well-known2",
    "/out.txt",
    "/other/file.txt",
    "/other/",
    "/other",
    "/absolute/hostname",
    "/absolute",
    "/circle",
    "/circle/x",
    "/nowhere",
    "//",
    "//page.html",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/sub//text.txt",
    "/sub%2ftext.txt",
    "/sub%5ctext.txt",
    "/sub\\text.txt",
    "/..%5coutside.txt",
    "/..%2foutside.txt",
    "/sub/..%2f..%2foutside.txt",
    "/page.html/",
    "/page.html/x",
    "/page.html/index.html",
    "/none",
    "/%ff%fe",
    "/%c0%ae%c0%ae/outside.txt",
    "/%u002e",
    "/index",
    "/pipe",
    "/socket",
    "/devices/null",
    f"/{'a' * 256}",
    f"/{'a' * 3000}",
    f"/{'a/' * 1000}a",
    f"/{'../' * 20}etc/passwd",
    f"/sub/{'../' * 20}etc/passwd",
]


@pytest_twisted.ensureDeferred
async def test_whatIsNoFileInTheFolder(serving: Any, folder: Path, logged: list[Any]) -> None:
    """Does not exist, however it is written: 404 for GET and HEAD, and nothing is logged."""
    os.mkfifo(folder / "pipe")
    bound = socket.socket(socket.AF_UNIX)
    # A path for a socket may not be long.
    before = os.getcwd()
    os.chdir(folder)
    bound.bind("socket")
    os.chdir(before)
    (folder / "devices").symlink_to("/dev")
    ask = await serving(folder)
    logged.clear()
    with bound:
        for where in NOT_SERVED:
            for method in ("GET", "HEAD"):
                response = await ask(where, method=method)
                assert response.status == 404, where
                assert b"secret" not in response.body
    said = [each.get("log_format") for each in logged if each.get("log_namespace") != "twisted.internet.protocol"]
    assert [each for each in said if each and "factory" not in each] == []


@pytest_twisted.ensureDeferred
async def test_devicesInTheFolder(serving: Any, folder: Path) -> None:
    """Are never opened."""
    if os.geteuid():
        pytest.skip("needs root, which alone may make a device")
    try:
        os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("needs the right to make a device")
    ask = await serving(folder)
    assert (await ask("/zero")).status == 404


@pytest_twisted.ensureDeferred
async def test_badRequests(serving: Any, folder: Path, logged: list[Any]) -> None:
    """Get a status that says so, and nothing is logged."""
    ask = await serving(folder)
    logged.clear()
    for where in ("/a%00b", "/%00", "/page.html%00", "/sub%00/text.txt", "/%00/%00"):
        assert (await ask(where)).status == 400, where
        assert (await ask(where, method="HEAD")).status == 400, where
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "X"):
        response = await ask("/page.html", method=method)
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD"), method
    for value in ("\xff", "x", "", "Thu, 99 Foo 2020 99:99:99 GMT", "a b c d e", "Thu, x-y-z 1 2", "1" * 5000):
        response = await ask("/data.bin", ("If-Modified-Since", value))
        assert (response.status, response.body) == (200, CONTENT), value
    assert [each for each in logged if each.get("log_level") is not None and each["log_level"].name != "info"] == []
    assert not any("log_failure" in each for each in logged)


@pytest_twisted.ensureDeferred
async def test_headOfAPage(serving: Any, folder: Path, logged: list[Any]) -> None:
    """Has its length and no body, and costs no line, whatever page it is of."""

    class Hello(Resource):
        def render_GET(self, request: Any) -> bytes:
            return b"hello"

    ask = await serving(folder)
    folderOf = ask.site.resource.rest
    folderOf.putChild(b"hello", Hello())
    folderOf.putChild(b"health", HealthResource())
    folderOf.putChild(b"none", NotImplementedResource())
    folderOf.putChild(b"error", errorPage(418, "A teapot", "Short and stout"))
    for name in ("hello", "health", "none", "error"):
        length = len((await ask(f"/{name}")).body)
        logged.clear()
        response = await ask(f"/{name}", method="HEAD")
        # Templates of Twisted's are written when their headers are.
        assert response.headers.get("content-length") == (None if name in ("none", "error") else str(length))
        assert [each for each in logged if "HEAD" in str(each.get("log_format"))] == []


@pytest_twisted.ensureDeferred
async def test_foldersWithoutASlash(serving: Any, folder: Path) -> None:
    """Get one, relative to what was asked for, where there is something to see."""
    ask = await serving(folder)
    for where, expected in [
        ("/indexed", "./indexed/"),
        ("/%69ndexed?a=b", "./%69ndexed/?a=b"),
    ]:
        response = await ask(where)
        assert (response.status, response.headers["location"]) == (302, expected)
    assert (await ask("/indexed", method="HEAD")).status == 302
    for where in ("/sub", "/empty", "/index.html/", "/.git"):
        assert (await ask(where)).status == 404


@pytest_twisted.ensureDeferred
async def test_anIndexThatIsAFolder(serving: Any, folder: Path) -> None:
    """Is none."""
    (folder / "empty" / "index.html").mkdir()
    ask = await serving(folder)
    assert (await ask("/empty/")).status == 404
    assert (await ask("/empty")).status == 404


@pytest_twisted.ensureDeferred
async def test_aFolderThatIsALink(serving: Any, folder: Path, tmp_path: Path) -> None:
    """May be one, and may be replaced by another while it is served."""
    other = tmp_path / "second"
    other.mkdir()
    (other / "page.html").write_text("second")
    link = tmp_path / "current"
    link.symlink_to("public")
    ask = await serving(link)
    assert (await ask("/page.html")).body == b"<p>hello</p>"
    assert (await ask("/inside.txt")).body == b"text"
    assert (await ask("/out.txt")).status == 404
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").rename(link)
    assert (await ask("/page.html")).body == b"second"
    link.unlink()
    assert (await ask("/page.html")).status == 404


@pytest.mark.parametrize("replaced", ["sub", "sub/text.txt", "sub/deeper", "sub/deeper/text.txt"])
def test_aLinkThatComesMeanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch, replaced: str) -> None:
    """What becomes a link to the outside, after it was looked at and before it is opened, is not followed."""
    outside = folder.parent / "elsewhere"
    for each in (outside, folder / "sub"):
        (each / "deeper").mkdir(parents=True)
        (each / "text.txt").write_text("secret" if each is outside else "text")
        (each / "deeper" / "text.txt").write_text("secret" if each is outside else "text")
    (folder.parent / "kept").mkdir()
    resolved = os.path.realpath

    def replacing(path: Any, **options: Any) -> Any:
        found = resolved(path, **options)
        part = folder / replaced
        if options and not part.is_symlink():
            part.rename(folder.parent / "kept" / "it")
            part.symlink_to(outside / Path(replaced).relative_to("sub"))
        return found

    where = replaced if replaced.endswith(".txt") else f"{replaced}/text.txt"
    opened = StaticFolder(str(folder)).open(where)
    assert opened.file.read() == b"text"
    opened.file.close()
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with monkeypatch.context() as patched:
        patched.setattr("os.path.realpath", replacing)
        with pytest.raises(static.Refused) as caught:
            StaticFolder(str(folder)).open(where)
    assert caught.value.status == 404
    assert (folder / replaced).is_symlink()
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


@pytest_twisted.ensureDeferred
async def test_whatMayNotBeRead(
    serving: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, logged: list[Any], loggedErrors: list[Any]
) -> None:
    """Is forbidden, without a traceback; what the system fails at is said once, and is 503."""
    ask = await serving(folder)
    logged.clear()

    def failing(number: int) -> Callable[..., int]:
        def fail(*_: object, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        return fail

    # Root may read everything.
    with monkeypatch.context() as patched:
        patched.setattr(static, "_open", failing(13))
        response = await ask("/page.html")
        assert (response.status, response.body) == (403, b"Forbidden\n")
        assert not [
            each for each in logged if str(each.get("log_namespace")).startswith("engineio_twisted.operation.static")
        ]
        patched.setattr(static, "_open", failing(24))
        assert (await ask("/page.html")).status == 503
        assert (await ask("/page.html")).status == 503
    said = [each for each in logged if str(each.get("log_namespace")).startswith("engineio_twisted.operation.static")]
    assert {each["reason"] for each in said} == {"Too many open files"}
    # A second may have begun between the two.
    assert len(said) <= 2
    loggedErrors.clear()


# Ranges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("BYTES = 100-", (100, 10240)),
        ("bytes=-5", (10235, 10240)),
        ("bytes=-99999", (0, 10240)),
        ("bytes=0-99999999999999999999999999999", (0, 10240)),
        (f"bytes=-{'9' * 5000}", (0, 10240)),
        (f"bytes={'0' * 5000}1-5", (1, 6)),
        ("bytes=,, 5-6 ,", (5, 7)),
        ("bytes=10240-, 5-6", (5, 7)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_aRange(serving: Any, folder: Path, value: str, expected: tuple[int, int]) -> None:
    """Is what it says, as far as there is something."""
    ask = await serving(folder)
    start, stop = expected
    response = await ask("/data.bin", ("Range", value))
    assert (response.status, response.body) == (206, CONTENT[start:stop])
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    # It has a meaning for GET alone.
    assert (await ask("/data.bin", ("Range", value), method="HEAD")).headers["content-length"] == str(len(CONTENT))


WRONG_RANGES = [
    "\xff",
    "\xff=0-1",
    "",
    "bytes",
    "bytes=",
    "bytes=,",
    "bytes=-",
    "bytes=x-y",
    "bytes=1",
    "bytes=5-1",
    "bytes=+1-2",
    "bytes=1-+2",
    "bytes=1_0-2_0",
    "bytes=--1",
    "bytes=1-2-3",
    "bytes=\xb2-5",
    "bytes=0-1;2-3",
    "bytes=0 - 1",
    "bytes=10240-",
    "bytes=10240-99999",
    f"bytes={'9' * 5000}-",
    "bytes=-0",
    "bytes=" + "0-," * (MAX_RANGES + 1),
    "bytes=" + ",".join(["0-"] * 3000),
    "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    "bytes=0-,0-",
    "bytes=0-6000,5000-10000",
]


@pytest_twisted.ensureDeferred
async def test_wrongRanges(serving: Any, folder: Path, logged: list[Any]) -> None:
    """What is not understood, is behind the end, or is too much is 416, and nothing is logged."""
    ask = await serving(folder)
    logged.clear()
    for value in WRONG_RANGES:
        response = await ask("/data.bin", ("Range", value))
        assert (response.status, response.headers.get("content-range")) == (416, "bytes */10240"), value[:50]
        assert len(response.body) < 100
    for name in ("/none.txt",):
        assert (await ask(name, ("Range", "bytes=0-"))).status == 416
    assert not [each for each in logged if "ange" in str(each.get("log_format", "")) + str(each.get("message", ""))]
    # A unit that nobody knows is not wrong.
    assert (await ask("/data.bin", ("Range", "lines=1-2"))).body == CONTENT


@pytest_twisted.ensureDeferred
async def test_severalRanges(serving: Any, folder: Path) -> None:
    """Come as parts, each with its own range; what is behind the end is left out."""
    ask = await serving(folder)
    response = await ask("/data.bin", ("Range", "bytes=0-1,10-11,-2,99999-"))
    assert response.status == 206
    kind, _, boundary = response.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    mark = b"\r\n--" + boundary.strip('"').encode()
    assert mark not in CONTENT
    first, *parts, last = response.body.split(mark)
    assert (first, last) == (b"", b"--\r\n")
    assert [each.partition(b"\r\n\r\n")[2] for each in parts] == [CONTENT[:2], CONTENT[10:12], CONTENT[-2:]]
    said = [each.partition(b"\r\n\r\n")[0] for each in parts]
    assert said[1] == b"\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 10-11/10240"
    most = ",".join(f"{number * 100}-{number * 100 + 9}" for number in range(MAX_RANGES))
    assert (await ask("/data.bin", ("Range", f"bytes={most}"))).body.count(b"Content-Range") == MAX_RANGES


# Versions


@pytest_twisted.ensureDeferred
async def test_versions(serving: Any, folder: Path) -> None:
    """A client that has the file is told so; a download of another version begins anew."""
    ask = await serving(folder)
    changed = formatdate(CHANGED, usegmt=True)
    assert (await ask("/data.bin")).headers["last-modified"] == changed
    known = await ask("/data.bin", ("If-Modified-Since", changed), method="HEAD")
    assert (known.status, known.body) == (304, b"")
    assert (await ask("/data.bin", ("If-Modified-Since", formatdate(CHANGED - 1, usegmt=True)))).status == 200
    assert (await ask("/data.bin", ("If-Modified-Since", changed), ("If-None-Match", '"x"'))).status == 200
    for condition, status in [
        (changed, 206),
        (formatdate(CHANGED - 1, usegmt=True), 200),
        (formatdate(CHANGED + 1, usegmt=True), 200),
        ('"etag"', 200),
        ("\xff", 200),
    ]:
        response = await ask("/data.bin", ("Range", "bytes=0-1"), ("If-Range", condition))
        assert response.status == status, condition


@pytest.mark.parametrize("when", [-5, 10**12])
@pytest_twisted.ensureDeferred
async def test_aFileOfAnotherTime(serving: Any, folder: Path, when: int) -> None:
    """Is served, with a date where that can be written."""
    try:
        os.utime(folder / "page.html", (when, when))
    except (OverflowError, OSError):
        pytest.skip("no such time on this disk")
    ask = await serving(folder)
    response = await ask("/page.html", ("If-Modified-Since", formatdate(CHANGED, usegmt=True)))
    assert response.status == (304 if os.stat(folder / "page.html").st_mtime < 0 else 200)


# A file that changes while it is sent

LARGE = 8_000_000


async def downloading(ask: Any, folder: Path) -> Any:
    """A client that has the head of a large file, and has stopped to read."""
    (folder / "large.bin").write_bytes(b"x" * LARGE)
    wire = await connectTo(ask.port)
    wire.send(http("GET", "/large.bin"))
    head = await wire.head()
    assert (head.status, head.headers["content-length"]) == (200, str(LARGE))
    wire.transport.pauseProducing()
    (channel,) = ask.site.channels
    await eventually(lambda: channel._waitingForTransport, "the client being full")
    return wire


@pytest.mark.parametrize("what", ["removed", "replaced", "longer"])
@pytest_twisted.ensureDeferred
async def test_aFileThatChanges(serving: Any, folder: Path, what: str) -> None:
    """Arrives as it was when it was asked for; of one that grew, no more than was announced."""
    ask = await serving(folder)
    wire = await downloading(ask, folder)
    large = folder / "large.bin"
    if what == "removed":
        large.unlink()
    elif what == "replaced":
        (folder / "new").write_bytes(b"y" * LARGE)
        (folder / "new").rename(large)
    else:
        with large.open("ab") as file:
            file.write(b"z" * 1_000_000)
    wire.send(http("GET", "/page.html"))
    wire.transport.resumeProducing()
    await wire.until(lambda: len(wire.received) >= LARGE, "the page")
    assert wire.received[:LARGE] == b"x" * LARGE
    del wire.received[:LARGE]
    assert (await wire.response()).body == b"<p>hello</p>"
    wire.drop()


@pytest_twisted.ensureDeferred
async def test_aFileThatIsTruncated(serving: Any, folder: Path) -> None:
    """Can't be completed: the connection is cut, so that the client knows, and nothing else comes in its place."""
    ask = await serving(folder)
    wire = await downloading(ask, folder)
    os.truncate(folder / "large.bin", 10)
    wire.send(http("GET", "/page.html"))
    wire.transport.resumeProducing()
    got = await wire.lost()
    assert len(got) < LARGE
    assert b"hello" not in got


@pytest_twisted.ensureDeferred
async def test_aClientThatGoesAway(serving: Any, folder: Path) -> None:
    """Leaves no file open."""
    ask = await serving(folder)

    def open_() -> list[str]:
        found = []
        for each in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{each}"))
            except FileNotFoundError:
                continue
        return [each for each in found if str(folder) in each]

    for method in (False, True):
        wire = await downloading(ask, folder)
        assert len(open_()) == 1
        wire.transport.resumeProducing()
        wire.drop(abort=method)
        await eventually(lambda: not open_(), "the file being closed")
    await ask("/data.bin", ("Range", "bytes=99999-"))
    await ask("/data.bin", method="HEAD")
    await ask("/indexed")
    assert open_() == []


@pytest_twisted.ensureDeferred
async def test_onAnotherSite(serve: Any, folder: Path) -> None:
    """The folder is a resource for any site; a file that can't be completed closes the connection there."""
    assert serve is not None, "what is closed leaves the reactor before a test ends"
    (folder / "large.bin").write_bytes(b"x" * LARGE)
    site = StockSite(StaticFolder(str(folder)))
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
    wire = await connectTo(port.getHost().port)
    wire.send(http("GET", "/sub/text.txt", [("Range", "bytes=1-2")]))
    response = await wire.response()
    assert (response.status, response.body) == (206, b"ex")
    for where, status in [("/.env", 404), ("/sub/", 404), ("/out.txt", 404), ("/a%00b", 400)]:
        wire.send(http("GET", where))
        assert (await wire.response()).status == status
    wire.send(http("GET", "/large.bin"))
    assert (await wire.head()).status == 200
    # The server reads a piece of it in a turn.
    os.truncate(folder / "large.bin", 10)
    assert len(await wire.lost()) < LARGE
    await port.stopListening()


# The process


def test_process(folder: Path, freePort: int) -> None:
    """`twistd engineio --static` serves files only; nothing that a stranger asks for is logged."""
    with services(folder.parent) as start:
        service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--static=public")
        with talking(freePort) as talk:
            assert talk.ask(http("GET", "/page.html")) == b"<p>hello</p>"
            for where, status in [
                ("/.env", 404),
                ("/.git/config", 404),
                ("/sub/", 404),
                ("/out.txt", 404),
                ("/a%00b", 400),
                ("/%2e%2e/outside.txt", 404),
            ]:
                talk.connection.sendall(http("GET", where))
                assert talk.response()[0] == status, where
            talk.connection.sendall(http("GET", "/data.bin", [("Range", "\xff")]))
            assert talk.response()[0] == 416
            talk.connection.sendall(http("GET", "/data.bin", [("Range", "bytes=" + ",".join(["0-"] * 3000))]))
            assert talk.response()[0] == 416
            assert talk.ask(http("GET", "/v.txt")) == b"version"
        service.stop()
    said = service.said.partition("Engine.IO is served at")[2]
    assert "Traceback" not in said
    assert not [line for line in said.splitlines() if "ange" in line or "static" in line]


def test_processWithoutAFolder(freePort: int, tmp_path: Path) -> None:
    """Nothing else is served, and requests for it are not logged, whatever their method."""
    with services(tmp_path) as start:
        service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1")
        with talking(freePort) as talk:
            for _ in range(3):
                talk.connection.sendall(http("GET", "/x"))
                assert talk.response() == (404, b"Engine.IO is served here, and nothing else.\n")
        with talking(freePort) as talk:
            talk.connection.sendall(http("HEAD", "/", [("Connection", "close")]))
            assert b" 404 " in talk.connection.recv(65536)
        service.stop()
    assert "HEAD" not in service.said
