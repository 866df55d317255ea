"""The examples of Socket.IO as a user starts them: in a browser, with Redis, with a bot; and their own tests."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
from twisted.internet.task import Clock

from ..kit.browser import Chromium, browse
from ..kit.browser import chromium as chromium
from ..kit.clients import pythonPath
from ..kit.examples import LOOPBACK, PATIENCE, WARNINGS, guarded, refusal, running
from ..kit.fronts import changed
from ..kit.markdown import blocksOf
from ..kit.redis import redisServers
from ..kit.tools import require

EXAMPLES = Path(__file__).parents[2] / "examples"
CHAT = EXAMPLES / "socketio-chat"
EMITTER = EXAMPLES / "socketio-emitter"
BOT = EXAMPLES / "socketio-bot" / "bot.py"
PROGRAMS = {"rooms": CHAT / "rooms.py", "headlines": EMITTER / "headlines.py"}

pytestmark = pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning")


def command(program: Path, *arguments: str) -> list[str]:
    """The command line of a program whose page can be served."""
    folder = program.parent
    if folder != BOT.parent:
        require((folder / "node_modules").is_dir(), f"the client for the page (run `npm ci` in {folder})")
    return [sys.executable, str(program), *arguments]


def load(path: Path) -> ModuleType:
    """A program as a module; the folders are no packages."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# The programs


def fetch(url: str, data: str | None = None) -> str:
    """The body of an answer, which must be a success."""
    with urlopen(url, None if data is None else data.encode(), timeout=PATIENCE) as response:
        body: str = response.read().decode()
    return body


@pytest.mark.parametrize("name", PROGRAMS)
def test_runs(name: str) -> None:
    """The program prints an address. All that its page names is there, and sessions; an address is taken once."""
    with running(command(PROGRAMS[name], LOOPBACK)) as example:
        page = fetch(example.url)
        assert f"<title>{name.title()}</title>" in page
        named = [each for each in re.findall(r'(?:src|href)="([^"]+)"', page) if not each.startswith("data:")]
        assert sorted(named) == [f"{name}.css", f"{name}.js", "socket.io/socket.io.min.js"]
        for each in named:
            assert fetch(urljoin(example.url, each))
        with pytest.raises(HTTPError) as missing:
            fetch(urljoin(example.url, "nothing"))
        missing.value.close()
        assert fetch(urljoin(example.url, "/socket.io/?EIO=4&transport=polling")).startswith('0{"sid":')
        port = example.url.rstrip("/").rpartition(":")[2]
        taken = refusal(command(PROGRAMS[name], f"tcp:{port}:interface=127.0.0.1"))
        assert f"127.0.0.1:{port}" in taken
        example.stop()


