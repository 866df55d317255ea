"""A page whose clients know nothing but scripts and forms, in headless Chromium, with its server on another origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from engineio_twisted.transports.jsonp import JSONPTransport

from ..kit.clients import Application, Message, Session, firstDifference, within
from ..kit.pages import Client, Page, PageSite, until
from ..kit.pages import chromium as chromium
from ..kit.pages import freshPage as freshPage
from ..kit.pages import oneBrowser as oneBrowser
from ..kit.pages import pageSite as pageSite

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# By the number of the client's version: the last ones of each revision that can do it.
REVISIONS = {3: 3, 5: 4}

EITHER_CLIENT = pytest.mark.parametrize("version", REVISIONS, ids=lambda version: f"client {version}")

# `make test` leaves to `make test-slow` what client 3 does as client 5 does.
LATEST_CLIENT = pytest.mark.parametrize(
    "version",
    [pytest.param(each, marks=[] if each == 5 else pytest.mark.apart, id=f"client {each}") for each in REVISIONS],
)

# What a script, a form or a string in either could take for something else.
MESSAGES: list[Message] = [
    "plain",
    "",
    "\u20ac \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u00e9 e\u0301 \ufeff \uffff",
    "\u2028 begins, ends \u2029",
    "\"double\" 'single' `back` ${nothing}",
    "</script><script>document.title = 'changed'</script><!-- <script> ]]>",
    "</textarea><b>",
    "one\ntwo\n\nfour\n",
    "\r",
    "one\r\ntwo\rthree",
    "\n",
    "\\",
    "\\\\",
    "\\n",
    "\\\\n",
    "C:\\new\\nodes\n\\n\\",
    "\\u2028 \\x41 \\0",
    "a+b & c=d; %41 %0A d=1&d=2 # ?",
    " spaces  at both ends ",
    "\x00 \x01 \x08 \t \x0b \x0c \x1b \x7f \x85 \xa0",
    "4 2:4a b4AAAA",
    b"",
    b"\x00",
    bytes(range(256)),
    "after the binary ones",
]

# The client's way to write a newline leaves two meanings to this.
ONE_WAY = ["\\\n"]


class Visit:
    """A server, a page of another origin, and how that page's clients connect to it."""

    def __init__(self, page: Page, application: Application, version: int, running: Any) -> None:
        self.page = page
        self.running = running
        self._application = application
        self._version = version
        self._fetched: set[tuple[str, str]] = set()
        # What each session began with: a page may have upgraded by the time a test looks.
        self._began: dict[Any, Any] = {}
        running.server.on("headers", self._answering)
        running.server.on("connection", self._connected)

    def _connected(self, socket: Any) -> None:
        self._began[socket] = socket.transport

    def _answering(self, headers: object, request: Any) -> None:
        self._fetched.add((request.method.decode(), request.getHeader("Sec-Fetch-Dest")))

    async def connect(self, *transports: str) -> tuple[Client, Session]:
        """One more client, and its session."""
        client = await self.page.connect(self.running.url, transports=["polling", *transports], forceJSONP=True)
        session = await self._application.session()
        await client.saw("open on polling")
        # Not earlier: the application is told of the session before this is.
        assert isinstance(self._began[session.socket], JSONPTransport)
        assert session.socket.protocol == REVISIONS[self._version]
        return client, session

    async def wentWell(self, *sessions: Session) -> None:
        """Check that nothing but scripts and forms was used, and that the browser has nothing to complain of."""
        assert self._fetched <= {("GET", "script"), ("POST", "iframe")}
        for session in sessions:
            assert isinstance(session.socket.transport, JSONPTransport)
            assert not session.socket.upgraded
        assert await self.page.errors() == []


@pytest.fixture(name="visit")
def visitOf(page: Page, pageSite: PageSite, serve: Callable[..., Any]) -> Callable[..., Any]:
    """A coroutine function: `visit = await visit(version, application, pingInterval=300)`."""

    async def start(version: int, application: Application, **options: Any) -> Visit:
        running = await serve(application, allowEIO3=REVISIONS[version] == 3, **options)
        # Another name besides another port: not even the same site.
        await page.visit(await pageSite(client=version, host="localhost"))
        return Visit(page, application, version, running)

    return start


