"""The examples, started as a user starts them, and the chat in a browser; the room of the chat needs neither."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import attrs
import pytest
import pytest_twisted
from twisted.internet.task import Clock

from ..kit.browser import Chromium, browse
from ..kit.browser import chromium as chromium
from ..kit.clients import INTEROP, within
from ..kit.examples import LOOPBACK, PATIENCE, Running, refusal, running
from ..kit.markdown import blocksOf
from ..kit.tools import require

EXAMPLES = Path(__file__).parents[2] / "examples"

# twisted.web.static, of which the examples serve their files, warns of Twisted's own code when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning")


def load(name: str) -> ModuleType:
    """An example as a module; the folders are no packages."""
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def requirePage(name: str) -> None:
    """Skip where the client that an example's page loads isn't installed."""
    require((EXAMPLES / name / "node_modules").is_dir(), f"the client for the page (run `npm ci` in examples/{name})")


# Started as a user starts them


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name / f"{name}.py"), *arguments]


def fetch(url: str, data: str | None = None) -> str:
    """The body of an answer, which must be a success."""
    request = Request(url, None if data is None else data.encode())
    with urlopen(request, timeout=PATIENCE) as response:
        body: str = response.read().decode()
    return body


class Polling:
    """A session by polling, one request after the other. All of this blocks."""

    def __init__(self, url: str) -> None:
        self.url = urljoin(url, "/engine.io/?EIO=4&transport=polling")
        self.url += "&sid=" + json.loads(fetch(self.url)[1:])["sid"]

    def send(self, packet: str) -> None:
        assert fetch(self.url, packet) == "ok"

    def receive(self) -> str:
        return fetch(self.url)


def test_echoRuns() -> None:
    """The echo answers with what it was sent, text and binary, and ends on Ctrl-C although a session is open."""
    with running(command("echo", LOOPBACK)) as echo:
        session = Polling(echo.url)
        session.send("4hello")
        assert session.receive() == "4hello"
        session.send("bAAEC\x1e4")
        assert session.receive() == "bAAEC\x1e4"
        echo.stop()


@pytest.mark.parametrize("name", ["chat", "latency"])
def test_pageRuns(name: str) -> None:
    """The program prints an address; there is its page, and a session; and it ends on Ctrl-C."""
    requirePage(name)
    with running(command(name, LOOPBACK)) as example:
        assert f"<title>{name.title()}</title>" in fetch(example.url)
        assert Polling(example.url)
        example.stop()


def test_chatOverTheNetwork() -> None:
    """The room is joined to real sessions: two of them talk, and the end of one is news to the other."""
    requirePage("chat")
    with running(command("chat", LOOPBACK)) as example:
        ada, grace = Polling(example.url), Polling(example.url)
        ada.send('4{"type":"join","name":"Ada"}')
        assert '"welcome"' in ada.receive()
        grace.send('4{"type":"join","name":"Grace"}\x1e4{"type":"say","text":"hello"}\x1e4{\x1e1')
        told = [json.loads(packet[1:]) for packet in ada.receive().split("\x1e")]
        assert [each["type"] for each in told] == ["joined", "said", "left"]
        example.stop()


LINES = r"engineio:tcp\:0\:interface=127.0.0.1:text=true:drainTimeout=1000"


def test_linesRuns(freePort: int) -> None:
    """Who comes by TCP and who comes by a session are in one room, and learn of each other."""
    # TCP first: what is printed last, and waited for, is the address of sessions.
    with running(command("lines", f"tcp:{freePort}:interface=127.0.0.1", LINES)) as lines:
        session = Polling(lines.url)
        assert session.receive() == "4What is your name?\n"
        with socket.create_connection(("127.0.0.1", freePort), PATIENCE) as telnet, telnet.makefile("rb") as answers:
            telnet.sendall(b"Grace\r\n")
            assert answers.readline() == b"What is your name?\n"
            assert answers.readline() == b"Hello Grace. Here are: nobody\n"
            session.send("4Grace\nAda\nhel\x1e4lo\n")
            assert answers.readline() == b"* Ada comes in\n"
            assert answers.readline() == b"Ada: hello\n"
            told = session.receive().split("\x1e")
            assert told[0].startswith("4That won't do")
            assert told[1:] == ["4Hello Ada. Here are: Grace\n"]
            telnet.sendall(b"hello yourself\n")
            assert session.receive() == "4Grace: hello yourself\n"
        assert session.receive() == "4* Grace leaves\n"
        lines.stop()


def test_linesOfNode(node: str, tmp_path: Path) -> None:
    """The program in the README takes part, and leaves when its input ends."""
    (program,) = [each.text for each in blocksOf(EXAMPLES / "lines" / "README.md") if each.language == "js"]
    with running(command("lines", LINES)) as lines:
        # Node.js looks for packages where a file is.
        (tmp_path / "node_modules").symlink_to(INTEROP / "node_modules")
        file = tmp_path / "lines.mjs"
        file.write_text(program.replace("ws://127.0.0.1:3000", lines.url.replace("http", "ws")))
        session = Polling(lines.url)
        session.send("4Ada\n")
        typed = "Grace\nhello\n"
        with subprocess.Popen([node, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                assert process.stdout.readline() == "What is your name?\n"
                process.stdin.write(typed)
                process.stdin.flush()
                assert process.stdout.readline() == "Hello Grace. Here are: Ada\n"
                told = ""
                while "Grace: hello\n" not in told:
                    told += session.receive()
                session.send("4hello Grace\n")
                assert process.stdout.readline() == "Ada: hello Grace\n"
                process.stdin.close()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
        assert "* Grace leaves" in session.receive()
        lines.stop()


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["", "workers"])
def test_echoUnderTwistd(more: list[str]) -> None:
    """The echo runs under twistd as its README says, in one process and in two."""
    assert not more or f"`{' '.join(more)}`" in (EXAMPLES / "echo" / "README.md").read_text()
    twistd = Path(sys.executable).with_name("twistd")
    require(twistd.exists(), "twistd")
    arguments = ["-n", "--pidfile=", "engineio", "--app", "echo:application", "--listen", LOOPBACK, *more]
    with running([str(twistd), *arguments], EXAMPLES / "echo") as echo:
        session = Polling(echo.url)
        session.send("4hello")
        assert session.receive() == "4hello"
        # Stopped in order, twistd ends itself by the signal that it got.
        echo.stop(-signal.SIGINT)


@pytest.mark.parametrize("name", ["chat", "latency"])
def test_clientMissing(name: str, tmp_path: Path) -> None:
    """Without the client for the page the program says what to do where, and doesn't start."""
    program = shutil.copy(EXAMPLES / name / f"{name}.py", tmp_path)
    line = refusal([sys.executable, program, LOOPBACK])
    assert "npm ci" in line
    assert str(tmp_path) in line


