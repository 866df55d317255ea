"""Chromium, as the tests that need a browser start it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from .tools import require

# For each thing that the page is to do within a moment.
PATIENCE = 30


@attrs.frozen
class Chromium:
    """The browser and its driver, as Debian has them."""

    browser: str
    driver: str


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """Skip without the browser, its driver or Selenium."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    require(browser is not None, "Chromium")
    require(driver is not None, "Chromium's driver")
    require(importlib.util.find_spec("selenium") is not None, "Selenium")
    assert browser is not None
    assert driver is not None
    return Chromium(browser, driver)


def startedIn(home: str) -> list[int]:
    """The processes that have a folder as their home, whoever has become their parent."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        # One that is just ending can't be read; one of somebody else mustn't.
        with suppress(OSError):
            if f"HOME={home}".encode() in (each / "environ").read_bytes().split(b"\0"):
                found.append(int(each.name))
    return found


@contextmanager
def browse(chromium: Chromium) -> Iterator[Any]:
    """The driver of a new browser, all of whose files are in a folder of its own. Nothing of either is left."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        options = ChromeOptions()
        options.binary_location = chromium.browser
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in (
            "headless",
            "no-sandbox",
            "no-proxy-server",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1000,900",
            f"user-data-dir={home}/profile",
        ):
            options.add_argument(f"--{argument}")
        folders = {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        service = ChromeService(executable_path=chromium.driver, env={**os.environ, **folders})
        try:
            driver = Chrome(options=options, service=service)
            try:
                yield driver
            finally:
                driver.quit()
            left = goneFrom(home)
            assert left == [], f"the browser has left processes behind: {left}"
        finally:
            for process in startedIn(home):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            goneFrom(home)
    assert not os.path.exists(home)


def goneFrom(home: str) -> list[int]:
    """Wait until the processes of a home have ended; return those that don't."""
    deadline = time.monotonic() + PATIENCE
    while (left := startedIn(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


async def inThread(function: Callable[[], Any]) -> Any:
    """The result of a function that blocks, run in a thread that is gone afterwards."""
    from twisted.internet import reactor

    # Not the reactor's own pool: its threads stay until the reactor stops.
    pool = ThreadPool(minthreads=1, maxthreads=1)
    pool.start()
    try:
        return await deferToThreadPool(reactor, pool, function)
    finally:
        pool.stop()
