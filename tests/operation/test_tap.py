"""`twistd engineio`: its command line, and the process as an operator sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher

from engineio_twisted import Server, __version__
from engineio_twisted.operation.commandline import findApp
from engineio_twisted.operation.tap import CommandService, echo, makeService
from engineio_twisted.socketio import SocketIO
from engineio_twisted.web.descriptions import asURL

from ..kit.commandline import TakenPort, failure, parse
from ..kit.fakes import FakeRequest

QUERY = "/engine.io/?EIO=4&transport=polling"


def test_defaults() -> None:
    """Without options: port 3000, the echo application, nothing at /."""
    options = parse()
    assert options["serviceOptions"].listen == ("tcp:3000",)
    assert options["application"] is echo
    assert (options["serverOptions"].path, options["serverOptions"].pingInterval) == ("/engine.io", 25000)


def test_options(tmp_path: Path) -> None:
    """Each reaches the server."""
    options = parse(
        "--listen=tcp:1",
        "--listen=tcp:2",
        "--path=/socket",
        "--ping-interval=1000",
        "--ping-timeout=500",
        "--max-http-buffer-size=2000",
        "--id-prefix=1",
        f"--static={tmp_path}",
        "--app=tests.operation.test_tap:application",
    )
    reactor = MemoryReactorClock()
    service = CommandService(options, reactor)
    opts = service.server.opts
    assert (opts.path, opts.pingInterval, opts.pingTimeout, opts.maxHttpBufferSize) == ("/socket", 1000, 500, 2000)
    assert opts.idPrefix == "1"
    assert CALLS.pop() is service.server
    service.privilegedStartService()
    service.startService()
    assert [each[0] for each in reactor.tcpServers] == [1, 2]


def test_aPortAlone() -> None:
    """A number is the port of all interfaces, as with C{listen}."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--listen=8000", "--health=8001"), reactor)
    service.startService()
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(8001, "::"), (8000, "::")]


CALLS: list[Server] = []


def application(server: Server) -> None:
    CALLS.append(server)


def failing(server: Server) -> None:
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ping-interval=abc"], "--ping-interval abc: expected a whole number of milliseconds, 1 or more"),
        (["--ping-timeout=0"], "--ping-timeout 0: expected a whole number"),
        (["--max-http-buffer-size=-1"], "--max-http-buffer-size -1: expected a whole number of bytes"),
        (["--id-prefix=a/b"], "--id-prefix a/b: expected up to 32 letters, digits and signs of ._~-"),
        (["--path=engine"], "--path engine: expected the path of a URL"),
        (["--static=/no/such/place"], "--static /no/such/place: there is no such directory"),
        (["--app=nowhere:x"], "--app nowhere:x: cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        (["--app=json:nothing"], "--app json:nothing: cannot be imported (AttributeError"),
        (["--app=json"], "--app json: expected module:callable"),
        (["--app=:x"], "--app :x: expected module:callable"),
        (["--app=sys:path"], "--app sys:path: expected something to call with the server"),
        (["--listen=tcp:abc"], "--listen tcp:abc: "),
        (["--listen=nonsense:1"], "--listen nonsense:1: Unknown endpoint type"),
        (["--listen=tls:1:privateKey=/no/key.pem"], "--listen tls:1:privateKey=/no/key.pem: "),
        (["--access-log=/no/such/place/log"], "--access-log /no/such/place/log: No such file or directory"),
        (["--config=/no/such/file"], "--config /no/such/file: No such file or directory"),
        (["surplus"], "unexpected argument 'surplus' (--help-all lists the options)"),
        (["--listen"], "option --listen requires argument"),
        (["--listen=99999"], "--listen 99999: expected a port number, 0 to 65535"),
        (["--listen=:80"], "--listen :80: Unknown endpoint type: ''; did you mean 80?"),
        (
            ["--listen=127.0.0.1:80"],
            "--listen 127.0.0.1:80: Unknown endpoint type: '127.0.0.1'; did you mean tcp:80:interface=127.0.0.1?",
        ),
        (["--health=[::1]:80"], r"Unknown endpoint type: '['; did you mean tcp6:80:interface=\:\:1?"),
    ],
)
def test_wrongOptions(arguments: list[str], expected: str) -> None:
    """One line that names the option, the value, and what was expected."""
    assert expected in failure(*arguments)