@pytest.mark.parametrize("name", ["echo", "lines", "chat", "latency"])
def test_addressTaken(name: str) -> None:
    """An address that is taken is one line, not a traceback."""
    if name in ("chat", "latency"):
        requirePage(name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in refusal(command(name, f"tcp:{port}:interface=127.0.0.1"))


@pytest.mark.parametrize("name", ["echo", "lines", "chat", "latency"])
def test_badEndpoint(name: str) -> None:
    """What isn't the description of an endpoint is one line too."""
    if name in ("chat", "latency"):
        requirePage(name)
    assert "pigeon" in refusal(command(name, "pigeon:post"))


# The pages


class References(HTMLParser):
    """The addresses that a page names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href") and value]


@pytest.mark.usefixtures("serve")
@pytest.mark.parametrize("name", ["chat", "latency"])
@pytest_twisted.ensureDeferred
async def test_pageIsComplete(name: str) -> None:
    """All that the page names is there, an icon too, and nothing comes from elsewhere; sessions share its port."""
    import treq
    from twisted.internet import reactor

    requirePage(name)
    server = load(name).serve(LOOPBACK, reactor)
    port = await server.listening
    here = f"http://127.0.0.1:{port.getHost().port}/"

    async def get(url: str) -> tuple[int, str]:
        response = await within(treq.get(url, persistent=False), url)
        return response.code, await within(response.text(), url)

    try:
        code, page = await get(here)
        assert code == 200
        parser = References()
        parser.feed(page)
        inline = [each for each in parser.found if each.startswith("data:")]
        files = [each for each in parser.found if each not in inline]
        assert [each[:15] for each in inline] == ["data:image/svg+"]
        assert "engine.io-client/engine.io.min.js" in files
        assert {Path(each).suffix for each in files} == {".js", ".css"}
        for each in files:
            assert urljoin(here, each).startswith(here)
            code, content = await get(urljoin(here, each))
            assert (each, code) == (each, 200)
            assert content
        assert (await get(here + "nothing"))[0] == 404
        code, handshake = await get(here + "engine.io/?EIO=4&transport=polling")
        assert code == 200
        assert list(server.clients) == [json.loads(handshake[1:])["sid"]]
    finally:
        await within(server.close(), "the server to close")
        await within(port.stopListening(), "the port to close")


# The room, without a network


@pytest.fixture
def chat() -> ModuleType:
    return load("chat")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_000)
    return clock


@pytest.fixture
def room(chat: ModuleType, clock: Clock) -> Any:
    return chat.Room(clock.seconds)


class Guest:
    """A visitor of the room, and what it was told."""

    def __init__(self, chat: ModuleType, room: Any) -> None:
        self._told: list[dict[str, Any]] = []
        self.visitor = chat.Visitor(room, lambda text: self._told.append(json.loads(text)))

    def ask(self, **message: object) -> list[dict[str, Any]]:
        """Send a message, and return what came back."""
        return self.askRaw(json.dumps(message))

    def askRaw(self, data: str | bytes) -> list[dict[str, Any]]:
        self.told()
        self.visitor.receive(data)
        return self.told()

    def refused(self, **message: object) -> str:
        """Send a message that is refused, and return the code; the sentence for the reader must be one."""
        (error,) = self.ask(**message)
        assert set(error) == {"type", "code", "message"}
        assert error["type"] == "error"
        assert error["message"].endswith(".")
        code: str = error["code"]
        return code

    def told(self) -> list[dict[str, Any]]:
        """What was said to this guest since the last call."""
        told, self._told[:] = [*self._told], []
        return told


@pytest.fixture
def guest(chat: ModuleType, room: Any) -> Callable[[str | None], Guest]:
    """A function that makes a guest, and lets it join where a name is given."""

    def enter(name: str | None = None) -> Guest:
        guest = Guest(chat, room)
        if name is not None:
            (welcome,) = guest.ask(type="join", name=name)
            assert welcome["type"] == "welcome"
        return guest

    return enter


Enter = Callable[..., Guest]


def test_join(guest: Enter) -> None:
    """A newcomer learns who is here, themselves included; the others learn of the newcomer."""
    ada = guest("Ada")
    (welcome,) = (grace := guest()).ask(type="join", name="Grace")
    key = welcome.pop("key")
    assert len(key) >= 20
    assert welcome == {"type": "welcome", "name": "Grace", "members": ["Ada", "Grace"], "history": []}
    assert ada.told() == [{"type": "joined", "name": "Grace", "time": 1_000_001}]
    assert grace.told() == []


def test_say(guest: Enter, clock: Clock) -> None:
    """What one says reaches all with the name and the time, and nobody who hasn't joined."""
    ada, grace, outside = guest("Ada"), guest("Grace"), guest()
    ada.told()
    clock.advance(5)
    said = {"type": "said", "name": "Ada", "text": "hello", "time": 1_005_000}
    assert ada.ask(type="say", text=" hello\n") == [said]
    assert grace.told() == [said]
    assert outside.told() == []


def test_timesGrow(guest: Enter) -> None:
    """No two messages have the same time, so that it tells a page which ones it has."""
    ada = guest("Ada")
    times = [ada.ask(type="say", text="hello")[0]["time"] for _ in range(3)]
    assert times == sorted(set(times))


def test_history(chat: ModuleType, guest: Enter) -> None:
    """A newcomer gets what was said last, and no more than the limit of it."""
    ada = guest("Ada")
    said = [ada.ask(type="say", text=str(number))[0] for number in range(chat.HISTORY_LIMIT + 3)]
    (welcome,) = guest().ask(type="join", name="Grace")
    assert welcome["history"] == said[3:]


def test_leave(guest: Enter, room: Any) -> None:
    """Who leaves is gone from the list, others are told once, and the name is free; joining again is possible."""
    ada, grace = guest("Ada"), guest("Grace")
    ada.told()
    assert grace.ask(type="leave") == []
    grace.visitor.leave()
    assert ada.told() == [{"type": "left", "name": "Grace", "time": 1_000_002}]
    assert room.names == ["Ada"]
    assert grace.refused(type="say", text="hello?") == "not-joined"
    assert grace.ask(type="join", name="Grace")[0]["type"] == "welcome"


def test_leaveWithoutJoining(guest: Enter) -> None:
    """A connection that closes before it joined is no news."""
    ada = guest("Ada")
    guest().visitor.leave()
    assert ada.told() == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "name-empty"),
        (" \t\n", "name-empty"),
        (None, "name-empty"),
        (7, "name-empty"),
        (["Ada"], "name-empty"),
        ("x" * 25, "name-too-long"),
        ("x" * 10_000, "name-too-long"),
        ("A\u200bda", "name-invisible"),
        ("\u202eadA", "name-invisible"),
        ("A\x00da", "name-invisible"),
        ("A\ud800da", "name-invisible"),
    ],
)
def test_badName(guest: Enter, room: Any, name: object, code: str) -> None:
    """A name that can't be is refused, with the reason; the next attempt may succeed."""
    visitor = guest()
    assert visitor.refused(type="join", name=name) == code
    assert room.names == []
    assert visitor.ask(type="join", name="x" * 24)[0]["type"] == "welcome"


