"""Type checkers as users run them: what they report, what they don't, and what editors complete."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.client.events import CLIENT_EVENTS
from engineio_twisted.session.handlers import SERVER_EVENTS, SOCKET_EVENTS

from ..kit.clients import INTEROP
from ..kit.markdown import blocksOf
from ..kit.tools import require

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = DOCS / "type-checking.md"
TYPED = ROOT / "tests" / "typed"
PYRIGHT = INTEROP / "node_modules" / "pyright"
PATIENCE = 300

EVENTS = {"server": SERVER_EVENTS, "socket": SOCKET_EVENTS, "client": CLIENT_EVENTS}

Lines = set[tuple[str, int]]
"""Lines of programs."""


# Programs


def settings() -> str:
    """What the page says that a project's pyproject.toml has."""
    (block,) = (each for each in blocksOf(PAGE) if each.language == "toml")
    return block.text


def ofPage(page: Path, name: str) -> dict[str, str]:
    """The programs of a page."""
    blocks = [each.text for each in blocksOf(page) if each.language == "python"]
    return {f"{name}_{number}.py": text for number, text in enumerate(blocks)}


def ofEvents() -> str:
    """For every event, as a method and as a decorator: a handler of its arguments, and one with one parameter more."""
    lines = [
        "from typing import Any",
        "from engineio_twisted import Server, Socket",
        "from engineio_twisted.client import Client",
        "def every(server: Server, socket: Socket, client: Client) -> None:",
    ]
    for owner, events in EVENTS.items():
        for event, arguments in events.items():
            for verb in ("on", "once"):
                for given, mark in ((arguments, ""), ((*arguments, "more"), "  # error")):
                    call, number = f'{owner}.{verb}("{event}"', len(lines)
                    parameters = ", ".join(f"{each}: Any" for each in given)
                    lines += [
                        f"    @{call}){mark}",
                        f"    def handler{number}({parameters}) -> None: ...",
                        f"    {call}, lambda {', '.join(given)}: None){mark}",
                    ]
            for call in (f'listeners("{event}")', f'removeListener("{event}", print)', f'emit("{event}")'):
                lines.append(f"    {owner}.{call}")
    return "\n".join(lines) + "\n"


def programs() -> dict[str, str]:
    """Those of which the lines that are to be reported are marked."""
    return {
        **{each.name: each.read_text(encoding="utf-8") for each in sorted(TYPED.glob("*.py"))},
        **ofPage(PAGE, "page"),
        **ofPage(ROOT / "README.md", "readme"),
        "every_event.py": ofEvents(),
    }


def examples() -> dict[str, str]:
    found: dict[str, str] = {}
    for each in sorted((ROOT / "examples").glob("*/*.py")):
        # Several are called application.py.
        name = f"{each.parent.name}_{each.name}" if each.name in found else each.name
        found[name] = each.read_text(encoding="utf-8")
    return found


WITHOUT_TYPES = """
[[tool.mypy.overrides]]
module = ["django.*", "socketio.*"]
ignore_missing_imports = true
"""
"""What the page doesn't speak of: packages that examples import and that have no types."""


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def check(files: Mapping[str, str], by: str, reported: Mapping[tuple[str, int], str]) -> None:
    """
    Each line that ends with `# error` is reported, and no other.

    A line that only one type checker reports ends with its name.
    """
    wanted = {
        (name, number)
        for name, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.endswith(("  # error", f"  # error: {by}"))
    }

    def shown(lines: Lines) -> list[str]:
        return [f"{name}:{number}: {files[name].splitlines()[number - 1].strip()}" for name, number in sorted(lines)]

    assert shown(wanted - set(reported)) == [], "mistakes that are not found"
    assert {each: reported[each] for each in sorted(set(reported) - wanted)} == {}, "no mistakes"


# Type checkers