def test_anApplicationThatFails(loggedErrors: list[Any]) -> None:
    """One line that names it; the traceback is in the log."""
    assert "--app tests.operation.test_tap:failing: failed (RuntimeError: no database)" in failure(
        "--app=tests.operation.test_tap:failing"
    )
    assert [event["log_failure"].type for event in loggedErrors] == [RuntimeError]
    loggedErrors.clear()


BROKEN = {
    "a name": ("import os\n\nnothing\n", "(NameError: name 'nothing' is not defined) at {here}:3"),
    "syntax": ("import os\n\n\ndef f(:\n", "(SyntaxError: invalid syntax) at {here}:4"),
    "indentation": ("def f():\nreturn 1\n", "(IndentationError: expected an indented block after function"),
    "a module that isn't there": (
        "import not_there\n",
        "(ModuleNotFoundError: No module named 'not_there') at {here}:1",
    ),
    "a library that is called": ("import json\njson.loads('x')\n", "(JSONDecodeError: Expecting value: line 1"),
    "several lines": ("raise ValueError('one\\ntwo\\n three')\n", "(ValueError: one two three) at {here}:1"),
    "no text": ("def f():\n    raise ValueError\n\n\nf()\n", "(ValueError: ) at {here}:2"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_anApplicationThatCannotBeImported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The line has the file and the line of the application, whatever is called from there."""
    text, expected = BROKEN[kind]
    here = tmp_path / "broken_application.py"
    here.write_text(text)
    (tmp_path / "file.toml").write_text('allowRequest = "broken_application:allow"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for argument in ("--app=broken_application:run", "--allow-request=broken_application:allow", "--config=file.toml"):
        said = failure(argument)
        assert f"cannot be imported {expected.format(here=here)}" in said
        line = 2 if kind in ("indentation", "a library that is called") else None
        assert line is None or f"at {here}:{line}" in said


def test_whereAnApplicationFails(loggedErrors: list[Any]) -> None:
    """So has that of one that fails when it is called."""
    expected = f" failed (RuntimeError: no database) at {__file__}:{failing.__code__.co_firstlineno + 1}"
    assert failure("--app=tests.operation.test_tap:failing").endswith(expected)
    loggedErrors.clear()


def mistaken(server: Any) -> None:
    server.on("connect", print)


def test_anApplicationWithAMistake(loggedErrors: list[Any]) -> None:
    """The line says what to write instead, and where."""
    what = "(UnknownEvent: 'connect' is not an event of a server: it is called 'connection' here)"
    said = failure("--app=tests.operation.test_tap:mistaken")
    assert said.endswith(f" failed {what} at {__file__}:{mistaken.__code__.co_firstlineno + 1}")
    loggedErrors.clear()


def test_findApp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current directory is found; nested names are too."""
    (tmp_path / "my_application.py").write_text("class Thing:\n    @staticmethod\n    def run(server): return 'ran'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert findApp("my_application:Thing.run")(Server(reactor=Clock())) == "ran"


def test_aPortThatIsFoundTakenLate(loggedErrors: list[Any]) -> None:
    """An endpoint that fails only after the start stops the process, and says why."""
    reactor = MemoryReactorClock()
    service = CommandService(parse(), reactor)
    stopped: list[bool] = []
    reactor.stop = lambda: stopped.append(True)
    service._endpoints = []
    service.startService()
    from twisted.python.failure import Failure

    service.portFailed(Failure(OSError("too late")), "tcp:3000")
    for hook, args, keywords in reactor.whenRunningHooks:
        hook(*args, **keywords)
    assert stopped == [True]
    assert "too late" in loggedErrors[0]["problem"]
    loggedErrors.clear()
    stopping = service.stopService()
    reactor.advance(0)
    assert stopping.called


async def failingLater(server: Server) -> None:
    raise RuntimeError("no database, after all")


def test_anApplicationThatFailsLater(loggedErrors: list[Any]) -> None:
    """An application may be a coroutine function; what it raises ends the process, and is logged."""
    reactor = MemoryReactorClock()
    CommandService(parse("--app=tests.operation.test_tap:failingLater"), reactor)
    assert len(reactor.whenRunningHooks) == 1
    assert "--app tests.operation.test_tap:failingLater: failed" in loggedErrors[0]["problem"]
    loggedErrors.clear()


# --socketio

HERE = "tests.operation.test_tap"


def binding(server: Server) -> None:
    SocketIO(server)


async def bindingAtOnce(server: Server) -> None:
    binding(server)


WAITING: list[Deferred[None]] = []


async def bindingLater(server: Server) -> None:
    WAITING.append(Deferred())
    await WAITING[-1]
    binding(server)


async def neverBinding(server: Server) -> None:
    WAITING.append(Deferred())
    await WAITING[-1]


@pytest.mark.parametrize("app", ["binding", "bindingAtOnce", "bindingLater"])
def test_socketIO(app: str) -> None:
    """An application that makes a Socket.IO server of the server is served at the path of its clients."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--socketio", f"--app={HERE}:{app}"), reactor)
    service.startService()
    if WAITING:
        WAITING.pop().callback(None)
    assert service.server.opts.path == "/socket.io"
    assert len(reactor.tcpServers) == 1
    assert reactor.whenRunningHooks == []
    assert not service.hasFailed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--socketio: name an application with --app, which calls SocketIO(server)"),
        (
            [f"--app={HERE}:application"],
            f"--socketio: --app {HERE}:application made no SocketIO: call SocketIO(server)",
        ),
        ([f"--app={HERE}:asynchronous"], f"--socketio: --app {HERE}:asynchronous made no SocketIO"),
    ],
)
def test_socketIOWithoutOne(arguments: list[str], expected: str) -> None:
    """Ends the command before anything is listened on."""
    assert expected in failure("--socketio", *arguments)
    CALLS.clear()


async def asynchronous(server: Server) -> None:
    application(server)


def test_socketIOWithoutOneInTheEnd(loggedErrors: list[Any]) -> None:
    """An application that takes time, and has made none when it is through, ends the process."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--socketio", f"--app={HERE}:neverBinding"), reactor)
    service.startService()
    assert (reactor.whenRunningHooks, service.hasFailed) == ([], False)
    WAITING.pop().callback(None)
    assert len(reactor.whenRunningHooks) == 1
    assert service.hasFailed
    assert loggedErrors[0]["problem"].startswith(f"--socketio: --app {HERE}:neverBinding made no SocketIO")
    loggedErrors.clear()


@pytest.mark.parametrize("app", ["failing", "failingLater"])
def test_socketIOOfAnApplicationThatFails(app: str, loggedErrors: list[Any]) -> None:
    """That it has failed is what is said."""
    flags = ("--socketio", f"--app={HERE}:{app}")
    if app == "failing":
        assert f"--app {HERE}:failing: failed (RuntimeError: no database)" in failure(*flags)
    else:
        CommandService(parse(*flags), MemoryReactorClock())
        assert [each["problem"] for each in loggedErrors] == [f"--app {HERE}:failingLater: failed"]
    loggedErrors.clear()


@pytest.mark.parametrize(("app", "what"), [("binding", "Socket.IO"), ("application", "Engine.IO")])
def test_whatTheLogSaysIsServed(app: str, what: str) -> None:
    """Clients of Socket.IO find in it whether the server is one of theirs."""
    lines: list[str] = []
    observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
    globalLogPublisher.addObserver(observer)
    try:
        service = CommandService(parse(f"--app={HERE}:{app}", "--listen=tcp:3000"), MemoryReactorClock())
        service.startService()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [each for each in lines if " is served at " in each] == [
        f"{what} is served at http://localhost:3000/engine.io/"
    ]
    CALLS.clear()


def test_aTakenPort(tmp_path: Path) -> None:
    """Ends the command with one line, and removes the pid file that twistd wrote."""
    pidfile = tmp_path / "twistd.pid"
    pidfile.write_text("1")
    options = parse()
    options.parent = {"pidfile": str(pidfile)}
    with pytest.raises(
        SystemExit, match=r"twistd engineio: --listen tcp:3000: cannot listen \(Address already in use\)"
    ):
        CommandService(options, TakenPort()).privilegedStartService()
    assert not pidfile.exists()


def test_stop() -> None:
    """The ports close, the sessions end, and the Deferred tells when nothing is left."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--listen=tcp:1", "--listen=tcp:2"), reactor)
    service.startService()
    request = FakeRequest()
    service.server.handleRequest(request)
    reasons: list[str] = []
    (socket,) = service.server.clients.values()
    socket.on("close", lambda reason, _: reasons.append(reason))
    stopped = service.stopService()
    assert not service.server.isReady
    # The client has the time to fetch what is there for it.
    reactor.advance(service.server.opts.drainTimeout / 1000 - 0.001)
    assert (reasons, stopped.called) == ([], False)
    reactor.advance(0.001)
    assert reasons == ["server shutting down"]
    reactor.advance(0)
    assert stopped.called
    assert reactor.getDelayedCalls() == []


def test_echo() -> None:
    """The application that runs where none is named sends every message back."""
    server = Server(reactor=Clock())
    echo(server)
    opening = FakeRequest()
    server.handleRequest(opening)
    (socket,) = server.clients.values()
    socket.emit("message", "hello")
    assert [packet.data for packet in socket.writeBuffer] == ["hello"]
    server.close()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the package's own."""
    with pytest.raises(SystemExit) as caught:
        parse("--version")
    assert (caught.value.code, capsys.readouterr().out) == (0, f"engineio_twisted {__version__}\n")
    # Of the distribution, which says what setup.py has read there.
    assert __version__ == version("engineio_twisted")


def test_makeService() -> None:
    """twistd gets its service on the running reactor, and nothing listens before it starts."""
    assert isinstance(makeService(parse()), CommandService)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("0.0.0.0", 80, "http://localhost:80"),
        ("::", 80, "http://localhost:80"),
        ("::1", 80, "http://[::1]:80"),
        ("127.0.0.1", 1, "http://127.0.0.1:1"),
    ],
)
def test_where(host: str, port: int, url: str) -> None:
    """What is logged can be opened."""
    from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

    address = IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)
    assert asURL(address) == url
    assert asURL(UNIXAddress(b"/run/app.sock")) == "unix:/run/app.sock:"
    assert asURL("something else") == "something else"


