"""The documentation as a site: built without a warning, complete, of docstrings that mean something, and readable."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from zope.interface.interface import InterfaceClass

import engineio_twisted
from engineio_twisted import socketio, testing, workers
from engineio_twisted.socketio import testing as socketioTesting

from ..kit.browser import PATIENCE, Chromium, browse, chromium
from ..kit.markdown import blocksOf
from ..kit.tools import require

__all__ = ["chromium"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCREENSHOTS = ROOT / "artifacts" / "site"
PROGRAMS = ["sphinx", "myst_parser", "furo", "sphinx_copybutton"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of the site, built once, whichever processes run its tests."""
    for each in PROGRAMS:
        require(importlib.util.find_spec(each) is not None, "what requirements/docs.txt names")
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    said = folder / "sphinx.json"
    with open(folder / "sphinx.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-E"]
            arguments = ["-d", str(folder / "read"), str(DOCS), str(folder / "site")]
            result = subprocess.run([*build, *arguments], capture_output=True, text=True)
            said.write_text(json.dumps([result.returncode, result.stdout, result.stderr]))
    assert json.loads(said.read_text()) == [0, "", ""]
    return folder / "site"


# Complete


@pytest.mark.slow
def test_pages(site: Path) -> None:
    """Sphinx has nothing to say, and every page is found from the first one."""
    first = (site / "index.html").read_text()
    pages = [each.relative_to(DOCS) for kind in ("*.md", "*.rst") for each in DOCS.rglob(kind)]
    for page in pages:
        if "_build" not in page.parts and page != Path("index.md"):
            assert f'href="{page.with_suffix(".html")}"' in first, page


@pytest.mark.slow
def test_links(site: Path) -> None:
    """Each link from page to page leads to one, and to the only place on it that has this name."""
    texts = {each: each.read_text() for each in site.rglob("*.html")}
    ids = {page: Counter(re.findall(r'\sid="([^"]+)"', text)) for page, text in texts.items()}
    wrong = [(page.name, each) for page, found in ids.items() for each, count in found.items() if count > 1]
    for page, text in texts.items():
        for link in re.findall(r'\shref="([^"]*)"', text):
            path, _, place = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            if re.match(r"(https?|data|mailto):", link) or target.suffix != ".html":
                continue
            if target not in ids or (place and place not in ids[target]):
                wrong.append((page.relative_to(site).as_posix(), link))
    assert wrong == [], wrong


@pytest.mark.slow
def test_reference(site: Path) -> None:
    """The API reference has all that is public, and nothing that is private."""
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    names = {name for kind, items in inventory.data.items() if kind.startswith("py:") for name in items}
    packages = (engineio_twisted, testing, workers, socketio, socketioTesting)
    public = {f"{package.__name__}.{each}" for package in packages for each in package.__all__}
    assert public - names == set(), "a page of docs/api needs them"
    assert [each for each in names if "._" in each] == []
    # With its types, and those of Twisted lead to where that describes them.
    page = (site / "api" / "server.html").read_text()
    assert 'href="https://docs.twisted.org/en/stable/api/twisted.internet.interfaces.IStreamServerEndpoint.html' in page
    assert 'href="options.html#engineio_twisted.ServerOptions"' in page
    # Pages lead to what they name.
    assert 'href="api/session.html#engineio_twisted.Socket"' in (site / "sessions.html").read_text()
    assert 'href="api/session.html#engineio_twisted.Socket.request"' in (site / "protocol.html").read_text()
    # Both packages have one of this name.
    assert 'href="api/socketio.html#engineio_twisted.socketio.Socket"' in (site / "socketio.html").read_text()
    assert 'href="api/socketio.html#engineio_twisted.socketio.Socket"' not in (site / "sessions.html").read_text()
    assert (
        'href="api/socketio.html#engineio_twisted.socketio.Namespace.rooms"'
        in (site / "socketio-rooms.html").read_text()
    )
    # There, `listen` is an option.
    function = 'href="api/server.html#engineio_twisted.listen"'
    assert function in (site / "server.html").read_text()
    assert function not in (site / "options.html").read_text()


def test_firstProgram() -> None:
    """The first page and the README show the same program, and how to install what it needs."""

    def shown(page: Path) -> list[str]:
        blocks = blocksOf(page)
        programs = (next(each for each in blocks if each.language == language) for language in ("sh", "python"))
        return [each.text for each in programs]

    assert shown(DOCS / "index.md") == shown(ROOT / "README.md")


# Docstrings


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that knows what a name in a docstring means."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("_extensions.names")