@pytest.mark.parametrize("name", ["Fin", "fin", "FIN", " Fin  ", "\ufb01n"])
def test_nameTaken(guest: Enter, room: Any, name: str) -> None:
    """A name is taken also by one that only looks or sounds the same; its owner notices nothing."""
    fin = guest("Fin")
    assert guest().refused(type="join", name=name) == "name-taken"
    assert fin.told() == []
    assert room.names == ["Fin"]


def test_nameIsCleaned(guest: Enter, room: Any) -> None:
    """Two spellings of the same letters are one name, and spaces are single."""
    guest("  Zoe\u0308   Li ")
    assert room.names == ["Zo\u00eb Li"]


def test_roomFull(chat: ModuleType, guest: Enter, room: Any) -> None:
    """A full room refuses the next, until somebody leaves."""
    guests = [guest(f"guest {number}") for number in range(chat.MEMBER_LIMIT)]
    late = guest()
    assert late.refused(type="join", name="late") == "room-full"
    guests[0].visitor.leave()
    assert late.ask(type="join", name="late")[0]["type"] == "welcome"
    assert len(room.names) == chat.MEMBER_LIMIT


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "text-empty"),
        (" \n ", "text-empty"),
        (None, "text-empty"),
        (7, "text-empty"),
        ("x" * 1001, "text-too-long"),
    ],
)
def test_badText(guest: Enter, text: object, code: str) -> None:
    """A message that can't be is refused to its author; the others hear nothing."""
    ada, grace = guest("Ada"), guest("Grace")
    assert grace.refused(type="say", text=text) == code
    assert [each["type"] for each in ada.told()] == ["joined"]
    assert grace.ask(type="say", text="x" * 1000)[0]["type"] == "said"