def test_aPortThatIsTakenInTheBackground(loggedErrors: list[Any]) -> None:
    """twistd, which waits in the foreground, is told by an exception; the log has the line."""
    options = parse()
    options.parent = {"statusPipe": 5, "pidfile": "none"}
    with pytest.raises(OSError, match=r"^--listen tcp:3000: cannot listen \(Address already in use\)$"):
        CommandService(options, TakenPort()).privilegedStartService()
    assert [event["problem"] for event in loggedErrors] == ["--listen tcp:3000: cannot listen (Address already in use)"]
    loggedErrors.clear()


class LockedPort(MemoryReactorClock):
    """A reactor on which every UNIX socket is somebody's."""

    def listenUNIX(self, address: str, *_: Any, **keywords: Any) -> Any:
        raise CannotListenError(None, address, "Cannot acquire lock")  # type: ignore[arg-type]


def test_aLockedSocket() -> None:
    """The line has the reason, also where the system has no error for it."""
    with pytest.raises(SystemExit, match=r"--listen unix:/run/app: cannot listen \(Cannot acquire lock\)"):
        CommandService(parse("--listen=unix:/run/app"), LockedPort()).privilegedStartService()


def test_bodiesForOperatorsPages() -> None:
    """They take none: the limit of the server holds where they are, as it does beside the sessions."""
    arguments = ["--health=tcp:9100", "--max-http-buffer-size=10"]
    service = CommandService(parse(*arguments), MemoryReactorClock())
    ((_, _, inside),) = service._inside
    assert (service.site.maxBodySize, inside.maxBodySize) == (10, 10)


