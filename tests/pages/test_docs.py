"""The documentation as a reader tries it: every code block of every page is run by a test, here or where it says."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.web.resource import Resource

import engineio_twisted
from engineio_twisted import Server, ServerObserver, Site
from engineio_twisted.operation.tap import Options
from engineio_twisted.session.states import HeartbeatState, ReadyState, UpgradeState
from engineio_twisted.testing import MemoryCluster
from engineio_twisted.testing.requests import Requests

from ..kit.engines import TwistedEngine
from ..kit.fronts import changed, makeCertificate
from ..kit.markdown import Block, blocksOf
from ..kit.memory import Memory
from ..kit.services import Service, Talk, command, environment, services, talking
from ..kit.tools import require
from ..kit.wire import CLOSE, framesOf, http, makeFrame, target, upgrade

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PATIENCE = 60


def isOurs(page: Path) -> bool:
    return not {"node_modules", "_build"} & set(page.relative_to(ROOT).parts)


PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(filter(isOurs, DOCS.rglob("*.md"))),
    *sorted(filter(isOurs, (ROOT / "examples").rglob("*.md"))),
]
BLOCKS = [block for page in PAGES for block in blocksOf(page)]


def nameOf(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Where a block is run, if not here


WHOLE = {
    "docs/asyncio-and-threads.md": "test_asyncio_page.py::test_onAsyncio",
    "docs/first-steps.md": "test_newcomer.py::test_firstSteps",
    "docs/python-socketio.md": "test_python_socketio_page.py::test_theProgramHere",
    "docs/socketio-reference.md": "test_socketio_reference_page.py::test_theFirstProgram",
    "docs/several-processes.md": "test_workers_page.py::test_fromBeginningToEnd",
    "docs/socketio-redis.md": "test_redis_page.py::test_fromBeginningToEnd",
    "docs/socketio-testing.md": "test_socketio_testing_page.py::test_parts",
    "docs/testing.md": "test_testing_page.py::test_parts",
}
"""Pages that a test follows from their beginning to their end."""

FILES = {
    ("docs/deployment/nginx.md", "nginx"): "test_deployment.py::test_checked",
    ("docs/deployment/haproxy.md", "haproxy"): "test_deployment.py::test_checked",
    ("docs/deployment/systemd.md", "ini"): "test_systemd.py::test_thePagesShowTheFiles",
    ("docs/deployment/tls.md", "ini"): "test_systemd.py::test_thePagesShowTheFiles",
    ("docs/deployment/tls.md", "sh"): "test_systemd.py::test_tls",
    ("docs/docker.md", "dockerfile"): "test_containers.py::test_image",
    ("docs/docker.md", "text"): "test_containers.py::test_image",
    ("docs/docker.md", "python"): "test_containers.py::test_image",
    ("docs/docker.md", "yaml"): "test_containers.py::test_manifest",
    # Word for word from examples that are run.
    ("docs/frameworks.md", "python"): "test_embedding.py::test_quotations",
    ("docs/embedding.md", "python"): "test_embedding.py::test_quotations",
    ("docs/http2.md", "python"): "test_streams.py::test_reproductions",
    ("docs/http2.md", "text"): "test_streams.py::test_reproductions",
    ("docs/limits.md", "toml"): "test_docs.py::test_theSameInAFile",
    ("docs/clients.md", "js"): "test_docs.py::test_clients",
    ("docs/protocols.md", "js"): "test_docs.py::test_clients",
    ("docs/protocols.md", "text"): "test_docs.py::test_description",
    ("docs/client-tool.md", "text"): "test_client_tool_page.py::test_itsLines",
    ("docs/socketio.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio-rooms.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio-authentication.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio-acks.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio-recovery.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio-options.md", "python"): "test_socketio_pages.py::test_wholePage",
    ("docs/socketio.md", "html"): "test_socketio_pages.py::test_page",
    ("docs/socketio.md", "js"): "test_socketio_pages.py::test_firstProgram",
    ("docs/socketio-authentication.md", "js"): "test_socketio_pages.py::test_clients",
    ("docs/socketio-acks.md", "js"): "test_socketio_pages.py::test_clients",
    ("docs/socketio-recovery.md", "js"): "test_socketio_pages.py::test_clients",
    ("docs/type-checking.md", "python"): "test_type_checking.py::test_mypy",
    ("docs/type-checking.md", "toml"): "test_type_checking.py::test_mypy",
    ("examples/echo/README.md", "js"): "test_docs.py::test_clients",
    ("examples/lines/README.md", "js"): "test_examples.py::test_linesOfNode",
}
"""What is neither run here as Python, nor typed into a shell: by its page and its language."""

PROXIES = "test_deployment.py::test_processes"
CI = "runs with every change, before and around these tests"
REST = "test_newcomer.py::test_whatThePagesInstall"
MACHINE = "is for the machine that serves: a test may not change this one"
BENCHMARK = "measures: no test depends on what this machine does meanwhile"

COMMANDS = {
    r"make (test|docs)\b.*": CI,
    r"make dist": "test_packaging.py::test_installed",
    r"git (tag|push) .*|twine upload .*": "publishes a release",
    r"make run\b.*": "test_docs.py::test_makeRun",
    r"make (bench|bench-socketio|bench-clients|bench-quick)\b.*": BENCHMARK,
    r"python benchmarks/bench\.py .*": "test_docs.py::test_benchmarksAreNamed",
    r"python benchmarks/clients\.py .*": "test_client_benchmarks.py::test_namesOnThePage",
    r"python benchmarks/extras\.py": BENCHMARK,
    r"python3 -m venv \.venv|\. \.venv/bin/activate|pip install \.": "test_newcomer.py::test_examplesAreSetUp",
    r"pip install pytest|python -m (pytest|twisted\.trial) test_chat\S*": "test_chat_tests.py::test_trial",
    r"npm install engine\.io-client|npm ci|cd examples/(chat|frontends|latency|socketio-\w+)": CI,
    r"python rooms\.py( \S+)?": "test_socketio_examples.py::test_talk",
    r"python -m (pytest|twisted\.trial) test_rooms\S*": "test_socketio_examples.py::test_trial",
    r"redis-server|python (headlines|publish|publish_manager)\.py.*": "test_socketio_examples.py::test_publish",
    r"python examples/socketio-bot/bot\.py( \S+)*": "test_socketio_examples.py::test_bot",
    r"pip install (\"\.\[redis\]\"|\"python-socketio>=5\.15\.1\" redis|\"python-socketio\[asyncio-client\]\")": CI,
    r"npm run build|python frontends\.py": "test_frontends.py::test_board",
    r"npm run dev": "test_frontends.py::test_development",
    r"docker (build|run) .*": "needs a daemon; test_containers.py runs each step of the image",
    r"python (chat|latency)\.py( \S+)?": "test_examples.py::test_pageRuns",
    r"python examples/echo/echo\.py( \S+)?": "test_examples.py::test_echoRuns",
    r"python examples/embedding/tls\.py tls-files:.*": "test_embedding.py::test_tls",
    r"python examples/embedding/tree\.py( \S+)?": "test_embedding.py::test_tree",
    r"cd examples/echo": "test_examples.py::test_echoUnderTwistd",
    r"cd examples/workers": "test_workers_page.py::test_example",
    r"python examples/lines/lines\.py\b.*|nc 127\.0\.0\.1 4000": "test_examples.py::test_linesRuns",
    r"(echo hello \| )?python -m engineio_twisted\.client .*": "test_client_tool_page.py::test_commands",
    r"python examples/bot/bot\.py( \S+)?": "test_client_examples.py::test_bot",
    r"python examples/amp/(stock|shop)\.py( \S+)*": "test_client_examples.py::test_amp",
    r"python examples/relay/relay\.py( \S+)+": "test_client_examples.py::test_relayRuns",
    r"python examples/login/(server|client)\.py( \S+)*|pip install treq": "test_client_examples.py::test_login",
    r"DEBUG=\S+ python .*": "test_docs.py::test_debugging",
    r"curl 'http://127\.0\.0\.1:3000.*": "test_docs.py::test_byHand",
    r"twistd? .*": "test_docs.py::test_twistd",
    r"pip install \"python-engineio\[client\]\"": CI,
    r"engineio-twisted .*": "test_docs.py::test_engineioTwisted",
    r"pip install (engineio_twisted|\"engineio_twisted\[tls\]\")": "test_packaging.py::test_installed",
    r"pip install mypy mypy-zope": "test_type_checking.py::test_mypy",
    r"(mkdir -p|cat \S+ \S+ >) /etc/haproxy/certs\S*": "test_docs.py::test_haproxysCertificate",
    r"(haproxy|nginx) .*-?[tc]\b.* && systemctl reload (haproxy|nginx)": "test_deployment.py::test_checked",
    r"echo .* \| socat .*": "test_deployment.py::test_takingAProcessOut",
    r"python3 -m venv /opt/engineio|/opt/engineio/bin/.*|mkdir -p /srv/engineio": REST,
    r"systemctl restart \S+|systemctl stop .*": "test_systemd.py::test_restarted",
    r"systemctl reload engineio": "test_systemd.py::test_reloaded",
    r"chmod .*|RENEWED_LINEAGE=.*|mkdir -p /etc/engineio": "test_systemd.py::test_tls",
    r"systemctl (daemon-reload|enable|status|reload) ?.*|journalctl .*|groupadd .*": MACHINE,
    r"curl \"https?://(example\.com|127\.0\.0\.1:3001)/.*": MACHINE,
}
"""What is typed into a shell."""


def elsewhere() -> set[str]:
    return {each for each in (*WHOLE.values(), *FILES.values(), *COMMANDS.values()) if "::" in each}


def lines(block: Block) -> list[str]:
    """The commands of a block, each on one line and without a comment."""
    text = block.text.replace("\\\n", " ")
    return [re.sub(r"\s+", " ", re.sub(r"\s+#.*", "", line)).strip() for line in text.splitlines() if line.strip()]


def whyNot(block: Block) -> str | None:
    """What is wrong with a block that no test runs."""
    page = nameOf(block.page)
    if page in WHOLE or ((page, block.language) in FILES and not block.isCommands):
        return None
    if block.language == "python" or block.language.startswith(("{toctree}", "{include}")):
        return None
    if not block.isCommands:
        return f"nothing is known of a block of {block.language or 'no language'}"
    unknown = [line for line in lines(block) if not any(re.fullmatch(each, line) for each in COMMANDS)]
    return f"nobody runs {unknown}" if unknown else None


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_everyBlockIsRun(block: Block) -> None:
    """A block is run here, by another test, or is one of a few commands that no test may run."""
    assert whyNot(block) is None


def test_theTestsAreThere() -> None:
    """Those that are said to run a block; and what is said is said of something."""
    for each in elsewhere():
        module, _, name = each.partition("::")
        [path] = (ROOT / "tests").rglob(module)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in found, each
    commands = [line for block in BLOCKS if block.isCommands for line in lines(block)]
    assert [each for each in COMMANDS if not any(re.fullmatch(each, line) for line in commands)] == []
    kinds = {(nameOf(block.page), block.language) for block in BLOCKS}
    assert FILES.keys() - kinds == set()


# Links


def anchor(heading: str) -> str:
    """The anchor of a heading, as code hosts and Sphinx make it."""
    return re.sub(r"[^\w -]", "", re.sub(r"[`*]|\[|\]\(.*?\)", "", heading).lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {anchor(each) for each in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=nameOf)
def test_linksLeadSomewhere(page: Path) -> None:
    """Each relative link leads to a file that is there, and to a heading of it."""
    dead = []
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for where, heading in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text):
        path = page.parent / where if where else page
        if not path.exists() or (heading and heading not in anchors(path)):
            dead.append(f"{where}#{heading}")
    assert dead == []


# Python


PYTHON = [
    block
    for block in BLOCKS
    if block.language == "python"
    and nameOf(block.page) not in WHOLE
    and (nameOf(block.page), block.language) not in FILES
]
CLIENTS = [
    block
    for block in PYTHON
    if "engineio.Client" in block.text or ("engineio_twisted.client" in block.text and "react(" in block.text)
]
PROGRAMS = [
    block
    for block in PYTHON
    if block not in CLIENTS and re.search(r"^(react|web\.run_app)\(", block.text, re.MULTILINE)
]
PARTS = [block for block in PYTHON if block not in PROGRAMS and block not in CLIENTS]


class Reactor(MemoryReactorClock):
    """One in memory, which also takes what other threads want to be called."""

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        function(*args)


def surroundings(reactor: Any) -> dict[str, Any]:
    """What the parts of programs on the pages speak of without making it."""
    memory = Memory()
    memory.connect(upgrade())
    (socket,) = memory.server.clients.values()
    return {
        **{name: getattr(engineio_twisted, name) for name in engineio_twisted.__all__},
        "ServerObserver": ServerObserver,
        "reactor": reactor,
        "server": memory.server,
        "socket": socket,
        "root": Resource(),
        "site": Site(Resource()),
        "pending": ["one", "two"],
        "room": {socket},
        "image": b"\x89PNG",
        "position": "12,7",
        "database": SimpleNamespace(whyNotReady=lambda: None),
        # As if the signal came at once.
        "signal": SimpleNamespace(SIGUSR2=signal.SIGUSR2, signal=lambda number, handler: handler(number, None)),
        "memory": memory,
    }


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Reactor:
    reactor = Reactor()
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    return reactor


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_part(block: Block, reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a program runs where what it speaks of is there; what it listens on is opened in memory."""
    if "engine_twisted" in block.text and TwistedEngine is None:
        pytest.skip("needs Twisted 26.10")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "public").mkdir()
    made = surroundings(reactor)
    given = {**made}
    exec(compile(block.text, str(block), "exec"), made)
    servers = {id(each): each for each in made.values() if isinstance(each, Server)}
    for server in servers.values():
        if server.opts.path == "/engine.io" and server is not given["server"]:
            # It is one that serves.
            assert server.isReady, server.whyNotReady
    if "application" in made and not [each for each in signatureOf(made["application"]) if each != "server"]:
        made["application"](Server(reactor=reactor))