def test_joinTwice(guest: Enter, room: Any) -> None:
    """One connection is one member."""
    assert guest("Ada").refused(type="join", name="Grace") == "already-joined"
    assert room.names == ["Ada"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"type": "join", "name": "Ada"}', "bad-message"),
        ("", "bad-message"),
        ("{", "bad-message"),
        ("[]", "bad-message"),
        ("null", "bad-message"),
        ("1" * 10_000, "bad-message"),
        ("[" * 16_000, "bad-message"),
        ('{"a":' * 3_000, "bad-message"),
        ("{}", "unknown-type"),
        ('{"type": "shout"}', "unknown-type"),
        ('{"type": ["say"]}', "unknown-type"),
        ('{"type": {}}', "unknown-type"),
    ],
)
def test_badMessage(guest: Enter, data: str | bytes, code: str) -> None:
    """Whatever a peer sends, it gets an error; it stays in the room, and nobody else hears of it."""
    ada, grace = guest("Ada"), guest("Grace")
    ada.told()
    (error,) = grace.askRaw(data)
    assert (error["type"], error["code"]) == ("error", code)
    assert ada.told() == []
    assert grace.ask(type="say", text="still here")[0]["type"] == "said"


def test_halfACharacter(guest: Enter, chat: ModuleType, room: Any) -> None:
    """Half of a surrogate pair, which has no form on the wire but an escape, breaks no connection."""
    sent: list[str] = []
    chat.Visitor(room, sent.append).receive('{"type": "join", "name": "Ada"}')
    guest("Grace").askRaw(r'{"type": "say", "text": "\ud83d"}')
    assert json.loads(sent[-1].encode("utf-8"))["text"] == "\ud83d"