def documented(names: Any) -> Iterator[tuple[str, Any, str, Any]]:
    """The docstrings of the package, each with where it is, the class it belongs to, and what has it."""
    for module, found in names.modules().items():
        if found.__doc__:
            yield module, None, found.__doc__, found
        for each in vars(found).values():
            isOwner = inspect.isclass(each) or isinstance(each, InterfaceClass)
            if getattr(each, "__module__", None) != module or not (isOwner or inspect.isfunction(each)):
                continue
            if each.__doc__:
                yield f"{module}.{each.__name__}", each if isOwner else None, each.__doc__, each
            members = each.namesAndDescriptions() if isinstance(each, InterfaceClass) else vars(each).items()
            for name, member in members if isOwner else ():
                member = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
                isOurs = inspect.isfunction(member) or isinstance(each, InterfaceClass)
                if isOurs and member.__doc__:
                    yield f"{module}.{each.__name__}.{name}", each, member.__doc__, member


def isAttribute(owner: type, name: str) -> bool:
    """Return whether objects of a class have an attribute: of the class, or set by its methods."""
    sources = [inspect.getsource(each) for each in owner.__mro__ if each.__module__.startswith("engineio_twisted")]
    return hasattr(owner, name) or any(re.search(rf"\bself\.{name}\b|^ +{name}: ", each, re.M) for each in sources)


def test_docstrings(names: Any) -> None:
    """Each name that a docstring links to means something; parameters and attributes that it describes are there."""
    epytext = importlib.import_module("_extensions.epytext")
    wrong, count = [], 0
    for where, owner, text, found in documented(names):
        module = found.__module__ if hasattr(found, "__module__") else where
        module = owner.__module__ if owner is not None else module
        links = epytext.links(text)
        count += len(links)
        wrong += [(where, each) for each in links if names.find(each, module, owner) is None]
        described = {each.name.lstrip("*") for each in epytext.split(text)[1] if each.kind == "param"}
        if inspect.isclass(found):
            wrong += [(where, each) for each in epytext.variables(text) if not isAttribute(found, each)]
        if described and (inspect.isfunction(found) or inspect.isclass(found)):
            wrong += [(where, each) for each in described - inspect.signature(found).parameters.keys()]
    assert wrong == [], wrong
    assert count > 100


def test_docstringsMeanNothing(names: Any) -> None:
    """A name that means nothing is found, and so is a field that nobody knows."""
    epytext = importlib.import_module("_extensions.epytext")
    assert names.find("Server", "engineio_twisted.session.socket") == "engineio_twisted.server.Server"
    assert names.find("send", "x", engineio_twisted.Socket) == "engineio_twisted.session.socket.Socket.send"
    assert names.find("Servr", "engineio_twisted.session.socket") is None
    assert names.find("Server.nothing", "engineio_twisted.session.socket") is None
    assert names.find("twisted.web.server.Nothing", "engineio_twisted.server") is None
    with pytest.raises(epytext.MarkupError, match="@parm"):
        epytext.split("Text.\n\n@parm name: a misspelt field")
    with pytest.raises(epytext.MarkupError, match="Servr"):
        epytext.asText("See L{Servr}.", lambda name: None)


def test_epytext(names: Any) -> None:
    """What docstrings use of epytext becomes reStructuredText, and nothing else in them is markup."""
    epytext = importlib.import_module("_extensions.epytext")
    text = "Takes C{**keywords}s, `a` and any_ *thing*; L{this\n one<that>}, docs/guides/limits.md:\n- one\n- two"
    assert "\n".join(epytext.asText(text, lambda name: f"found.{name}")) == (
        r"Takes ``**keywords``\ s, ``a`` and any\_ \*thing\*; :py:obj:`this one <found.that>`, :doc:`/guides/limits`:"
        "\n\n- one\n\n- two\n"
    )
    assert epytext.asText("Drawn:\n\n::\n\n    a | b", str) == ["Drawn:", "", "::", "", "    a | b", ""]
    before, (first, second) = epytext.split("Text.\n\n@param a: one,\n    more\n@return: what\n")
    assert (before, first) == ("Text.", epytext.Field("param", "a", "one,\nmore"))
    assert second == epytext.Field("return", "", "what")


# Readable

SHOWN = [
    "index",
    "first-steps",
    "options",
    "sessions",
    "testing",
    "clients",
    "performance",
    "protocol",
    "socketio",
    "architecture",
    "reference",
    "deployment/nginx",
    "api/server",
    "api/session",
    "api/socketio",
    "api/transports",
]
"""The pages of which there are screenshots, as they show all kinds of things."""

SETTINGS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]

