"""A real browser against the server: the page of the latency example in headless Chromium."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_twisted

from ..kit.browser import PATIENCE, Chromium, browse, inThread
from ..kit.browser import chromium as chromium
from ..kit.clients import Application, Session, within
from ..kit.tools import require

ROOT = Path(__file__).parents[2]
LATENCY = ROOT / "examples" / "latency"
SCREENSHOT = ROOT / "artifacts" / "latency.png"


pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # Its `serve` isn't called; with it the check for leaks waits until closed connections have left the reactor.
    pytest.mark.usefixtures("serve"),
    # twisted.web.static, of which the example serves its files, warns of Twisted's own code when it is imported.
    pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning"),
]


@pytest.fixture
def latency() -> ModuleType:
    """The module of the example, which is no package."""
    specification = importlib.util.spec_from_file_location("latency", LATENCY / "latency.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    require((LATENCY / "node_modules").is_dir(), "the client for the page (run `npm ci` in examples/latency)")
    return module


class Page:
    """What a user sees on the page of the example. All of this blocks."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def text(self, name: str) -> str:
        text: str = self.driver.find_element("id", name).text
        return text

    def samples(self) -> list[float]:
        samples: list[float] = self.driver.execute_script("return window.samples")
        return samples

    def colours(self) -> int:
        """How many colours the plot has: one, where it is blank."""
        colours: int = self.driver.execute_script(
            """
            const plot = document.getElementById("plot");
            const image = plot.getContext("2d").getImageData(0, 0, plot.width, plot.height);
            return new Set(new Uint32Array(image.data.buffer)).size;
            """
        )
        return colours

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(
            lambda driver: condition(), f"waited for {what}"
        )

    def waitForSamples(self, more: int) -> None:
        """Wait until there are that many more samples than now."""
        wanted = len(self.samples()) + more
        self.wait(lambda: len(self.samples()) >= wanted, "round trips")

    def errors(self) -> list[str]:
        """What the browser's console says was wrong, with the page or with what it loaded."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest_twisted.ensureDeferred
async def test_latency(chromium: Chromium, latency: ModuleType) -> None:
    """The page connects by polling, upgrades to WebSocket, and goes on measuring and drawing; nothing goes wrong."""

    def visit(url: str) -> None:
        with browse(chromium) as driver:
            page = Page(driver, url)
            page.wait(lambda: page.text("transport") == "websocket", "the upgrade")
            page.waitForSamples(10)
            assert any(character.isdigit() for character in page.text("upgraded"))
            assert any(character.isdigit() for character in page.text("rtt"))
            assert all(sample > 0 for sample in page.samples())
            page.wait(lambda: page.colours() > 1, "the plot")
            page.waitForSamples(10)
            assert page.text("transport") == "websocket"
            SCREENSHOT.parent.mkdir(exist_ok=True)
            assert driver.save_screenshot(str(SCREENSHOT))
            assert page.errors() == []

    (session,) = await visitLatency(latency, visit, sessions=1)
    assert session.happened == ["upgrading to websocket", "upgrade to websocket", "close: transport close"]
    assert session.socket.upgraded
    # The page has measured all the time.
    assert session.beforeUpgrade < len(session.messages)


@pytest_twisted.ensureDeferred
async def test_modes(chromium: Chromium, latency: ModuleType) -> None:
    """Told to use one transport only, the page leaves its session for a new one, stays on that transport, measures."""
    modes = ["polling", "websocket"]

    def visit(url: str) -> None:
        from selenium.webdriver.support.select import Select

        with browse(chromium) as driver:
            page = Page(driver, url)
            page.wait(lambda: page.text("transport") == "websocket", "the upgrade")
            for transport in modes:
                Select(driver.find_element("id", "mode")).select_by_value(transport)
                page.wait(lambda: page.text("upgraded") == "no upgrade", "the new connection")
                page.wait(lambda wanted=transport: page.text("transport") == wanted, "the transport")
                page.waitForSamples(10)
                assert page.text("transport") == transport
            assert page.errors() == []

    first, *others = await visitLatency(latency, visit, sessions=3)
    assert first.happened == ["upgrading to websocket", "upgrade to websocket", "close: transport close"]
    for transport, session in zip(modes, others, strict=True):
        # The last of them by the end of the browser. That isn't tried on polling: a browser that goes at a moment
        # without a poll leaves nothing that a server could notice before the ping timeout.
        assert session.happened == ["close: transport close"]
        assert session.socket.transport.name == transport
        assert len(session.messages) >= 10


async def visitLatency(latency: ModuleType, visit: Callable[[str], None], sessions: int) -> list[Session]:
    """Serve the example, have it visited, and return what its server saw, when all of it is over."""
    from twisted.internet import reactor

    server = latency.serve("tcp:0:interface=127.0.0.1", reactor)
    application = Application(echo=False)
    application(server)
    port = await server.listening
    try:
        await inThread(lambda: visit(f"http://127.0.0.1:{port.getHost().port}/"))
        seen = [await application.session() for _ in range(sessions)]
        for session in seen:
            await session.closed()
        assert server.clientsCount == 0
        return seen
    finally:
        await within(server.close(), "the server to close")
        await within(port.stopListening(), "the port to close")