def test_comeBack(guest: Enter, room: Any) -> None:
    """Who comes back with the key takes the place of a connection not yet known to be lost; others notice nothing."""
    ada, lost, again, third = guest("Ada"), guest(), guest(), guest()
    key = lost.ask(type="join", name="Grace")[0]["key"]
    ada.told()
    (welcome,) = again.ask(type="join", name="Grace", key=key)
    assert (welcome["key"], welcome["members"]) == (key, ["Ada", "Grace"])
    assert lost.told() == [{"type": "replaced"}]
    assert lost.refused(type="say", text="hello") == "not-joined"
    # The end of the lost connection is noticed at last.
    lost.visitor.leave()
    assert room.names == ["Ada", "Grace"]
    assert ada.told() == []
    # The key stays: the next connection may be lost too.
    assert third.ask(type="join", name="grace", key=key)[0]["name"] == "Grace"
    assert again.told() == [{"type": "replaced"}]
    assert again.ask(type="join", name="Other")[0]["type"] == "welcome"


@pytest.mark.parametrize("key", ["", "guess", "\u00e9", 7, None, ["key"]])
def test_wrongKey(guest: Enter, key: object) -> None:
    """Without the key nobody takes a name from its owner."""
    ada = guest("Ada")
    assert guest().refused(type="join", name="Ada", key=key) == "name-taken"
    assert ada.told() == []


def test_keyAfterRestart(guest: Enter) -> None:
    """A key that a new server has never heard of does no harm."""
    assert guest().ask(type="join", name="Ada", key="from before")[0]["name"] == "Ada"


def test_leaveWhileTold(chat: ModuleType, room: Any, guest: Enter) -> None:
    """A member found to be gone while the room tells everybody doesn't keep the news from the others."""
    goes = chat.Visitor(room, lambda text: goes.leave() if '"said"' in text else None)
    goes.receive('{"type": "join", "name": "Ghost"}')
    ada = guest("Ada")
    assert [each["type"] for each in ada.ask(type="say", text="hello")] == ["left", "said"]
    assert room.names == ["Ada"]