def signatureOf(function: Any) -> list[str]:
    """The parameters that have to be given."""
    code = function.__code__
    return list(code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())])


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program, which doesn't outlive the context."""
    environ = {**environment(), "PYTHONUNBUFFERED": "1", **options.pop("env", {})}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def handshake(process: subprocess.Popen[str], port: int, query: str = "") -> tuple[int, str]:
    """What a program answers to who would open a session, once it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/engine.io/?EIO=4&transport=polling{query}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except URLError:
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, "it doesn't listen"
            time.sleep(0.05)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_program(block: Block, freePort: int) -> None:
    """A program runs as it stands, opens sessions, and ends by Ctrl-C without a complaint."""
    if "aiohttp" in block.text:
        require(importlib.util.find_spec("aiohttp") is not None, "aiohttp")
    program = changed(block.text, {"3000": str(freePort)})
    with started(sys.executable, "-c", program) as process:
        status, text = handshake(process, freePort)
        if "name is needed" in program:
            assert status in (401, 403), text
            status, text = handshake(process, freePort, "&name=ann")
        assert (status, text[:8]) == (200, '0{"sid":')
        # With a session left it would wait for that.
        where = f"http://127.0.0.1:{freePort}/engine.io/?EIO=4&transport=polling&sid={json.loads(text[1:])['sid']}"
        with urlopen(where, b"1", timeout=PATIENCE):
            pass
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said, said
    if "LogObserver(" in program:
        assert re.search(r"Session \S{6}… of 127\.0\.0\.1 opened on polling", said), said


SCRIPTS = [block for block in BLOCKS if FILES.get((nameOf(block.page), block.language)) == "test_docs.py::test_clients"]


@pytest.mark.parametrize("block", [*CLIENTS, *SCRIPTS], ids=str)
def test_clients(block: Block, freePort: int, tmp_path: Path) -> None:
    """A client that a page shows talks to the server of that page, or to the echo."""
    (server,) = [each.text for each in PROGRAMS if each.page == block.page] or [ECHO.read_text()]
    answer = "olleh" if "[::-1]" in server else "hello"
    if block.language == "js":
        node = shutil.which("node")
        require(node is not None, "Node.js")
        modules = ROOT / "tests" / "interop" / "node_modules"
        require(modules.is_dir(), "the packages of tests/interop (run `npm ci` there)")
        (tmp_path / "node_modules").symlink_to(modules)
        program, expected = [str(node), "hello.mjs"], [answer]
    else:
        program, expected = (
            [sys.executable, "hello.mjs"],
            ["'hello'", "b'\\x00\\x01\\x02'"] if "\\x00" in block.text else [answer],
        )
    (tmp_path / "hello.mjs").write_text(changed(block.text, {"3000": str(freePort)}))
    with started(sys.executable, "-c", changed(server, {"tcp:3000": f"tcp:{freePort}"})) as process:
        handshake(process, freePort)
        with started(*program, cwd=tmp_path) as client:
            assert client.stdout is not None
            said = ""
            # In any order: python-engineio calls handlers in threads.
            while not all(each in said for each in expected):
                line = client.stdout.readline()
                assert line, said
                said += line


def test_description(reactor: Reactor) -> None:
    """The descriptions of endpoints on the page of protocols are such, with the options that they have."""
    block, ours = (each for each in blocksOf(DOCS / "protocols.md") if each.language == "text")
    endpoint: Any = clientFromString(reactor, ours.text.strip())
    assert repr(endpoint) == "<ClientSessionEndpoint https://example.org/chat/>"
    assert endpoint._options == {"transports": ["websocket"], "query": {"token": "secret"}}
    ports: list[Any] = []
    serverFromString(reactor, block.text.strip()).listen(Factory()).addCallback(ports.append)
    (port,) = ports
    assert reactor.tcpServers[0][0] == 3000
    assert (port.server.opts.path, port.server.opts.pingInterval) == ("/chat", 5000)


# Commands


def typed(pattern: str) -> list[Any]:
    """The commands of the pages that begin so, each with its page."""
    return [
        pytest.param(line, id=f"{block}-{line}"[:80])
        for block in BLOCKS
        if block.isCommands and nameOf(block.page) not in WHOLE
        for line in lines(block)
        if re.match(pattern, line)
    ]


def here(argument: str, port: int, folder: Path) -> str:
    """An argument with another port, and with a UNIX socket for what is for operators."""
    argument = re.sub(r"\btcp:9100(:interface=127\.0\.0\.1)?", f"unix:{folder}/inside.sock", argument)
    return re.sub(r"\btcp:\d+(:interface=127\.0\.0\.1)?", f"tcp:{port}:interface=127.0.0.1", argument)


@pytest.mark.slow
@pytest.mark.parametrize("line", typed("twistd? "))
def test_twistd(line: str, freePort: int, tmp_path: Path) -> None:
    """A service that a page starts serves sessions, at another port."""
    program, *arguments = shlex.split(line)
    if "tls-files" in line:
        makeCertificate(tmp_path)
    if "--config" in arguments:
        (tmp_path / arguments[arguments.index("--config") + 1]).write_text(
            f'listen = ["tcp:{freePort}:interface=127.0.0.1"]\n'
        )
    if "--app" in arguments:
        module, _, name = arguments[arguments.index("--app") + 1].partition(":")
        echo = f"{name} = lambda server: server.on('connection', lambda socket: socket.on('message', socket.send))"
        (tmp_path / f"{module}.py").write_text(echo + "\n")
    if "--static" in arguments:
        (tmp_path / arguments[arguments.index("--static") + 1]).mkdir()
    arguments = [here(each, freePort, tmp_path) for each in arguments]
    if "--listen" not in arguments and "--config" not in arguments:
        arguments += ["--listen", f"tcp:{freePort}:interface=127.0.0.1"]
    before = arguments.index("engineio")
    with services(tmp_path) as start:
        service = start(*arguments[before + 1 :], by=[command(program), *arguments[:before]])
        assert service.process.poll() is None, service.said
        if not re.search("tls-files|haproxy:", line):
            with talking(freePort) as talk:
                sid = talk.echo("hello")
                # With a session left it would wait for that.
                assert talk.ask(http("POST", target(sid=sid), body=b"1")) == b"ok"
        service.stop()


@pytest.mark.slow
@pytest.mark.parametrize("block", [each for each in BLOCKS if "\nengineio-twisted " in f"\n{each.text}"], ids=str)
def test_engineioTwisted(block: Block, freePort: int, tmp_path: Path) -> None:
    """So does the command without twistd; what it prints for a file, the next command can read."""
    (tmp_path / "module.py").write_text(
        "def callable(server): server.on('connection', lambda s: s.on('message', s.send))\n"
    )
    for each in PYTHON:
        if each.page == block.page and "SocketIO(server)" in each.text:
            (tmp_path / "chat.py").write_text(each.text)
    (tmp_path / "DIR").mkdir()
    for line in (each for each in lines(block) if each.startswith("engineio-twisted ")):
        if ">" in line:
            command = line.replace("engineio-twisted", f"{sys.executable} -m engineio_twisted")
            subprocess.run(command, shell=True, cwd=tmp_path, env=environment(), check=True)
            continue
        for written in tmp_path.glob("*.toml"):
            written.write_text(here(written.read_text(), freePort, tmp_path))
        arguments = [here(each, freePort, tmp_path) for each in line.replace(" 3000", " tcp:3000").split()[1:]]
        service = Service([sys.executable, "-m", "engineio_twisted", *arguments], tmp_path)
        try:
            service.started()
            assert service.process.poll() is None, service.said
            with talking(freePort) as talk:
                if "--socketio" in line:
                    say(talk, "hello")
                else:
                    talk.echo("hello")
            service.stop(signal.SIGINT)
        finally:
            service.kill()


def say(talk: Talk, text: str) -> None:
    """Join a chat of Socket.IO on polling, say something, and hear it."""
    sid = talk.open("/socket.io/")

    def send(packet: str) -> str:
        assert talk.ask(http("POST", target("/socket.io/", sid=sid), body=packet.encode())) == b"ok"
        return talk.ask(http("GET", target("/socket.io/", sid=sid))).decode()

    assert send("40").startswith('40{"sid":"')
    assert send(f'42["say","{text}"]') == f'42["said","{text}"]'
    assert talk.ask(http("POST", target("/socket.io/", sid=sid), body=b"1")) == b"ok"


ECHO = ROOT / "examples" / "echo" / "echo.py"


@pytest.mark.slow
def test_makeRun(freePort: int) -> None:
    """The first thing that one types serves, and says what to type next, which works."""
    require(shutil.which("make") is not None and shutil.which("curl") is not None, "make and curl")
    here = [f"BIN={Path(sys.executable).parent}", f"PORT={freePort}", "VENV=here", "-o", "here/run"]
    with started("make", "run", *here, cwd=ROOT, start_new_session=True) as process:
        try:
            handshake(process, freePort)
            assert process.stdout is not None
            said = iter(process.stdout.readline, "")
            (curl,) = (line for line, _ in zip(said, range(4), strict=False) if "curl" in line)
            answer = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
            assert answer.startswith('0{"sid":"')
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=PATIENCE)


def test_byHand(freePort: int) -> None:
    """A session by hand, as the page of the echo has it."""
    require(shutil.which("curl") is not None, "curl")
    open_, post, poll = (each.values[0] for each in typed("curl 'http"))
    with started(sys.executable, str(ECHO), f"tcp:{freePort}:interface=127.0.0.1") as process:
        handshake(process, freePort)

        def ask(line: str, sid: str = "") -> str:
            line = line.replace(":3000", f":{freePort}").replace("SID", sid)
            return subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout

        sid = json.loads(ask(open_)[1:])["sid"]
        assert ask(post, sid) == "ok"
        assert ask(poll, sid) == "4hello"


def test_debugging(freePort: int) -> None:
    """What is looked for is said on stderr."""
    ((line,),) = (each.values for each in typed("DEBUG="))
    line = changed(line, {" python ": f" exec {sys.executable} "}) + f" tcp:{freePort}:interface=127.0.0.1"
    with started("sh", "-c", line, cwd=ROOT) as process:
        handshake(process, freePort)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
    assert "engine:socket" in said


def test_haproxysCertificate(tmp_path: Path) -> None:
    """Certificate and key go into one file."""
    certificate = makeCertificate(tmp_path)
    for each in typed("(mkdir -p|cat .* >) /etc/haproxy"):
        line = changed(str(each.values[0]), {"/etc/haproxy": str(tmp_path / "haproxy")})
        subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "haproxy" / "certs" / "example.com.pem").read_bytes() == certificate.both.read_bytes()


def test_benchmarksAreNamed() -> None:
    """The servers and the modes that the page names are there."""
    bench = [sys.executable, str(ROOT / "benchmarks" / "bench.py")]
    there = set(
        re.findall(r"[\w.-]+", subprocess.run([*bench, "--list"], capture_output=True, text=True, check=True).stdout)
    )
    for each in typed(r"python benchmarks/bench\.py"):
        words = shlex.split(str(each.values[0]))
        for option in ("--servers", "--modes"):
            if option in words:
                assert set(words[words.index(option) + 1].split(",")) - there == set()


def test_theSameInAFile(tmp_path: Path, reactor: Reactor) -> None:
    """The options of the page, in Python and in a file."""
    page = DOCS / "limits.md"
    (python,) = (block for block in PYTHON if block.page == page)
    (toml,) = (block for block in blocksOf(page) if block.language == "toml")
    made: dict[str, Any] = {}
    exec(python.text, made)
    (tmp_path / "server.toml").write_text(toml.text)
    options = Options()
    options.parseOptions(["--config", str(tmp_path / "server.toml")])
    assert tomllib.loads(toml.text)["listen"] == ["tcp:3000"]
    assert options["serverOptions"] == made["server"].opts


# Diagrams


specification = importlib.util.spec_from_file_location("diagrams", DOCS / "diagrams.py")
assert specification is not None
assert specification.loader is not None
diagrams = importlib.util.module_from_spec(specification)
specification.loader.exec_module(diagrams)


def test_diagramsAreMadeAnew() -> None:
    """Those of the pages are what `python docs/diagrams.py` makes, of the states that there are."""
    drawn = diagrams.drawings()
    assert {each.name: each.read_text(encoding="utf-8") for each in diagrams.FOLDER.glob("*.svg")} == drawn
    for states in (ReadyState, UpgradeState, HeartbeatState):
        assert any({*states} == {*machine} for machine in diagrams.MACHINES.values()), states
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in drawn:
        assert f"(diagrams/{name})" in shown, name


class Player:
    """A client that says what a diagram has it say, and sees whether the server does the same."""

    def __init__(self) -> None:
        self.memory = Memory(resumeTimeout=60_000)
        self.sid = ""
        self.connections: dict[str, Any] = {}

    def play(self, kind: str, said: str) -> None:
        if kind in ("get", "post", "upgrade"):
            query, _, body = said.partition(" ")
            where = f"/engine.io/?EIO=4&{query.replace('sid=S', f'sid={self.sid}')}"
            method = {"get": "GET", "post": "POST"}.get(kind)
            request = http(method, where, body=body.encode() if body else None) if method else upgrade(where)
            self.connections[kind] = self.memory.connect(request)
        elif kind in ("got", "posted", "upgraded"):
            asked = {"got": "get", "posted": "post", "upgraded": "upgrade"}[kind]
            taken = self.connections[asked].taken()
            head, _, rest = taken.partition(b"\r\n\r\n")
            if kind == "upgraded":
                assert head.startswith(f"HTTP/1.1 {said} ".encode())
                self.frames = framesOf(rest)
            else:
                assert head.startswith(b"HTTP/1.1 200 ")
                self.says(rest.decode(), said)
        elif kind == "refused":
            assert self.connections["post"].taken().startswith(f"HTTP/1.1 {said} ".encode())
        elif kind == "say":
            self.connections["upgrade"].say(makeFrame(said))
        elif kind == "lost":
            self.connections["upgrade"].lose()
        elif kind == "wait":
            self.memory.advance(float(said.removesuffix(" s")))
        else:
            self.frames += framesOf(self.connections["upgrade"].taken())
            frame = self.frames.pop(0)
            if kind == "closed":
                assert (frame.opcode, frame.code) == (CLOSE, int(said))
            else:
                self.says(frame.text, said)

    def says(self, text: str, expected: str) -> None:
        if expected == diagrams.OPENED:
            self.sid = json.loads(text[1:])["sid"]
            assert text.startswith('0{"sid":')
        elif expected.startswith(diagrams.RETURNED):
            opening, _, rest = text.partition("\x1e")
            assert opening.startswith(f'0{{"sid":"{self.sid}"')
            assert opening.endswith(',"received":1}}')
            assert rest == expected.removeprefix(diagrams.RETURNED).strip()
        else:
            assert text == expected


@pytest.mark.parametrize("name", diagrams.SEQUENCES)
def test_sequences(name: str) -> None:
    """A server says what the diagram has it say, when the client does; and the events beside it are there."""
    player = Player()
    happened: list[str] = []

    def connected(socket: Any) -> None:
        happened.append("connection")
        for event in ("open", "message", "upgrading", "upgrade", "heartbeat", "suspend", "resume", "close"):
            socket.on(event, lambda *given, event=event: happened.append(event))
        socket.on("close", lambda reason, description: happened.append(f"close: {reason}"))

    player.memory.server.on("connection", connected)
    for kind, said, note in diagrams.SEQUENCES[name]:
        player.play(kind, said)
        if note not in diagrams.REMARKS:
            for event in note.split(", "):
                assert not event or event in happened, (said, event)
    for connection in player.memory.connections:
        connection.lose()


@pytest.mark.parametrize("name", diagrams.PASSAGES)
def test_passages(name: str) -> None:
    """A request at the wrong of two workers is answered, and gets to the right one as the diagram has it."""
    passages = diagrams.PASSAGES[name]
    received: list[str] = []

    def application(server: Server) -> None:
        server.on("connection", lambda socket: socket.on("message", received.append))

    with MemoryCluster(application, mode=name) as kit:
        sid = kit.connect(upgrade=False, worker=2).sid
        connections: list[Any] = []

        def connect(receiver: Any) -> Any:
            connections.append(kit._network.connect(receiver, "127.0.0.1", 1))
            return connections[-1]

        requests = Requests(connect)
        answers: list[str] = []
        said: list[str] = []
        for step in passages:
            if step.kind == "request":
                method, query, body = step.text.split(" ")
                where = f"/engine.io/?EIO=4&transport=polling&{query.replace('2-S', str(sid))}"
                requests.ask(method, where, [], body.encode(), lambda each: answers.append(each.text), lambda: None)
                said.append(body[1:])
            elif step.kind == "answer":
                kit.settle()
                assert answers.pop() == step.text
                # Who answers is who reads the next request.
                (connection,) = connections
                assert connection.end.process is kit.workers[step.start].process
        front = kit.workers[1].cluster
        assert front.moved == sum(each.kind == "moved" for each in passages)
        assert front.front.relayed == sum(each.text == "REQUEST" for each in passages)
        assert received == said
        requests.drop()
