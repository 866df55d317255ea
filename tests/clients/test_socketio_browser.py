"""The stock client's bundles in headless Chromium against a Socket.IO server, which serves the newest itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.web.resource import Resource
from twisted.web.static import Data, File

from engineio_twisted import Server, Site

from ..kit.clients import INTEROP, within
from ..kit.pages import Page
from ..kit.pages import chromium as chromium
from ..kit.pages import freshPage as freshPage
from ..kit.pages import oneBrowser as oneBrowser
from ..kit.socketio_story import (
    ALL,
    ENDED_OF_JAVASCRIPT,
    PATH,
    Story,
    assertNothingLeft,
    javaScriptClients,
    noticedByJavaScript,
)
from ..kit.tools import require
from ..kit.wire import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # Its `serve` isn't called; with it the check for leaks waits until closed connections have left the reactor.
    pytest.mark.usefixtures("serve"),
    # twisted.web.static warns of Twisted's own code when it is imported.
    pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning"),
]

MODULES = INTEROP / "node_modules"
NEW, OLD = "socket.io-client", "socket.io-client-2"

HTML = """<!DOCTYPE html>
<meta charset="utf-8">
<title>A page</title>
<link rel="icon" href="data:,">
<script src="/socket.io/BUNDLE"></script>
<script>const packages = {"socket.io-client": io};</script>
<script src="/old.js"></script>
<script>packages["socket.io-client-2"] = io;</script>
<script type="module">
import { manage, story } from "/story.mjs";

// As text: what is undefined is to be left out.
window.stories = async (clients) => JSON.stringify(await Promise.all(clients.map(({ name, client, options }) =>
    story(packages[client], location.origin, { name, ...options }))));

// Loses its connection once, and returns what came of it.
window.recover = (options) => new Promise((resolve) => {
    const { manager, join } = manage(packages["socket.io-client"], location.origin, options);
    const socket = join("/");
    const connects = [];
    const said = [];
    socket.on("connect", () => {
        connects.push([socket.id, socket.recovered]);
        if (connects.length === 1) manager.engine.close();
    });
    socket.on("said", (text) => {
        said.push(text);
        if (said.length === 2) {
            resolve({ connects, said });
            socket.disconnect();
        }
    });
});
</script>
<body></body>
"""


@pytest.fixture
def visited(page: Page) -> Callable[..., AbstractAsyncContextManager[Page]]:
    """
    Serve an application and a page from one port of loopback, and show that page: `async with visited(story):`.

    The newest client is a bundle that the application's server serves.
    """
    require(MODULES.is_dir(), "the packages of tests/interop (run `npm ci` there)")

    @asynccontextmanager
    async def visit(story: Story, bundle: str = "socket.io.js") -> AsyncIterator[Page]:
        from twisted.internet import reactor

        root = Resource()
        root.putChild(b"", Data(HTML.replace("BUNDLE", bundle).encode(), "text/html"))
        root.putChild(b"old.js", File(str(MODULES / OLD / "dist" / "socket.io.js")))
        root.putChild(b"story.mjs", Data((INTEROP / "socketio_story.mjs").read_bytes(), "text/javascript"))
        site = Site(root)
        server = Server(site, path=PATH, allowEIO3=True)
        story(server)
        port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        try:
            await page.visit(f"http://127.0.0.1:{port.getHost().port}/")
            await page.wait("!!window.stories", "the page")
            yield page
            # Of a session that the server ends, the client may poll once more while it closes it as well.
            assert [each for each in await page.errors() if "transport=polling" not in each or "400" not in each] == []
        finally:
            await within(port.stopListening(), "the port to close")
            await within(story.io.close(), "the server to close")
            await within(site.closeConnections(), "the connections to the page's site to end")

    return visit


@pytest.mark.parametrize(
    ("packages", "bundle", "options"),
    [
        pytest.param([NEW, OLD], "socket.io.js", {}, id="default"),
        pytest.param([NEW], "socket.io.msgpack.min.js", {"parser": "msgpack"}, id="msgpack", marks=pytest.mark.apart),
    ],
)
@pytest_twisted.ensureDeferred
async def test_story(visited: Any, packages: list[str], bundle: str, options: dict[str, Any]) -> None:
    """Clients of both protocols on one page, over every transport, notice all that they should."""
    story = Story(serveClient=MODULES / NEW / "dist", **options)
    those = javaScriptClients(packages)
    async with visited(story, bundle) as page:
        noticed = json.loads(await page.run("return stories(...arguments)", those))
        for client, each in zip(those, noticed, strict=True):
            assert each == noticedByJavaScript(client), client["name"]
        await eventually(lambda: len(story.ended) == len(ENDED_OF_JAVASCRIPT) * len(those), "the end of all sockets")
        assert Counter(story.ended) == Counter(ENDED_OF_JAVASCRIPT * len(those))
        await eventually(lambda: story.io.stats().clients == 0, "the end of all sessions")
        assertNothingLeft(story.io)


@pytest_twisted.ensureDeferred
async def test_recovery(visited: Any) -> None:
    """A page that loses its connection comes back as the same client, and gets what it has missed."""
    story = Story(serveClient=MODULES / NEW / "dist", connectionStateRecovery=True)

    async with visited(story) as page:

        @story.io.on("disconnect")
        def gone(socket: Any, reason: str, description: object) -> None:
            if reason == "transport close":
                story.io.to(ALL).emit("said", "missed")

        @story.io.on("connection")
        def back(socket: Any) -> None:
            if socket.recovered:
                socket.emit("said", "after")

        came = await page.run("return recover(...arguments)", {"transports": ["websocket"]})
    (first, isNotRecovered), (second, isRecovered) = came["connects"]
    assert (second, isNotRecovered, isRecovered) == (first, False, True)
    assert came["said"] == ["missed", "after"]
