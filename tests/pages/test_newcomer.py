"""
A newcomer's path: docs/first-steps.md, followed word by word in an empty folder, up to a chat behind nginx.

What is typed and what is written is read from the page. Changed are ports, the folders of the system, where the package
and the browser's client come from, and what only the first process of a machine may do.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from markdown_it import MarkdownIt

from ..kit.browser import Chromium, browse
from ..kit.browser import chromium as chromium
from ..kit.fronts import NGINX, changed, executable, ports
from ..kit.markdown import blocksOf
from ..kit.packages import FASTER
from ..kit.packages import built as built
from ..kit.services import environment
from ..kit.tools import require

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = sysconfig.get_path("purelib")
CLIENT = ROOT / "tests" / "interop" / "node_modules" / "engine.io-client"
PATIENCE = 60

pytestmark = pytest.mark.slow

Step = tuple[str, str]


def steps(page: Path) -> Iterator[Step]:
    """What a page has one do: each command, and each file, by the name that the text before it says."""
    name = ""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "inline":
            for found in re.findall(r"`([\w./-]+\.(?:py|html|service|conf))`", token.content):
                name = found
        elif token.type == "fence" and token.info == "sh":
            for line in token.content.splitlines():
                yield "type", line
        elif token.type == "fence":
            assert name, token.content
            yield name, token.content
            name = ""


class Newcomer:
    """
    Who follows the page.

    @ivar folder: where they are.
    """

    def __init__(self, folder: Path, changes: dict[str, str], stack: ExitStack) -> None:
        self.folder = folder
        self._changes = changes
        self._stack = stack
        self._server: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        """A text of the page, with what is called otherwise here."""
        for old, new in self._changes.items():
            text = text.replace(old, new)
        return text

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.folder / self.here(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text))
        return path

    def type(self, line: str) -> str:
        """Type a command that ends, and return what it says."""
        if line.startswith("cd "):
            self.folder /= line.removeprefix("cd ")
            return ""
        typed = subprocess.run(
            ["sh", "-c", self.here(line)], cwd=self.folder, env=clean(), capture_output=True, text=True, timeout=600
        )
        assert typed.returncode == 0, f"{line}: {typed.stdout}{typed.stderr}"
        return typed.stdout

    def start(self, line: str, url: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Run a command of this machine that goes on, and wait until something is served."""
        process = subprocess.Popen(["sh", "-c", f"exec {line}"], cwd=folder or self.folder, env=clean())
        self._stack.callback(end, process)
        eventually(lambda: answers(url, process), f"{line} to serve")
        return process


def clean() -> dict[str, str]:
    """An environment in which nothing of this one helps."""
    return {name: value for name, value in environment().items() if not name.startswith("PYTHON")} | FASTER


