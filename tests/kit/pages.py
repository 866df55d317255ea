"""For the tests with pages in a browser: a site that has a page with a client, and what happens on that page."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.static import Data

from engineio_twisted import Site

from ..kit.tools import require
from .browser import PATIENCE, Chromium, browse, chromium, inThread
from .clients import INTEROP, Message, pack, unpack, within

__all__ = ["Client", "Page", "PageSite", "chromium", "freshPage", "oneBrowser", "pageSite", "until"]

# The newest clients of their kinds: of revision 3, of revision 4 with JSONP, and of today.
CLIENTS = {
    3: "engine.io-client-3/engine.io.js",
    5: "engine.io-client-5/dist/engine.io.js",
    6: "engine.io-client/dist/engine.io.js",
}

HTML = b"""<!DOCTYPE html>
<title>A page</title>
<link rel="icon" href="data:,">
<script src="client.js"></script>
<script src="page.js"></script>
<body></body>
"""

# What the tests call. Messages travel between test and page as in tests/kit/clients.py.
SCRIPT = """
"use strict";
const clients = [];

function unpack(message) {
    return "text" in message ? message.text : Uint8Array.from(atob(message.binary), each => each.charCodeAt(0));
}

function pack(data) {
    // What the clients make of a text without any.
    if (data === undefined) return {text: ""};
    if (typeof data === "string") return {text: data};
    if (!(data instanceof ArrayBuffer)) throw new Error("expected an ArrayBuffer");
    const bytes = new Uint8Array(data);
    let text = "";
    // The engine bounds how many arguments a function may have.
    for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
    return {binary: btoa(text)};
}

function connect(url, options, first) {
    const socket = eio(url, options);
    const client = {socket, id: null, messages: [], happened: [], status: null, answer: null};
    socket.on("open", () => {
        client.id = socket.id;
        client.happened.push("open on " + socket.transport.name);
    });
    socket.on("message", data => client.messages.push(pack(data)));
    socket.on("upgrade", transport => client.happened.push("upgrade to " + transport.name));
    socket.on("close", reason => client.happened.push("close: " + reason));
    socket.on("error", error => {
        client.happened.push("error: " + error.message);
        client.status = error.description;
        client.answer = error.context && error.context.responseText;
    });
    // They wait until the connection is open, and go out before it moves to another transport.
    for (const each of first) socket.send(unpack(each));
    return clients.push(client) - 1;
}

async function ask(url, options) {
    try {
        const answer = await fetch(url, options);
        return {status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text()};
    } catch (error) {
        return {failed: error.name};
    }
}
"""


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is true on the server."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    deadline = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < deadline, f"waited for {what}"
        await deferLater(reactor, 0.01)


class Page:
    """
    The page that a browser shows, with what it has to say in JavaScript.

    The browser is asked from a thread, so that the servers of the test go on meanwhile.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    async def visit(self, url: str) -> None:
        await inThread(lambda: self.driver.get(url))

    async def openTab(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Go on in a tab of its own, until the function that is returned closes it."""

        def close() -> None:
            self.driver.close()
            self.driver.switch_to.window(before)

        before = self.driver.current_window_handle
        await inThread(lambda: self.driver.switch_to.new_window("tab"))
        return lambda: inThread(close)

    async def run(self, script: str, *arguments: object) -> Any:
        """What the body of a function returns; what becomes of a promise, where it returns one."""
        return await inThread(lambda: self.driver.execute_script(script, *arguments))

    async def ask(self, url: str, **options: object) -> dict[str, Any]:
        """The answer to a `fetch`: its status, the headers that the page may read, its body; or how that failed."""
        answer: dict[str, Any] = await self.run("return ask(...arguments)", url, options)
        return answer

    async def wait(self, condition: str, what: str, *arguments: object) -> None:
        """Wait until an expression is true."""
        from selenium.webdriver.support.wait import WebDriverWait

        await inThread(
            lambda: WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(
                lambda driver: driver.execute_script(f"return {condition}", *arguments), f"waited for {what}"
            )
        )

    async def cookies(self) -> list[dict[str, Any]]:
        """The cookies that the browser would send where the page is from, with their attributes."""
        cookies: list[dict[str, Any]] = await inThread(self.driver.get_cookies)
        return cookies

    async def errors(self) -> list[str]:
        """What the browser's console has said was wrong since it was last asked."""
        log = await inThread(lambda: self.driver.get_log("browser"))
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    async def connect(self, url: str, *first: Message, **options: object) -> Client:
        """A client of the page that connects to a server, and what it sends first."""
        number = await self.run("return connect(...arguments)", url, options, [pack(each) for each in first])
        return Client(self, number)


class Client:
    """A client on a page."""

    def __init__(self, page: Page, number: int) -> None:
        self.page = page
        self.expression = f"clients[{number}]"

    async def get(self, expression: str) -> Any:
        """The value of an expression in which `client` is what the page knows of the client."""
        return await self.page.run(f"const client = {self.expression}; return {expression}")

    async def send(self, *messages: Message) -> None:
        await self.page.run(
            f"for (const each of arguments[0]) {self.expression}.socket.send(unpack(each))",
            [pack(each) for each in messages],
        )

    async def received(self, count: int) -> list[Message]:
        """Wait until so many messages have come, and return all that have."""
        await self.page.wait(f"{self.expression}.messages.length >= {count}", f"{count} messages")
        return [unpack(each) for each in await self.get("client.messages")]

    async def saw(self, event: str) -> None:
        """Wait for something to happen."""
        await self.page.wait(f"{self.expression}.happened.includes(arguments[0])", event, event)

    async def happened(self) -> list[str]:
        """All that has happened, except messages."""
        happened: list[str] = await self.get("client.happened")
        return happened

    async def close(self) -> None:
        await self.page.run(f"{self.expression}.socket.close()")


@pytest.fixture(name="browser", scope="module")
def oneBrowser(chromium: Chromium) -> Iterator[Any]:
    """The driver of a browser that a module's tests use in turn."""
    with browse(chromium) as driver:
        driver.set_script_timeout(PATIENCE)
        yield driver


@pytest.fixture(name="page")
def freshPage(browser: Any) -> Iterator[Page]:
    """A page without cookies or errors of those before, and left in the end, so that its clients are gone."""
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.get_log("browser")
    yield Page(browser)
    browser.get("about:blank")


PageSite = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
def pageSite() -> Iterator[PageSite]:
    """
    A coroutine function that serves a page from a free port of loopback: `origin = await pageSite(client=5)`.

    The page is at the root of the origin, which is never that of a server of `serve`.
    """
    from twisted.internet import reactor

    require((INTEROP / "node_modules").is_dir(), "the packages of tests/interop (run `npm ci` there)")
    served = []

    async def start(client: int = 6, host: str = "127.0.0.1") -> str:
        bundle = INTEROP / "node_modules" / CLIENTS[client]
        root = Resource()
        # Not UTF-8, as old pages are: what comes from the server must not depend on it.
        root.putChild(b"", Data(HTML, "text/html; charset=iso-8859-1"))
        root.putChild(b"client.js", Data(bundle.read_bytes(), "text/javascript; charset=utf-8"))
        root.putChild(b"page.js", Data(SCRIPT.encode(), "text/javascript; charset=utf-8"))
        site = Site(root)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        served.append((site, port))
        return f"http://{host}:{port.getHost().port}"

    yield start
    for site, port in served:
        pytest_twisted.blockon(port.stopListening())
        # The browser keeps them for the next page.
        pytest_twisted.blockon(
            Deferred.fromCoroutine(within(site.closeConnections(), "the connections to the page's site to end"))
        )