@EITHER_CLIENT
@pytest_twisted.ensureDeferred
async def test_anyMessage(visit: Callable[..., Any], version: int) -> None:
    """Whatever is in a message, text or binary, arrives as it was sent: on the server, on the page, and in order."""

    def greet(socket: Any) -> None:
        for text in ONE_WAY:
            socket.send(text)

    here = await visit(version, Application(greet))
    client, session = await here.connect()
    await client.send(*MESSAGES)
    received = await client.received(len(ONE_WAY) + len(MESSAGES))
    assert session.messages == MESSAGES
    assert received == ONE_WAY + MESSAGES
    assert await here.page.run("return document.title") == "A page"
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_manyMessages(visit: Callable[..., Any], version: int) -> None:
    """Messages of many requests, some of them large, come in the order in which they were sent, each once."""
    sent: list[Message] = []
    here = await visit(version, Application())
    client, session = await here.connect()
    for each in range(10):
        burst: list[Message] = [f"{each}.{number}\n" for number in range(20)]
        # A form takes nine bytes for each of the first; of many more than the others client 3 makes no base64.
        burst += ["\u20ac" * 50_000, bytes(range(256)) * 300] if each == 5 else []
        await client.send(*burst)
        sent += burst
    received = await client.received(len(sent))
    assert firstDifference(session.messages, sent) is None
    assert firstDifference(received, sent) is None
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_twoClients(visit: Callable[..., Any], version: int) -> None:
    """Two clients on one page get each what is theirs."""
    here = await visit(version, Application())
    one, first = await here.connect()
    other, second = await here.connect()
    for number in range(5):
        await one.send(f"one {number}")
        await other.send(f"other {number}")
    assert await one.received(5) == first.messages == [f"one {number}" for number in range(5)]
    assert await other.received(5) == second.messages == [f"other {number}" for number in range(5)]
    await here.wentWell(first, second)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_upgrade(visit: Callable[..., Any], version: int) -> None:
    """Where a WebSocket is possible the page moves to it, and nothing is lost, doubled or changed on the way."""
    here = await visit(version, Application())
    client, session = await here.connect("websocket")
    await client.send(*MESSAGES)
    await client.saw("upgrade to websocket")
    await client.send(*MESSAGES)
    assert await client.received(2 * len(MESSAGES)) == session.messages == MESSAGES * 2
    assert session.happened == ["upgrading to websocket", "upgrade to websocket"]
    assert await here.page.errors() == []


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_quietPage(visit: Callable[..., Any], version: int) -> None:
    """A page that has nothing to say stays connected by heartbeats, and hears what comes much later."""
    beats: Deferred[None] = Deferred()
    counted = []

    def count(socket: Any) -> None:
        def beat() -> None:
            counted.append(socket)
            if len(counted) == 5:
                beats.callback(None)

        socket.on("heartbeat", beat)

    here = await visit(version, Application(count), pingInterval=100)
    client, session = await here.connect()
    await within(beats, "heartbeats")
    session.socket.send("still there?")
    assert await client.received(1) == ["still there?"]
    assert session.happened == []
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_pageCloses(visit: Callable[..., Any], version: int) -> None:
    """A page that closes is gone from the server at once, with what it said last."""
    here = await visit(version, Application(echo=False))
    client, session = await here.connect()
    await client.send("goodbye")
    await client.close()
    assert await session.closed() == "transport close"
    await client.saw("close: forced close")
    assert session.messages == ["goodbye"]
    assert here.running.server.clientsCount == 0
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_serverCloses(visit: Callable[..., Any], version: int) -> None:
    """A page whose session the server closes gets what was sent before, and is told."""
    here = await visit(version, Application(echo=False))
    client, session = await here.connect()
    session.socket.send("goodbye")
    session.socket.close()
    assert await session.closed() == "forced close"
    await client.saw("close: transport close")
    assert await client.received(1) == ["goodbye"]
    assert await client.happened() == ["open on polling", "close: transport close"]
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_serverGoes(visit: Callable[..., Any], version: int) -> None:
    """When the server shuts down, its pages are told."""
    here = await visit(version, Application(echo=False))
    client, session = await here.connect()
    await within(here.running.server.close(), "the server to close")
    assert await session.closed() == "server shutting down"
    await client.saw("close: transport close")
    await here.wentWell(session)


@LATEST_CLIENT
@pytest_twisted.ensureDeferred
async def test_tabCloses(page: Page, visit: Callable[..., Any], version: int) -> None:
    """A page whose tab is closed while it waits for messages is gone from the server at once."""
    closeTab = await page.openTab()
    here = await visit(version, Application())
    client, session = await here.connect()
    await client.send("one")
    await client.received(1)
    # Without a request that waits there would be nothing to notice.
    await until(lambda: session.socket.transport.writable, "the page to wait")
    await here.wentWell(session)
    await closeTab()
    # The latter where the page has a last word.
    assert await session.closed() in ("transport error", "transport close")
    assert here.running.server.clientsCount == 0