def test_mypy(tmp_path: Path) -> None:
    """`mypy --strict` finds the mistakes, and nothing in the examples, with the settings that the page shows."""
    require(importlib.util.find_spec("mypy_zope") is not None, "mypy and mypy-zope")
    files = {**programs(), **examples()}
    assert len(files) == len(programs()) + len(examples())
    write(tmp_path, {**files, "pyproject.toml": settings() + WITHOUT_TYPES})
    done = subprocess.run([sys.executable, "-m", "mypy", "."], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.finditer(r"^([^:\n]+):(\d+): error: (.*)", done.stdout, re.MULTILINE)
    check(files, "mypy", {(each[1], int(each[2])): each[3] for each in found})


def environment() -> dict[str, str]:
    """That in which pyright finds this Python's packages."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


@pytest.fixture
def pyright(node: str) -> Callable[..., Any]:
    """Run pyright, and return its report."""
    require(PYRIGHT.is_dir(), "the packages of tests/interop (run `npm ci` there)")

    def run(*arguments: str, cwd: Path) -> Any:
        command = [node, str(PYRIGHT / "index.js"), "--outputjson", *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
        return json.loads(done.stdout)

    return run


@pytest.mark.node
def test_pyright(pyright: Callable[..., Any], tmp_path: Path) -> None:
    """pyright finds the same mistakes, without settings."""
    files = programs()
    write(tmp_path, files)
    report = pyright(".", cwd=tmp_path)
    assert report["summary"]["filesAnalyzed"] == len(files)
    check(
        files,
        "pyright",
        {
            (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
            for each in report["generalDiagnostics"]
            if each["severity"] == "error"
        },
    )


# Editors


class Editor:
    """An editor with one program open, as far as the language server of pyright knows."""

    def __init__(self, node: str, folder: Path, text: str) -> None:
        self._lines = text.splitlines()
        self._number = 0
        self.process = subprocess.Popen(
            [node, str(PYRIGHT / "langserver.index.js"), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment(),
        )
        workspace = {"uri": folder.as_uri(), "name": "program"}
        self._ask("initialize", processId=os.getpid(), rootUri=None, capabilities={}, workspaceFolders=[workspace])
        self._send({"method": "initialized", "params": {}})
        self._document = {"uri": (folder / "program.py").as_uri()}
        opened = {**self._document, "languageId": "python", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": opened}})

    def completions(self, text: str) -> set[str]:
        """What may stand behind a line, or within its quotes."""
        line = self._lines.index(f'{text}")' if text.endswith('"') else text)
        position = {"line": line, "character": len(text)}
        result = self._ask("textDocument/completion", textDocument=self._document, position=position)
        items = result["items"] if isinstance(result, dict) else result
        return {each["label"].strip("\"'") for each in items}

    def _send(self, message: Mapping[str, object]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.process.stdin.flush()

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        length = 0
        while (line := self.process.stdout.readline()) != b"\r\n":
            assert line, "the language server has ended"
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self.process.stdout.read(length))

    def _ask(self, method: str, **parameters: object) -> Any:
        self._number += 1
        self._send({"id": self._number, "method": method, "params": parameters})
        while True:
            message = self._receive()
            if "method" in message:
                # What it asks of the editor, this one has nothing of.
                if "id" in message:
                    self._send({"id": message["id"], "result": None})
            elif message["id"] == self._number:
                assert "error" not in message, message
                return message["result"]


@contextmanager
def editing(node: str, folder: Path, text: str) -> Iterator[Editor]:
    editor = Editor(node, folder, text)
    try:
        yield editor
    finally:
        editor.process.kill()
        editor.process.communicate()


def documented(page: Path) -> set[str]:
    """The names that a page has in backticks."""
    return {
        each
        for span in re.findall("`([^`\n]+)`", page.read_text(encoding="utf-8"))
        for each in re.findall(r"\w+", span)
    }


PROGRAM = """\
from engineio_twisted import Server, Socket
server, socket = Server(), Socket()
server.on("")
server.once("")
socket.on("")
socket.once("")
socket.removeListener("")
socket.listeners("")
socket.transport.name.
socket.request.
socket.data.
server.
socket.
"""


@pytest.mark.node
def test_completion(node: str, tmp_path: Path) -> None:
    """Editors complete the events, and of servers and sockets what is for applications."""
    require(PYRIGHT.is_dir(), "the packages of tests/interop (run `npm ci` there)")
    with editing(node, tmp_path, PROGRAM) as editor:
        for text in ('server.on("', 'server.once("'):
            assert editor.completions(text) == {*SERVER_EVENTS}
        for text in ('socket.on("', 'socket.once("', 'socket.removeListener("', 'socket.listeners("'):
            assert editor.completions(text) == {*SOCKET_EVENTS}
        assert "upper" in editor.completions("socket.transport.name.")
        assert "getHeader" in editor.completions("socket.request.")
        assert "setdefault" in editor.completions("socket.data.")
        for text, page in (("server.", "server.md"), ("socket.", "sessions.md")):
            public = {each for each in editor.completions(text) if not each.startswith("_")}
            assert public - documented(DOCS / page) == set()