# The chat in a browser


class Windows:
    """Windows of one browser, each with the page of the chat and a person. All of this blocks."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        self.unused = driver.current_window_handle

    def open(self) -> Window:
        handle, self.unused = self.unused, None
        if handle is None:
            self.driver.switch_to.new_window("window")
            handle = self.driver.current_window_handle
        window = Window(self.driver, handle)
        window.driver.get(self.url)
        window.wait(lambda: window.text("state").startswith("connected"), "the connection")
        return window


@attrs.define
class Window:
    _driver: Any
    _handle: str

    @property
    def driver(self) -> Any:
        self._driver.switch_to.window(self._handle)
        return self._driver

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), f"waited for {what}")

    def text(self, name: str) -> str:
        text: str = self.driver.find_element("id", name).text
        return text

    def enter(self, name: str, text: str) -> None:
        """Type into a field in place of what is in it, and press Enter."""
        field = self.driver.find_element("id", name)
        field.clear()
        field.send_keys(text + "\n")

    def join(self, name: str) -> None:
        self.enter("name", name)
        self.wait(lambda: name in self.members(), f"{name} in the room")

    def refused(self, name: str) -> str:
        """Try to join under a name, and return the error."""
        self.enter("name", name)
        # The button is off until the answer.
        self.wait(lambda: self.driver.find_element("id", "join").is_enabled(), "an answer")
        assert not self.driver.find_element("id", "room").is_displayed()
        return self.text("door-error")

    def _texts(self, selector: str) -> list[str]:
        # In one go: between two calls of the driver the page may change.
        texts: list[str] = self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)", selector
        )
        return texts

    def members(self) -> list[str]:
        return self._texts("#members .name")

    def said(self) -> list[tuple[str, str]]:
        """Who said what."""
        texts = iter(self._texts(".said header .name, .said .text"))
        return list(zip(texts, texts, strict=True))

    def notices(self) -> list[str]:
        """Who came and went, without the times."""
        return [re.sub(r"\s+\d.*", "", each) for each in self._texts(".notice")]

    def waitForSaid(self, *said: tuple[str, str]) -> None:
        self.wait(lambda: self.said() == [*said], f"{said}")

    def waitForMembers(self, *names: str) -> None:
        self.wait(lambda: self.members() == [*names], f"{names}")
        assert self.text("count") == str(len(names))

    def errors(self) -> list[str]:
        """What the browser's console says was wrong."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def twoWindows(found: Chromium, where: str = LOOPBACK) -> Iterator[tuple[Running, Windows]]:
    """A chat of its own, and a browser at its page."""
    requirePage("chat")
    with running(command("chat", where)) as example, browse(found) as driver:
        yield example, Windows(driver, example.url)


@pytest.mark.browser
@pytest.mark.slow
def test_twoPeopleTalk(chromium: Chromium) -> None:
    """Two people see each other come, talk and go: one by the button, one by closing the window."""
    with twoWindows(chromium) as (_, windows):
        ada, grace = windows.open(), windows.open()
        ada.join("Ada")
        ada.enter("text", "anybody here?")
        ada.waitForSaid(("Ada", "anybody here?"))

        # A newcomer gets what was said before.
        grace.join("Grace")
        for each in (ada, grace):
            each.waitForMembers("Ada", "Grace")
        grace.waitForSaid(("Ada", "anybody here?"))
        assert ada.notices() == ["Grace joined"]

        grace.enter("text", "yes, I am")
        for each in (ada, grace):
            each.waitForSaid(("Ada", "anybody here?"), ("Grace", "yes, I am"))
            assert re.search(r"\d:\d\d", each.driver.find_element("css selector", ".said:last-of-type time").text)

        grace.driver.find_element("id", "leave").click()
        ada.waitForMembers("Ada")
        assert ada.notices() == ["Grace joined", "Grace left"]
        assert grace.driver.find_element("id", "door").is_displayed()

        # The field still has the name.
        grace.driver.find_element("id", "join").click()
        ada.waitForMembers("Ada", "Grace")
        assert grace.errors() == []
        grace.driver.close()
        ada.waitForMembers("Ada")
        assert ada.errors() == []