LOOK = """
const width = document.documentElement.clientWidth;
const wrong = [];
function name(element) {
    return element.tagName.toLowerCase() + ": " + element.textContent.trim().slice(0, 60);
}
const whole = document.documentElement.scrollWidth;
if (whole > width) wrong.push(`the page is ${whole} wide`);
// What reaches beyond the window is in something that can be scrolled by itself.
function isReached(element) {
    const around = element.parentElement.closest("pre, .table-wrapper, .drawing");
    if (!around) return false;
    const isScrolled = ["auto", "scroll"].includes(getComputedStyle(around).overflowX);
    return isScrolled && around.getBoundingClientRect().right <= width + 1;
}
for (const each of document.querySelectorAll("article *:not(svg *)")) {
    const place = each.getBoundingClientRect();
    const isOutside = place.width > 1 && (place.right > width + 1 || place.left < -1);
    if (isOutside && !isReached(each)) wrong.push("cut: " + name(each));
}
// A word of a title is on one line.
for (const title of document.querySelectorAll("article :is(h1, h2, h3)")) {
    const walker = document.createTreeWalker(title, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        for (const word of walker.currentNode.data.matchAll(/\\w+/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, word.index);
            range.setEnd(walker.currentNode, word.index + word[0].length);
            const lines = new Set(Array.from(range.getClientRects(), each => each.top));
            if (lines.size > 1) wrong.push("broken: " + name(title));
        }
    }
}
// Texts can be told from what they are on: WCAG's contrast.
function parts(colour) {
    return colour.match(/[\\d.]+/g).map(Number);
}
function luminance(colour) {
    const [red, green, blue] = parts(colour).map(each => {
        each /= 255;
        return each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
const behind = luminance(getComputedStyle(document.body).backgroundColor);
for (const each of document.querySelectorAll(".drawing text")) {
    const here = luminance(getComputedStyle(each).fill);
    const contrast = (Math.max(here, behind) + 0.05) / (Math.min(here, behind) + 0.05);
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(1)} of ` + name(each));
}
for (const each of document.querySelectorAll("article img[src$=svg]")) wrong.push("keeps its colours: " + each.src);
for (const each of document.querySelectorAll("div.highlight")) {
    if (!each.querySelector("button.copybtn")) wrong.push("no button to copy: " + name(each));
}
for (const each of performance.getEntriesByType("resource")) {
    if (!each.name.startsWith("file:")) wrong.push("from another machine: " + each.name);
}
return [wrong, behind];
"""


@pytest.mark.browser
@pytest.mark.slow
def test_readable(site: Path, chromium: Chromium) -> None:
    """
    On a screen and on a phone, light and dark, every page fits, and keeps its titles, tables and drawings readable.

    The screenshots in the folder of artifacts are for people to look at.
    """
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    pages = [each.relative_to(site).with_suffix("").as_posix() for each in site.rglob("*.html")]
    assert set(SHOWN) - set(pages) == set()
    wrong: list[tuple[str, int, str, Any]] = []
    with browse(chromium) as driver:
        wait = WebDriverWait(driver, PATIENCE, poll_frequency=0.05)

        def setting(width: int, theme: str) -> None:
            isPhone = width < 600
            size = {"width": width, "height": 844 if isPhone else 900, "deviceScaleFactor": 1, "mobile": isPhone}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            feature = {"name": "prefers-color-scheme", "value": theme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

        for width, theme in SETTINGS:
            setting(width, theme)
            # Colours are the same on all pages of a kind, and what fits on a phone fits elsewhere.
            for page in pages if (width, theme) == (390, "light") else SHOWN:
                driver.get((site / f"{page}.html").as_uri())
                found, behind = driver.execute_script(LOOK)
                wrong += [(page, width, theme, each) for each in found]
                assert (behind < 0.5) == (theme == "dark"), page
                if page in SHOWN:
                    driver.save_screenshot(str(SCREENSHOTS / f"{page.replace('/', '-')}-{width}-{theme}.png"))
        assert wrong == [], wrong

        # What is copied is what is to be typed.
        setting(1280, "light")
        driver.get((site / "index.html").as_uri())
        driver.find_element(By.CSS_SELECTOR, "div.highlight-sh button.copybtn").click()
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "button.copybtn.success"), "waited for a copy")
        field = driver.execute_script("return document.body.appendChild(document.createElement('textarea'))")
        field.send_keys("\ue009v")
        assert field.get_property("value") == "pip install engineio_twisted"

        # One search finds pages and names of the API.
        driver.get((site / "search.html").as_uri() + "?q=pingInterval")
        for each in ("api/options.html#engineio_twisted.ServerOptions.pingInterval", "options.html"):
            result = f'#search-results a[href="{each}"]'
            wait.until(lambda _, result=result: driver.find_elements(By.CSS_SELECTOR, result), f"waited for {each}")
