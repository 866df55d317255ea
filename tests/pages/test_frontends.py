"""The example for React and Vue, built as its README says, in a browser."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from ..kit.browser import PATIENCE, Chromium, browse
from ..kit.browser import chromium as chromium
from ..kit.examples import refusal, running
from ..kit.fronts import changed
from ..kit.tools import require

FOLDER = Path(__file__).parents[2] / "examples" / "frontends"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example in a folder of its own, with the packages of its pages."""
    require(shutil.which("npm") is not None, "npm")
    require((FOLDER / "node_modules").is_dir(), "the packages of the pages (run `npm ci` in examples/frontends)")
    folder = tmp_path / "frontends"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    return folder


def test_pagesMissing(tmp_path: Path) -> None:
    """Without the pages the program names the command that builds them."""
    line = refusal([sys.executable, shutil.copy(FOLDER / "frontends.py", tmp_path), "tcp:0"])
    assert line == f"The pages are missing: run `npm ci && npm run build` in {tmp_path}"


@pytest.mark.apart
@pytest.mark.browser
def test_board(chromium: Chromium, folder: Path) -> None:
    """A note added on either page appears on both, as text; both pages reconnect when the server was restarted."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True, timeout=300)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(folder / "frontends.py"), f"tcp:{port}:interface=127.0.0.1"]
    with browse(chromium) as driver:

        def until(condition: Any) -> None:
            WebDriverWait(driver, PATIENCE, 0.05).until(lambda _: condition())

        def find(selector: str) -> Any:
            return driver.find_element(By.CSS_SELECTOR, selector)

        def notes() -> list[str]:
            # In one step: a page may replace an element between two.
            return list(driver.execute_script("return [...document.querySelectorAll('li')].map(e => e.textContent)"))

        def write(text: str) -> None:
            until(lambda: find(".state").text.endswith("open"))
            find("input").send_keys(text)
            find("button").click()

        with running(command) as board:
            base = board.url.rpartition("/")[0]
            driver.get(f"{base}/react.html")
            react = driver.current_window_handle
            write("from <b>React</b>")
            until(lambda: notes() == ["from <b>React</b>"])
            driver.switch_to.new_window("window")
            driver.get(f"{base}/vue.html")
            vue = driver.current_window_handle
            until(lambda: notes() == ["from <b>React</b>"])
            write("from Vue")
            for window in (vue, react):
                driver.switch_to.window(window)
                until(lambda: notes() == ["from <b>React</b>", "from Vue"])
                assert find("input").get_attribute("value") == ""
            board.stop()
        for window in (vue, react):
            driver.switch_to.window(window)
            until(lambda: find(".state").text.endswith("connecting"))
            assert not find("button").is_enabled()
        with running(command) as board:
            for window in (vue, react):
                driver.switch_to.window(window)
                until(lambda: find(".state").text.endswith("open"))
                until(lambda: notes() == [])
            board.process.send_signal(signal.SIGINT)
            board.process.wait(PATIENCE)


@pytest.mark.node
def test_development(folder: Path, freePort: int) -> None:
    """The development server of the pages forwards sessions to the program."""
    (folder / "dist").mkdir()
    with running([sys.executable, str(folder / "frontends.py"), "tcp:0:interface=127.0.0.1"]) as board:
        configuration = folder / "vite.config.js"
        target = board.url.rpartition("/")[0]
        configuration.write_text(changed(configuration.read_text(), {"http://127.0.0.1:3000": target}))
        # Not by npm, which leaves the server running when it is killed.
        script = json.loads((folder / "package.json").read_text())["scripts"]["dev"]
        command = [str(folder / "node_modules" / ".bin" / script), "--port", str(freePort), "--host", "127.0.0.1"]
        with running(command, folder):
            with urlopen(f"http://127.0.0.1:{freePort}/react.html", timeout=PATIENCE) as response:
                assert b"/src/react.jsx" in response.read()
            address = f"http://127.0.0.1:{freePort}/engine.io/?EIO=4&transport=polling"
            with urlopen(address, timeout=PATIENCE) as response:
                assert response.read()[:8] == b'0{"sid":'
        board.stop()