def test_accessLogOfRequests() -> None:
    """Who sent a request is said by trusted proxies; of one that contradicts itself only who connected is known."""
    service = CommandService(parse("--trusted-proxies=192.0.2.7", "--id-prefix=a."), MemoryReactorClock())

    def line(uri: bytes, **headers: str) -> str:
        request: Any = FakeRequest(
            uri=uri, headers={name.replace("_", "-"): [value] for name, value in headers.items()}
        )
        request.code, request.sentLength = 200, 5
        return service._formatAccess("[now]", request)

    assert line(b"/engine.io/?sid=a.123456789012345&x=y", X_Forwarded_For="203.0.113.9") == (
        '"203.0.113.9" - - [now] "GET /engine.io/?sid=a.123456...&x=y HTTP/1.1" 200 5 "-" "-"'
    )
    assert line(b"/x", Referer="https://example.com/?x=y&sid=a.123456789012345").endswith(
        ' "https://example.com/?x=y&sid=a.123456..." "-"'
    ), "the page may have been an answer to a session"
    assert line(b"/x", X_Forwarded_For="2001:db8::1").startswith('"2001:db8::1" - - ')
    assert line(b"/x", X_Forwarded_For="203.0.113.9", Forwarded="for=203.0.113.8").startswith('"192.0.2.7" - - ')