@pytest.mark.parametrize("name", PROGRAMS)
def test_refusals(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't an endpoint is one line, and so is what to do without the client for the page."""
    program = load(PROGRAMS[name])
    monkeypatch.setattr(program.task, "react", lambda run, arguments: run(Clock(), *arguments).send(None))
    monkeypatch.setattr(program, "CLIENT", tmp_path)
    with pytest.raises(SystemExit, match="pigeon"):
        program.main(["pigeon:post"])
    monkeypatch.setattr(program, "CLIENT", tmp_path / "dist")
    with pytest.raises(SystemExit, match=r"^The client for the page is missing: run `npm ci` in .*/socketio-"):
        program.main([])


# The chat's own tests

TESTS = {
    line.split()[2]: line.split()[2:]
    for block in blocksOf(CHAT / "README.md")
    if block.isCommands
    for line in block.text.splitlines()
    if line.startswith("python -m ")
}
"""What the README says to type, by its module."""

FAULTS = {
    "any name will do": (
        "test_names",
        'others = [each for each in io.sockets.values() if folded(each.data["name"]) == folded(name)]',
        "others: list[Socket] = []",
    ),
    "names differ by case": ("test_names", 'unicodedata.normalize("NFKC", name).casefold()', "name"),
    "what can't be seen is a name": ("test_names", "if not cleaned.isprintable():", "if False:"),
    "any key will do": ("test_comeBack", "return secrets.compare_digest(", "return True or secrets.compare_digest("),
    "no key is a key": ("test_noKey", "or not known:", "or False:"),
    "the old connection stays": ("test_comeBack", "            other.disconnect()", "            pass"),
    "one too many": ("test_full", ">= PEOPLE_LIMIT", "> PEOPLE_LIMIT"),
    "one room too many": ("test_roomNames", "> ROOMS_EACH", "> ROOMS_EACH + 1"),
    "rooms stay": ("test_rooms", "            del rooms[place]\n", ""),
    "nobody is told of rooms": ("test_rooms", 'io.emit("rooms", roomNames())\n            socket.to', "socket.to"),
    "joined twice": (
        "test_join",
        "        if place not in socket.rooms:\n            # Its",
        "        if True:\n            # Its",
    ),
    "a room may be an id": ("test_idsAreNoRooms", 'return f"room {folded(', 'return f"{('),
    "who isn't there speaks": (
        "test_badMessages",
        "if place not in socket.rooms:\n            raise",
        "if place not in rooms:\n            raise",
    ),
    "the speaker is told": ("test_say", 'socket.to(place).emit("said"', 'io.to(place).emit("said"'),
    "nothing is kept for newcomers": ("test_join", "here.history.append(said)", "pass"),
    "all is kept": ("test_history", "deque(maxlen=HISTORY_LIMIT)", "deque()"),
    "times don't grow": ("test_say", "lastTime + 1", "lastTime"),
    "typing is kept for later": ("test_typing", "socket.to(place).volatile.emit", "socket.to(place).emit"),
    "who is gone stays": ("test_lostUnnoticed", "for place in socket.rooms & rooms.keys():", "for place in ():"),
    "nothing is refused in words": ("test_badMessages", "except Refused as refused:", "except KeyError as refused:"),
}
"""Faults of the chat: the test that finds one, what is right, and what is in its place."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("rooms.py", "test_rooms.py"):
        shutil.copy(CHAT / name, tmp_path)
    return tmp_path


def test_pytest(folder: Path) -> None:
    """Under pytest: no socket, no sleep, no warning."""
    status, said = guarded(folder, *TESTS["pytest"], "-q", *WARNINGS, "-p", "no:cacheprovider")
    assert status == 0, said
    assert "48 passed" in said
    assert "warning" not in said


def test_trial(folder: Path) -> None:
    """And under trial."""
    status, said = guarded(folder, *TESTS["twisted.trial"])
    assert status == 0, said
    assert "PASSED (successes=48)" in said


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch, loggedErrors: list[dict[str, Any]]) -> None:
    """A fault in the chat is found by the test of what it breaks."""
    text = (folder / "rooms.py").read_text()
    test, right, wrong = FAULTS[fault]
    assert text.count(right) == 1
    (folder / "rooms.py").write_text(text.replace(right, wrong))
    monkeypatch.setitem(sys.modules, "rooms", load(folder / "rooms.py"))
    tests = load(folder / "test_rooms.py")
    result = unittest.TestResult()
    tests.RoomsTests(test).run(result)
    assert result.testsRun == 1
    assert not result.wasSuccessful()
    # What the chat itself logs with some of them.
    loggedErrors.clear()


# The bot


class Talker:
    """A person in the chat who polls, one request after the other. All of this blocks."""

    def __init__(self, url: str, name: str) -> None:
        self.url = urljoin(url, "/socket.io/?EIO=4&transport=polling")
        self.url += "&sid=" + json.loads(fetch(self.url)[1:])["sid"]
        self._came: list[list[Any]] = []
        fetch(self.url, "40" + json.dumps({"name": name}))
        self.next("welcome")

    def emit(self, *event: str) -> None:
        fetch(self.url, "42" + json.dumps(event))

    def next(self, name: str) -> list[Any]:
        """The arguments of the next event of a name; those before it are skipped."""
        while True:
            while self._came:
                came, *arguments = self._came.pop(0)
                if came == name:
                    return arguments
            for packet in fetch(self.url).split("\x1e"):
                if packet == "2":
                    fetch(self.url, "3")
                elif packet.startswith("42"):
                    self._came.append(json.loads(packet[2:]))


@pytest.mark.parametrize("text", ["hello", "help", "! help", "I know !help", ""])
def test_botIsSilent(text: str) -> None:
    """What is no command isn't answered, its own answers among it."""
    bot = load(BOT)
    assert bot.answerTo(text, {"Ada"}) is None
    assert bot.answerTo(bot.HELP, {"Ada"}) is None


def test_botRolls() -> None:
    """A roll is one of the sides; what isn't a number of sides is said."""
    bot = load(BOT)
    assert {bot.answerTo("!roll", set()) for _ in range(200)} == {"1", "2", "3", "4", "5", "6"}
    assert bot.answerTo("!roll 1", set()) == "1"
    for sides in ("0", "1001", "9" * 5000, "-1", "six", "1 2"):
        assert "from 1 to 1000" in bot.answerTo(f"!roll {sides}", set())


def test_bot(freePort: int) -> None:
    """The bot answers in its room, and does so after a restart of the chat; a second one is refused; Ctrl-C ends it."""
    chat = command(CHAT / "rooms.py", f"tcp:{freePort}:interface=127.0.0.1")
    with running(chat) as first, running(command(BOT, first.url, "Tea")) as bot:
        assert bot.printed.startswith("Bot: answers in Tea at ")
        assert "Somebody here is called Bot already." in refusal(command(BOT, first.url))
        ada = Talker(first.url, "Ada")
        ada.emit("join", "tea")
        ada.emit("say", "tea", "!who")
        room, said = ada.next("said")
        assert (room, said["name"], said["text"]) == ("Tea", "Bot", "2 here: Ada, Bot")
        first.kill()
        with running(chat) as second:
            grace = Talker(second.url, "Grace")
            grace.emit("join", "Tea")
            while grace.next("joined") != ["Tea", "Bot"]:
                pass
            grace.emit("say", "Tea", "!help")
            assert grace.next("said")[1]["text"].startswith("I know !help")
            bot.stop()
            assert grace.next("left") == ["Tea", "Bot"]
            second.stop()


# In a browser


class Window:
    """A window of the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        if driver.current_url != "data:,":
            driver.switch_to.new_window("window")
        self._driver, self._handle = driver, driver.current_window_handle
        driver.get(url)

    @property
    def driver(self) -> Any:
        self._driver.switch_to.window(self._handle)
        return self._driver

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def enter(self, selector: str, text: str) -> None:
        """Type into a field, and press Enter."""
        self.find(selector).send_keys(text + "\n")

    def texts(self, selector: str) -> list[str]:
        # In one step: a page may replace an element between two.
        found: list[str] = self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)", selector
        )
        return found

    def shows(self, selector: str, *texts: str) -> None:
        """Wait until that are the texts of some elements."""
        self.wait(lambda: self.texts(selector) == [*texts], lambda: f"{selector}: {texts}, not {self.texts(selector)}")

    def typesUntil(self, selector: str, other: Window, notice: str, text: str) -> str:
        """
        Type into a field until another window shows that; return what is in the field then.

        A notice is volatile, so that one may be lost, such as while a connection moves to WebSocket.
        """

        def isShown() -> bool:
            self.find(selector).send_keys("x")
            return other.texts(notice) == [text]

        self.wait(isShown, lambda: f"{notice}: {text}")
        typed: str = self.find(selector).get_property("value")
        return typed

    def wait(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.wait import WebDriverWait

        try:
            WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())
        except TimeoutException:
            pytest.fail(what())

    def errors(self) -> list[str]:
        """
        What the browser's console says was wrong, but with requests of sessions.

        A client that was refused closes its session at once, also while it polls or connects by WebSocket.
        """
        messages = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [each for each in messages if "/socket.io/?EIO=4&transport=" not in each]


@pytest.fixture
def driver(chromium: Chromium) -> Iterator[Any]:
    with browse(chromium) as driver:
        yield driver


MARKUP = "<b>Ada</b> <img src=x onerror='document.title = 1'>"


@pytest.mark.browser
@pytest.mark.slow
def test_talk(driver: Any, freePort: int) -> None:
    """Two people talk in rooms, see who is there and who types, are refused with reasons, and survive a restart."""
    chat = command(CHAT / "rooms.py", f"tcp:{freePort}:interface=127.0.0.1")
    with running(chat) as first:
        ada, grace = Window(driver, first.url), Window(driver, first.url)
        ada.enter("#name", "Ada")
        ada.shows("#members .name", "Ada")
        grace.enter("#name", "ada")
        grace.shows("#door-error", "Somebody here is called Ada already.")
        grace.find("#name").clear()
        grace.enter("#name", "  Grace ")
        for each in (ada, grace):
            each.shows("#members .name", "Ada", "Grace")
        ada.shows(".notice", "Grace joined")

        # Typing is shown, and no longer when the message is there.
        typed = ada.typesUntil("#text", grace, "#typing", "Ada is typing…") + MARKUP
        ada.enter("#text", MARKUP)
        for each in (ada, grace):
            each.shows(".said .text", typed)
            each.shows(".said .name", "Ada")
            each.wait(lambda each=each: re.search(r"\d:\d\d", each.texts(".when")[0]) is not None, lambda: "the time")
            assert each.driver.title == "Rooms"
        grace.shows("#typing", "")

        # Another room, and what is unread in the first one.
        grace.enter("#room", "Tea")
        for each in (ada, grace):
            each.shows("#rooms .name", "Lobby", "Tea")
        grace.shows("#members .name", "Grace")
        ada.enter("#text", "where are you?")
        grace.shows(".unread", "1")
        grace.find("#rooms .mine").click()
        grace.shows(".said .text", typed, "where are you?")
        grace.shows(".unread")
        grace.enter("#text", "x" * 1001)
        grace.shows("#error", "A message has at most 1000 characters; this has 1001.")
        grace.shows(".failed .when", "not delivered")
        assert grace.find("#text").get_property("value") == "x" * 1001
        grace.find("#text").clear()
        grace.find("#leave-room").click()
        grace.shows("#title", "Tea")
        ada.shows("#members .name", "Ada")
        for each in (ada, grace):
            assert each.errors() == []
        first.kill()

    for each in (ada, grace):
        each.wait(lambda each=each: "again" in each.texts("#state")[0], lambda: "the loss to be shown")
    with running(chat) as second:
        for each in (ada, grace):
            each.shows("#state", "connected")
        # What was shown stays, and each is in the room it was in.
        ada.shows("#title", "Lobby")
        ada.shows("#members .name", "Ada")
        ada.shows(".said .text", typed, "where are you?")
        grace.shows("#title", "Tea")
        ada.find("#rooms li:last-child button").click()
        ada.shows("#members .name", "Ada", "Grace")
        grace.enter("#text", "back")
        ada.shows(".said .text", "back")
        grace.find("#leave").click()
        ada.shows("#members .name", "Ada")
        assert grace.find("#door").is_displayed()
        second.stop()


@pytest.mark.apart
@pytest.mark.browser
def test_react(driver: Any, tmp_path: Path, freePort: int) -> None:
    """The page in React is built; there too one talks with the others. The development server forwards sessions."""
    require(shutil.which("npm") is not None, "npm")
    folder = tmp_path / "socketio-chat"
    shutil.copytree(CHAT, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(CHAT / "node_modules")
    program = command(folder / "rooms.py", LOOPBACK)
    scripts = json.loads((folder / "package.json").read_text())["scripts"]
    subprocess.run(["npm", "run", "build"], cwd=folder, check=True, capture_output=True, timeout=300)
    with running(program) as chat:
        ada, react = Window(driver, chat.url), Window(driver, urljoin(chat.url, "react/"))
        ada.enter("#name", "Ada")
        ada.shows("#members .name", "Ada")
        ada.enter("#text", "hello")
        react.enter("input", "Ada")
        react.shows(".error", "Somebody here is called Ada already.")
        react.enter("input", "Grace")
        react.shows("h1", "Lobby")
        react.shows(".members", "Ada, Grace")
        react.shows("li .text", "hello")
        ada.shows("#members .name", "Ada", "Grace")
        typed = react.typesUntil("input[aria-label=Message]", ada, "#typing", "Grace is typing…") + MARKUP
        react.enter("input[aria-label=Message]", MARKUP)
        for each, selector in ((ada, ".said .text"), (react, "li .text")):
            each.shows(selector, "hello", typed)
        react.wait(lambda: re.search(r"\d:\d\d", react.texts("small")[1]) is not None, lambda: "the acknowledgement")
        ada.typesUntil("#text", react, ".typing", "Ada: typing…")
        react.enter("input[aria-label='Another room']", "Tea")
        react.shows("h1", "Tea")
        react.shows(".members", "Grace")
        ada.shows("#members .name", "Ada")
        assert [*ada.errors(), *react.errors()] == []

        configuration = folder / "react" / "vite.config.js"
        target = chat.url.rstrip("/")
        configuration.write_text(changed(configuration.read_text(), {"http://127.0.0.1:3000": target}))
        # Not by npm, which leaves the server running when it is killed.
        vite, *arguments = scripts["dev"].split()
        development = [str(folder / "node_modules" / ".bin" / vite), *arguments, "--port", str(freePort)]
        with running([*development, "--host", "127.0.0.1"], folder):
            here = f"http://127.0.0.1:{freePort}"
            assert "main.jsx" in fetch(f"{here}/")
            assert fetch(f"{here}/socket.io/?EIO=4&transport=polling").startswith('0{"sid":')
        # The session that is left there ends with the program.
        chat.stop()


@pytest.mark.browser
@pytest.mark.slow
def test_publish(driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What either program publishes reaches the readers of the topic, whichever process serves them."""

    def publish(program: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(EMITTER / program), *arguments],
            env={**os.environ, **pythonPath()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(process: subprocess.Popen[str]) -> str:
        with process:
            try:
                return process.communicate(timeout=PATIENCE)[0]
            finally:
                process.kill()

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{port}")
    without = publish("publish.py", "sport", "unheard")
    with redisServers(tmp_path) as start:
        monkeypatch.setenv("REDIS_URL", start().url)
        program = command(PROGRAMS["headlines"], LOOPBACK)
        with running(program) as one, running(program) as other:
            ada, grace = Window(driver, one.url), Window(driver, other.url)
            for each, topics in ((ada, (1, 2)), (grace, (2, 3))):
                each.shows("label", " science", " sport", " weather")
                for number in topics:
                    box = each.find(f"label:nth-child({number}) input")
                    box.click()
                    each.wait(box.is_enabled, lambda: "the acknowledgement")
            markup = "A <b>draw</b>"
            assert said(publish("publish.py", "sport", markup)) == ""
            for each in (ada, grace):
                each.shows("#headlines li", f"sport{markup}")
            assert said(publish("publish_manager.py", "science", "Ice on Mars")) == ""
            ada.shows("#headlines li", "scienceIce on Mars", f"sport{markup}")
            assert said(publish("publish_manager.py", "weather", "Rain")) == ""
            grace.shows("#headlines li", "weatherRain", f"sport{markup}")
            assert [*ada.errors(), *grace.errors()] == []
            assert "usage" in said(publish("publish.py", "sport"))
            for each in (one, other):
                each.process.send_signal(signal.SIGINT)
            for each in (one, other):
                each.process.wait(PATIENCE)
                assert each.process.returncode == 0
    told = said(without)
    assert without.returncode == 1
    assert told == f"no Redis at redis://127.0.0.1:{port}\n"