@pytest.mark.browser
@pytest.mark.slow
def test_htmlIsText(chromium: Chromium) -> None:
    """HTML in a name or a message is shown as what was typed, in the list, the notices and the conversation."""
    name, text = "<b>Ada</b>", '<img src=x onerror="document.title = 1"><script>document.title = 2</script>'
    with twoWindows(chromium) as (_, windows):
        grace, ada = windows.open(), windows.open()
        grace.join("Grace")
        ada.join(name)
        ada.enter("text", text)
        for each in (ada, grace):
            each.waitForSaid((name, text))
            each.waitForMembers("Grace", name)
            assert each.driver.find_elements("css selector", "b, img, body script") == []
            assert each.driver.title == "Chat"
            assert each.errors() == []
        assert grace.notices() == [f"{name} joined"]


@pytest.mark.browser
@pytest.mark.slow
def test_refusalsAreShown(chromium: Chromium) -> None:
    """A taken, empty or over-long name is refused with the reason, and so is a message; its text isn't lost."""
    with twoWindows(chromium) as (_, windows):
        ada, other = windows.open(), windows.open()
        ada.join("Ada")
        assert other.refused("ada") == "Somebody here is called Ada already. Choose another name."
        assert other.refused("") == "Enter a name."
        assert other.refused("x" * 25) == "A name has at most 24 characters; this has 25."
        # More than one message may have, of characters that need the most room; the field takes the first of them.
        other.driver.execute_script("document.getElementById('name').focus()")
        other.driver.execute_cdp_cmd("Input.insertText", {"text": "\u20ac" * 20_000})
        other.driver.find_element("id", "join").click()
        other.wait(lambda: "4000" in other.text("door-error"), "the error")
        ada.waitForMembers("Ada")

        ada.enter("text", "x" * 1001)
        ada.wait(lambda: ada.text("room-error") != "", "the error")
        assert ada.text("room-error") == "A message has at most 1000 characters; this has 1001."
        assert ada.driver.find_element("id", "text").get_property("value") == "x" * 1001
        ada.enter("text", "shorter")
        ada.waitForSaid(("Ada", "shorter"))
        assert ada.text("room-error") == ""
        assert ada.errors() == []
        assert other.errors() == []


@pytest.mark.browser
@pytest.mark.slow
def test_serverRestarts(chromium: Chromium, freePort: int) -> None:
    """When the server is gone the page says so; when it is back, so is the page, with its name and what it shows."""
    where = f"tcp:{freePort}:interface=127.0.0.1"
    with twoWindows(chromium, where) as (first, windows):
        ada, grace = windows.open(), windows.open()
        ada.join("Ada")
        grace.join("Grace")
        ada.enter("text", "before")
        grace.waitForSaid(("Ada", "before"))
        first.kill()
        for each in (ada, grace):
            each.wait(lambda each=each: each.text("state").startswith("connection lost"), "the loss to be shown")
        ada.driver.find_element("id", "text").send_keys("after")
        with running(command("chat", where)) as second:
            for each in (ada, grace):
                each.wait(lambda each=each: sorted(each.members()) == ["Ada", "Grace"], "both to be back")
                each.wait(lambda each=each: each.text("state").startswith("connected"), "the state")
                each.wait(lambda each=each: "You are back" in each.notices(), "the notice")
            # What was being written is still there.
            ada.driver.find_element("id", "text").send_keys("wards\n")
            for each in (ada, grace):
                each.waitForSaid(("Ada", "before"), ("Ada", "afterwards"))
            second.stop()