def test_anotherSignal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the waiting for clients; one that is to be ignored stays so."""
    handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
    monkeypatch.setattr(signal, "getsignal", handlers.__getitem__)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    reactor = MemoryReactorClock()
    reactor.callFromThread = lambda call: call()
    service = CommandService(parse(), reactor)
    service.startService()
    service.server.handleRequest(FakeRequest())
    service.hurryOnSignal()
    stopped = service.stopService()
    reactor.advance(0)
    assert (stopped.called, service.server.clientsCount) == (False, 1)
    assert handlers[signal.SIGINT] is signal.SIG_IGN
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    reactor.advance(0)
    assert (stopped.called, service.server.clientsCount) == (True, 0)
    assert reactor.getDelayedCalls() == []


def test_theNameOfTheCommand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the command that was given."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/twist"])
    with pytest.raises(SystemExit, match=r"^twist engineio: --ping-interval x: expected"):
        parse("--ping-interval=x")


# The process


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text("<p>hello</p>")
    (tmp_path / "reverse.py").write_text(
        "def application(server):\n"
        "    server.on('connection', lambda s: s.on('message', lambda data: s.send(data[::-1])))\n"
    )
    return tmp_path


@pytest.fixture
def start(directory: Path) -> Iterator[Any]:
    """Starts `twistd -n engineio` and waits until it serves; ends it after the test."""
    processes = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "engineio", *arguments]
        process = subprocess.Popen(
            command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        processes.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Engine.IO is served at" in line:
                return process
        process.wait(60)
        process.said = "".join(said)  # type: ignore[attr-defined]
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def environment() -> dict[str, str]:
    # Coverage is measured in this process; a subprocess of it needs no more than the package.
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def read(url: str, data: bytes | None = None) -> str:
    with urlopen(url, data, timeout=60) as response:
        text: str = response.read().decode()
        return text


def test_process(start: Any, directory: Path, freePort: int) -> None:
    """It serves sessions and files, and SIGTERM ends it after `drainTimeout`, cleanly, with a session open."""
    process = start(
        f"--listen=tcp:{freePort}:interface=127.0.0.1",
        "--static=.",
        "--app=reverse:application",
        "--ping-interval=999",
        "--drain-timeout=1",
    )
    url = f"http://127.0.0.1:{freePort}"
    opening = read(url + QUERY)
    assert '"pingInterval":999,' in opening
    session = url + QUERY + "&sid=" + opening.partition('"sid":"')[2].partition('"')[0]
    assert read(session, b"4abc") == "ok"
    assert read(session) == "4cba"
    assert read(url + "/page.html") == "<p>hello</p>"
    process.send_signal(signal.SIGTERM)
    # twistd ends by the signal that asked it to, once everything has stopped.
    assert process.wait(60) == -signal.SIGTERM
    assert not (directory / "twistd.pid").exists()


def test_processOnATakenPort(start: Any, directory: Path, freePort: int) -> None:
    """One line that names it, a non-zero exit, and no pid file left."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", freePort))
        taken.listen()
        process = start(f"--listen=tcp:{freePort}:interface=127.0.0.1")
    assert process.returncode == 1
    problem = f"--listen tcp:{freePort}:interface=127.0.0.1: cannot listen (Address already in use)"
    assert [problem in line for line in process.said.splitlines()].count(True) == 1
    assert "Traceback" not in process.said
    assert not (directory / "twistd.pid").exists()


def test_processWithAWrongOption(start: Any) -> None:
    """One line and a non-zero exit."""
    process = start("--ping-interval=soon")
    expected = "twistd engineio: --ping-interval soon: expected a whole number of milliseconds, 1 or more\n"
    assert (process.returncode, process.said) == (1, expected)


def test_processVersion(start: Any) -> None:
    """The version is ours."""
    process = start("--version")
    assert (process.returncode, process.said) == (0, f"engineio_twisted {__version__}\n")