def end(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> None:
    """What Ctrl-C does."""
    process.send_signal(number)
    process.wait(PATIENCE)


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it ended by itself"
    try:
        with urlopen(f"{url}/engine.io/?EIO=4&transport=polling", timeout=PATIENCE):
            return True
    except HTTPError as error:
        error.close()
        return False
    except URLError:
        return False


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


class Window:
    """A window of a browser, with the page of the chat."""

    def __init__(self, driver: Any, url: str) -> None:
        driver.switch_to.new_window("window")
        self._driver, self._handle = driver, driver.current_window_handle
        driver.get(url)

    def _select(self) -> Any:
        self._driver.switch_to.window(self._handle)
        return self._driver

    def says(self, text: str) -> None:
        self._select().find_element("id", "text").send_keys(text + "\n")

    def shows(self, *expected: str) -> None:
        def lines() -> list[str]:
            found: list[str] = self._select().execute_script(
                "return [...document.querySelectorAll('#said li')].map(each => each.textContent)"
            )
            return found

        eventually(lambda: lines() == [*expected], f"{expected}, not {lines()}")

    def isUpgraded(self) -> None:
        eventually(
            lambda: self._select().execute_script("return socket.transport.name") == "websocket", "the WebSocket"
        )

    def close(self) -> None:
        self._select().close()


def chat(driver: Any, url: str) -> None:
    """Two people talk; one goes."""
    ann = Window(driver, url)
    ann.shows("What is your name?")
    ann.says("Ann")
    ann.shows("What is your name?", "Ann is here")
    bob = Window(driver, url)
    bob.isUpgraded()
    bob.says("Bob")
    bob.shows("What is your name?", "Bob is here")
    ann.says("hello, <b>Bob</b>")
    bob.shows("What is your name?", "Bob is here", "Ann: hello, <b>Bob</b>")
    bob.close()
    ann.shows("What is your name?", "Ann is here", "Bob is here", "Ann: hello, <b>Bob</b>", "Bob has left")


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning")
def test_firstSteps(chromium: Chromium, built: dict[str, Path], tmp_path: Path) -> None:
    """It ends in a chat behind nginx, in which two people talk by a browser."""
    require(CLIENT.is_dir(), "the packages of tests/interop (run `npm ci` there)")
    require(shutil.which("curl") is not None, "curl")
    nginx, analyze = executable("nginx"), executable("systemd-analyze")
    with ExitStack() as stack:
        own, inside, public = stack.enter_context(ports(3))
        system = tmp_path / "system"
        changes = {
            "pip install engineio_twisted": f"pip install --quiet --disable-pip-version-check '{built['wheel']}'",
            "npm install engine.io-client": f"mkdir node_modules && ln -s {CLIENT} node_modules/",
            "3000": str(own),
            "3001": str(inside),
            "python3 -m venv": f"{sys.executable} -m venv",
            "/srv/chat": f"{tmp_path}/srv/chat",
            "/etc/": f"{system}/etc/",
            "/var/log/nginx": str(system),
            "listen 80;": f"listen 127.0.0.1:{public};",
            "http://example.com/": f"http://127.0.0.1:{public}/",
        }
        reader = Newcomer(tmp_path, changes, stack)
        driver = stack.enter_context(browse(chromium))
        running: subprocess.Popen[bytes] | None = None
        unit = site = None
        asked = 0
        for name, text in steps(DOCS / "first-steps.md"):
            if name != "type":
                path = reader.write(name, text)
                unit, site = (path if path.suffix == ".service" else unit), (path if path.suffix == ".conf" else site)
            elif text.startswith("curl "):
                assert reader.type(text).startswith('0{"sid":"')
                asked += 1
            elif text.startswith("venv/bin/"):
                if text.startswith("venv/bin/pip"):
                    reader.type(text)
                    continue
                if text.endswith("-m pytest"):
                    assert "1 passed" in reader.type(text)
                    continue
                if running is not None:
                    end(running)
                running = reader.start(reader.here(text), f"http://127.0.0.1:{own}")
                if "chat:application" in text:
                    chat(driver, f"http://127.0.0.1:{own}/")
                    end(running)
            elif text.startswith("systemctl enable --now chat"):
                assert unit is not None
                verified = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True)
                assert (verified.returncode, verified.stderr) == (0, "")
                (command,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", unit.read_text(), re.MULTILINE)
                (folder,) = re.findall(r"^WorkingDirectory=(.*)$", unit.read_text(), re.MULTILINE)
                reader.start(command, f"http://127.0.0.1:{inside}", Path(folder))
            elif text == "nginx -t && systemctl reload nginx":
                assert site is not None
                user = "user root;" if Path("/").stat().st_uid == 0 else ""
                whole = NGINX.format(folder=system, user=user)
                (system / "nginx.conf").write_text(changed(whole, {f"{system}/site.conf": str(site)}))
                start = f"{nginx} -p {system} -e stderr -c {system}/nginx.conf"
                subprocess.run(f"{start} -t", shell=True, check=True)
                reader.start(start, f"http://127.0.0.1:{public}")
            elif not text.startswith(("systemctl daemon-reload", "apt-get install nginx-light")):
                reader.type(text)
        assert asked == 3
        chat(driver, f"http://127.0.0.1:{public}/")
        assert " 101 " in (system / "access.log").read_text()
        assert "sid=" not in (system / "access.log").read_text()


def test_examplesAreSetUp(built: dict[str, Path], tmp_path: Path) -> None:
    """The commands of the page make an environment whose `python` runs the examples, with the plugin for twistd."""
    (block,) = (each for each in blocksOf(ROOT / "examples" / "README.md") if each.isCommands)
    shutil.copytree(ROOT / "examples" / "echo", tmp_path / "examples" / "echo")
    changes = {
        "pip install .": f"pip install --quiet --disable-pip-version-check --no-deps '{built['wheel']}'",
        "python3 -m venv": f"{sys.executable} -m venv",
    }
    # What the package requires is borrowed from here.
    borrow = f"echo {PACKAGES} > $(python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')/borrowed.pth"
    lines = [
        *block.text.splitlines(),
        borrow,
        "! python examples/echo/echo.py pigeon:post 2>&1",
        "python -c 'import engineio_twisted; print(engineio_twisted.__file__)'",
        "python -m twisted --help",
    ]
    with ExitStack() as stack:
        said = Newcomer(tmp_path, changes, stack).type(" &&\n".join(lines))
    assert "pigeon" in said
    assert f"\n{tmp_path}/.venv/" in said
    assert re.search(r"^ +engineio +", said, re.MULTILINE)


def test_whatThePagesInstall(built: dict[str, Path], tmp_path: Path) -> None:
    """The commands of the page of systemd make what its units start, and its application can be imported there."""
    (block,) = (each for each in blocksOf(DOCS / "deployment" / "systemd.md") if "python3 -m venv" in each.text)
    changes = {
        "pip install engineio_twisted": f"pip install --quiet --disable-pip-version-check '{built['wheel']}'",
        "python3 -m venv": f"{sys.executable} -m venv",
        "/opt/engineio": f"{tmp_path}/opt/engineio",
        "/srv/engineio": f"{tmp_path}/srv/engineio",
    }
    with ExitStack() as stack:
        reader = Newcomer(tmp_path, changes, stack)
        for line in block.text.splitlines():
            reader.type(line)
    assert (tmp_path / "srv" / "engineio").is_dir()
    said = subprocess.run([tmp_path / "opt/engineio/bin/twistd", "--help"], capture_output=True, text=True, env=clean())
    assert re.search(r"^ +engineio +", said.stdout, re.MULTILINE)
