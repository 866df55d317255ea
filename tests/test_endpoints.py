"""What twistd and twist run: on every kind of endpoint, in the background, as another user, with an access log."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from engineio_twisted import listen

from .kit.services import DEADLINE, Talk, command, isAlive, services, talking, waitUntil
from .kit.wire import Wire, connectTo, http, makeFrame, target, upgrade


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts a service in a folder of its own."""
    with services(tmp_path) as start:
        yield start


# UNIX sockets


def test_unixSocket(start: Any, tmp_path: Path) -> None:
    """A UNIX socket serves, with the permissions asked for, and is gone with the server."""
    path = tmp_path / "app.sock"
    service = start(f"--listen=unix:{path}:mode=660")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert f"served at unix:{path}:/engine.io/" in service.said
    with talking(path) as talk:
        talk.echo("hello")
    assert service.stop() == -signal.SIGTERM
    assert not path.exists()


def test_staleUnixSocket(start: Any, tmp_path: Path) -> None:
    """A socket that a killed server left is taken over; one that is served isn't, and the command says so."""
    path = tmp_path / "app.sock"
    start(f"--listen=unix:{path}").stop(signal.SIGKILL)
    assert path.exists()
    start(f"--listen=unix:{path}", "--ping-interval=999")
    with talking(path) as talk:
        assert b'"pingInterval":999,' in talk.ask(http("GET", target()))
    other = start(f"--listen=unix:{path}", by=[command("twistd"), "-n", "--pidfile=other.pid"])
    assert other.ended() == 1
    assert f"--listen unix:{path}: cannot listen (" in other.said.splitlines()[-1]
    with talking(path) as talk:
        talk.echo("still there")


# systemd

AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("which", ["index=0", "name=web"])
def test_systemd(which: str, start: Any) -> None:
    """A socket that systemd opened serves, and whoever connects between two servers is served by the second."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def activate() -> Any:
            descriptor = listening.fileno()
            launcher = [sys.executable, "-c", AS_SYSTEMD, str(descriptor), command("twistd"), "-n"]
            return start(f"--listen=systemd:domain=INET:{which}", by=launcher, pass_fds=[descriptor])

        service = activate()
        with talking(port) as talk:
            talk.echo("hello")
        assert service.stop() == -signal.SIGTERM
        with talking(port) as talk:
            talk.connection.sendall(http("GET", target()))
            activate()
            status, _ = talk.response()
            assert status == 200


# TLS


def test_tls(start: Any, tmp_path: Path, certificate: tuple[Path, Path], freePort: int) -> None:
    """`tls:` serves with the certificates of a folder."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "localhost.pem").write_bytes(b"".join(each.read_bytes() for each in certificate))
    start(f"--listen=tls:{folder}:{freePort}:interface=127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(certificate[1]))
    with (
        socket.create_connection(("127.0.0.1", freePort), DEADLINE) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        Talk(connection).echo("hello")


# PROXY protocol


def version2(source: str, port: int) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack("!HH", port, 443)
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack("!H", len(addresses)) + addresses


PROXY = {"1": b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n", "2": version2("203.0.113.9", 5555)}


@pytest.fixture
def proxied() -> Iterator[Any]:
    """A server behind a proxy that speaks the PROXY protocol, and the addresses that its application sees."""
    server = listen("haproxy:tcp:0:interface=127.0.0.1")
    addresses: list[str | None] = []

    @server.on("connection")
    def connected(socket: Any) -> None:
        addresses.append(socket.remoteAddress)
        socket.on("message", socket.send)

    yield server, addresses
    pytest_twisted.blockon(server.close())


async def connectBehind(server: Any, header: bytes) -> Wire:
    wire = await connectTo((await server.listening).getHost().port)
    wire.send(header)
    return wire


@pytest.mark.parametrize("version", PROXY)
@pytest_twisted.ensureDeferred
async def test_proxyProtocol(version: str, proxied: Any, serve: Any) -> None:
    """Behind a proxy the address is the client's own; polling, WebSocket and upgrade work."""
    server, addresses = proxied
    polling = await connectBehind(server, PROXY[version])
    polling.send(http("GET", target()))
    sid = (await polling.response()).packets[0].partition('"sid":"')[2].partition('"')[0]
    polling.send(http("POST", target(sid=sid), body=b"4hello") + http("GET", target(sid=sid)))
    assert (await polling.response()).body == b"ok"
    assert (await polling.response()).packets == ["4hello"]

    webSocket = await connectBehind(server, PROXY[version])
    # The header and the request in one piece, too.
    webSocket.send(upgrade(target(transport="websocket", sid=sid)) + makeFrame("2probe"))
    assert (await webSocket.response()).status == 101
    assert await webSocket.text() == "3probe"
    webSocket.send(makeFrame("5") + makeFrame("4on WebSocket"))
    assert await webSocket.text() == "4on WebSocket"

    second = await connectTo((await server.listening).getHost().port)
    second.send(PROXY[version] + upgrade())
    assert (await second.response()).status == 101
    assert (await second.text()).startswith("0{")
    assert addresses == ["203.0.113.9", "203.0.113.9"]
    for wire in (polling, webSocket, second):
        wire.drop()
        await wire.lost()


@pytest_twisted.ensureDeferred
async def test_notBehindTheProxy(proxied: Any, serve: Any) -> None:
    """Whoever comes without the proxy, and could claim any address, gets no answer."""
    server, addresses = proxied
    wire = await connectBehind(server, b"")
    wire.send(http("GET", target()))
    assert await wire.lost() == b""
    assert addresses == []


def test_proxyProtocolOfAProcess(start: Any, freePort: int, tmp_path: Path) -> None:
    """The access log of `twistd engineio` has the client's own address."""
    start(f"--listen=haproxy:tcp:{freePort}:interface=127.0.0.1", "--access-log=access.log")
    with talking(freePort) as talk:
        talk.connection.sendall(PROXY["1"])
        talk.echo("hello")
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ['"203.0.113.9"'] * 3


# The access log


def test_accessLog(start: Any, freePort: int, tmp_path: Path) -> None:
    """A line for each request, WebSockets too, in the combined format, and no session id in any."""
    service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=access.log")
    with talking(freePort) as talk:
        sid = talk.echo("hello")
        # Names of parameters may be written so, and still be understood.
        talk.connection.sendall(http("POST", target(**{"%73id": sid}), [("Referer", "/x"), ("User-Agent", "A")], b"4x"))
        assert talk.response() == (200, b"ok")
        talk.connection.sendall(http("GET", target(sid="none")))
        assert talk.response()[0] == 400
        talk.connection.sendall(upgrade(target(transport="websocket", sid=sid)))
        assert talk.response()[0] == 101
    assert service.stop() == -signal.SIGTERM
    text = (tmp_path / "access.log").read_text()
    assert sid not in text
    requests = [line.partition('] "')[2] for line in text.splitlines()]
    shown = sid[:6] + "..."
    assert [line.rpartition('"-" "-"')[0] for line in requests[1:3]] == [
        f'POST /engine.io/?EIO=4&transport=polling&sid={shown} HTTP/1.1" 200 2 ',
        f'GET /engine.io/?EIO=4&transport=polling&sid={shown} HTTP/1.1" 200 6 ',
    ]
    assert requests[3:] == [
        f'POST /engine.io/?EIO=4&transport=polling&%73id={shown} HTTP/1.1" 200 2 "/x" "A"',
        'GET /engine.io/?EIO=4&transport=polling&sid=no... HTTP/1.1" 400 41 "-" "-"',
        f'GET /engine.io/?EIO=4&transport=websocket&sid={shown} HTTP/1.1" 101 - "-" "-"',
    ]


def test_accessLogBehindAProxy(start: Any, freePort: int, tmp_path: Path) -> None:
    """With `trustedProxies` the log has the client's own address, of files too; one that contradicts itself its own."""
    start(
        f"--listen=tcp:{freePort}:interface=127.0.0.1",
        "--access-log=access.log",
        "--trusted-proxies=127.0.0.1",
        "--id-prefix=here.",
        "--static=.",
    )
    forwarded = [("X-Forwarded-For", "2001:db8::7")]
    with talking(freePort) as talk:
        opened = talk.ask(http("GET", target(), forwarded)).decode()
        sid = opened.partition('"sid":"')[2].partition('"')[0]
        talk.ask(http("POST", target(sid=sid), [("X-Forwarded-For", "203.0.113.9")], b"4hello"))
        talk.ask(http("GET", "/access.log", forwarded))
        contradiction = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.8")]
        talk.connection.sendall(http("GET", "/none", contradiction))
        assert talk.response()[0] == 404
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ['"2001:db8::7"', '"203.0.113.9"', '"2001:db8::7"', '"127.0.0.1"']
    assert f"&sid={sid[: 6 + len('here.')]}... HTTP" in lines[1]


# In the background, and as another user


def test_inTheBackground(tmp_path: Path, freePort: int) -> None:
    """Without -n the command returns when the port is open; the process has a pid file, and SIGTERM ends it."""
    arguments = [command("twistd"), "--pidfile=here.pid", "--logfile=here.log", "engineio"]
    listening = f"--listen=tcp:{freePort}:interface=127.0.0.1"
    subprocess.run([*arguments, listening, "--access-log=access.log"], cwd=tmp_path, check=True, timeout=DEADLINE)
    pid = int((tmp_path / "here.pid").read_text())
    try:
        with talking(freePort) as talk:
            talk.echo("hello")
        second = subprocess.run(
            [command("twistd"), "--pidfile=other.pid", "--logfile=other.log", "engineio", listening],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert second.returncode == 1
        assert f"{listening.replace('=', ' ', 1)}: cannot listen (Address already in use)" in second.stderr
        assert f"{listening.replace('=', ' ', 1)}: cannot listen (" in (tmp_path / "other.log").read_text()
        waitUntil(lambda: not (tmp_path / "other.pid").exists(), "the end of the second process")
    finally:
        os.kill(pid, signal.SIGTERM)
        waitUntil(lambda: not isAlive(pid), "the end of the process")
    assert not (tmp_path / "here.pid").exists()
    assert len((tmp_path / "access.log").read_text().splitlines()) == 3
    assert "Traceback" not in (tmp_path / "here.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone may become another user")
def test_asAnotherUser() -> None:
    """Started by root, it opens what root alone may, and serves as the user it is told to be."""
    nobody = pwd.getpwnam("nobody")
    port = next(each for each in range(1023, 600, -1) if isFree(each))
    # Not of pytest's, which nobody else may read. For the log and the socket there is a folder that is the user's.
    with tempfile.TemporaryDirectory() as name, services(Path(name)) as start:
        Path(name).chmod(0o755)
        serveAs(nobody, port, Path(name), start)


def serveAs(nobody: pwd.struct_passwd, port: int, folder: Path, start: Any) -> None:
    (folder / "run").mkdir()
    os.chown(folder / "run", nobody.pw_uid, nobody.pw_gid)
    (folder / "page.html").write_text("<p>hello</p>")
    service = start(
        f"--listen=tcp:{port}:interface=127.0.0.1",
        "--listen=unix:run/app.sock:mode=666",
        "--static=.",
        "--access-log=run/access.log",
        by=[command("twistd"), "-n", "--uid=nobody", f"--gid={nobody.pw_gid}", "--pidfile=run/twistd.pid"],
        ports=2,
    )
    with talking(port) as talk:
        assert talk.ask(http("GET", "/page.html")) == b"<p>hello</p>"
        talk.echo("hello")
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        uids = [line.split()[1:] for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))]
        assert uids == [[str(nobody.pw_uid)] * 4, [str(nobody.pw_gid)] * 4]
    with talking(folder / "run" / "app.sock") as talk:
        talk.echo("hello")
    assert service.stop() == -signal.SIGTERM
    assert "Traceback" not in service.said
    assert {each.name for each in (folder / "run").iterdir()} == {"access.log"}
    assert len((folder / "run" / "access.log").read_text().splitlines()) == 7


def isFree(port: int) -> bool:
    with socket.socket() as trying:
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# twist


def test_twist(start: Any, tmp_path: Path, freePort: int) -> None:
    """`twist engineio` does the same: it serves, and SIGTERM ends it cleanly; what is wrong is one line."""
    (tmp_path / "server.toml").write_text(
        f'listen = ["tcp:{freePort}:interface=127.0.0.1"]\npingInterval = 777\nstatic = "."\n'
    )
    service = start("--config=server.toml", by=[command("twist")])
    with talking(freePort) as talk:
        assert b'"pingInterval":777,' in talk.ask(http("GET", target()))
        assert b"pingInterval" in talk.ask(http("GET", "/server.toml"))
        second = start("--config=server.toml", by=[command("twist")])
        problem = f"twist engineio: --listen tcp:{freePort}:interface=127.0.0.1: cannot listen (Address already in use)"
        assert second.ended() == 1
        assert problem in second.said
        talk.echo("hello")
    assert service.stop() == -signal.SIGTERM
    assert [each.name for each in tmp_path.iterdir()] == ["server.toml"]
    assert all(
        json.loads(line.lstrip("\x1e"))["log_level"]["name"] == "info" for line in service.said.splitlines() if line
    )
    wrong = start("--ping-interval=soon", by=[command("twist")])
    expected = "twist engineio: --ping-interval soon: expected a whole number of milliseconds, 1 or more\n"
    assert (wrong.ended(), wrong.said) == (1, expected)
