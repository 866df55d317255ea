"""The units of docs/deployment/systemd.md: checked by systemd, started by it, restarted without refusing anybody."""

from __future__ import annotations

import re
import select
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import IO, Any

import pytest

from ..kit.clients import pythonPath
from ..kit.fronts import FILES, blocks, changed, commands, executable, makeCertificate, ports
from ..kit.services import command, environment
from ..kit.wire import target

UNITS = ("engineio.socket", "engineio.service", "engineio@.socket", "engineio@.service")
SERVICES = [each for each in UNITS if each.endswith(".service")]
PATIENCE = 60
QUERY = target()
TWO_WORKERS = {"--workers auto": "--workers 2"}
"""How many there are is not to depend on the machine."""

# Systemd's own need a mount namespace of which containers allow but a part, its own user, or hide the code under test.
NOT_HERE = ("DynamicUser", "PrivateTmp", "ProtectHome", "ProtectKernelLogs", "ProtectKernelTunables")


def units(folder: Path, port: int | None = None) -> list[Path]:
    """Write the units into a folder, with the paths of this environment and, where a port is given, with that."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: (FILES / name).read_text() for name in UNITS}
    here = {"/opt/engineio/bin/twistd": command("twistd"), "/srv/engineio": str(FILES)}
    if port is not None:
        for name, there in (("engineio.socket", "127.0.0.1:3001"), ("engineio@.socket", "127.0.0.1:300%i")):
            texts[name] = changed(texts[name], {there: f"127.0.0.1:{port}"})
        here |= {f"{name}=yes\n": f"{name}=no\n" for name in NOT_HERE}
        here["[Service]\n"] = f'[Service]\nEnvironment="PYTHONPATH={pythonPath()["PYTHONPATH"]}"\n'
        texts["engineio.service"] = changed(texts["engineio.service"], TWO_WORKERS)
    for name in SERVICES:
        texts[name] = changed(texts[name], here)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in UNITS]


def ask(port: int, query: str = QUERY, body: bytes | None = None) -> str:
    """The text of an answer, which has to be a good one."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET" if body is None else "POST", query, body)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        return text
    finally:
        connection.close()


def talk(port: int) -> str:
    """Open a session, have a message come back, end it, and return its id."""
    sid = ask(port).partition('"sid":"')[2].partition('"')[0]
    session = f"{QUERY}&sid={sid}"
    assert ask(port, session, b"4hello") == "ok"
    assert ask(port, session) == "4hello"
    # With a session left, a stop would wait for it.
    assert ask(port, session, b"1") == "ok"
    return sid


@pytest.fixture
def port() -> Iterator[int]:
    with ports(1) as (port,):
        yield port


@pytest.mark.parametrize("withTLS", [False, True])
def test_verified(tmp_path: Path, withTLS: bool) -> None:
    """systemd's own check has nothing to say of the units."""
    units(tmp_path)
    for unit, name in (("engineio.socket", "tls-socket.conf"), ("engineio.service", "tls-service.conf")):
        text = (FILES / name).read_text().replace("/opt/engineio/bin/twistd", command("twistd"))
        if withTLS:
            (tmp_path / f"{unit}.d").mkdir()
            (tmp_path / f"{unit}.d" / "tls.conf").write_text(text)
    instances = [str(tmp_path / each.replace("@", "@1")) for each in UNITS]
    result = subprocess.run(
        [executable("systemd-analyze"), "verify", "--man=no", *instances], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", SERVICES)
def test_hardened(tmp_path: Path, name: str) -> None:
    """By its own measure, which goes to 10 for what is exposed, systemd finds the service well protected."""
    units(tmp_path)
    asked = [executable("systemd-analyze"), "security", "--offline=true", "--no-pager", str(tmp_path / name)]
    result = subprocess.run(asked, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", result.stdout)
    assert found is not None, result.stdout + result.stderr
    assert float(found[1]) < 2


def test_thePagesShowTheFiles() -> None:
    """What is copied from a page is what is tested here."""
    assert blocks("systemd.md") == [(FILES / name).read_text() for name in ("application.py", *UNITS)]
    ofTLS = ("tls-socket.conf", "tls-service.conf", "renewed.sh")
    assert blocks("tls.md") == [(FILES / name).read_text() for name in ofTLS]


@contextmanager
def activated(name: str, port: int, changes: Mapping[str, str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """What a file of units starts, as systemd starts it when the first connection comes to the port."""
    (start,) = re.findall(r"^ExecStart=(\S(?:.*\\\n)*.*)$", (FILES / name).read_text(), re.MULTILINE)
    here = {"/opt/engineio/bin/twistd": command("twistd"), "\\\n": ""}
    passed = [f"--setenv={name}={value}" for name, value in {**environment(), **pythonPath(), **variables}.items()]
    arguments = [
        f"--listen=127.0.0.1:{port}",
        "--fdname=engineio",
        *passed,
        *changed(start, {**here, **changes}).split(),
    ]
    started = [executable("systemd-socket-activate"), *arguments]
    with subprocess.Popen(started, cwd=FILES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert b"Listening on" in line, line
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            process.kill()


def test_activated(port: int) -> None:
    """The first connection starts the process, on a port that it didn't open itself."""
    with activated("engineio@.service", port, {"%i": "7"}):
        assert talk(port).startswith("7-")
        assert "ready" in ask(port, "/ready")


def test_workers(port: int, tmp_path: Path) -> None:
    """So it does with workers; systemd is told when they are ready, of a reload, and that the parent is alive."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(PATIENCE)
    (patience,) = re.findall(r"^WatchdogSec=(\d+)$", (FILES / "engineio.service").read_text(), re.MULTILINE)
    # More often than the page has it, so that the test needn't wait for it.
    assert int(patience) >= 30
    told = ""

    def notified(*expected: str) -> None:
        """Wait for notifications, in this order."""
        nonlocal told
        for each in expected:
            while each not in told:
                told += manager.recv(65536).decode() + "\n"
            told = told.partition(each)[2]

    with (
        manager,
        activated(
            "engineio.service", port, TWO_WORKERS, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000"
        ) as process,
    ):
        assert talk(port)[:2] in ("1-", "2-")
        notified("READY=1", "2 of 2 workers ready", "WATCHDOG=1")
        assert '"workers":2' in ask(port, "/ready")
        process.send_signal(signal.SIGHUP)
        notified("RELOADING=1", "READY=1\nSTATUS=2 of 2 workers ready", "WATCHDOG=1")
        assert talk(port)[:2] in ("3-", "4-")
        process.send_signal(signal.SIGTERM)
        notified("STOPPING=1")


def test_tls(port: int, tmp_path: Path) -> None:
    """It speaks TLS on such a port too, and a new certificate that certbot's hook copies is used without a restart."""
    lineage, copied = tmp_path / "live", tmp_path / "engineio"
    for each in (lineage, copied):
        each.mkdir()
    hook = changed((FILES / "renewed.sh").read_text(), {" -g engineio-tls": "", "/etc/engineio/": f"{copied}/"})

    def renew() -> int:
        serial = makeCertificate(lineage).serial
        subprocess.run(["sh", "-c", hook], env={**environment(), "RENEWED_LINEAGE": str(lineage)}, check=True)
        return serial

    def seen() -> int:
        trusting = ssl.create_default_context(cafile=str(copied / "fullchain.pem"))
        connection = HTTPSConnection("localhost", port, timeout=PATIENCE, context=trusting)
        try:
            connection.request("GET", QUERY)
            certificate: Any = connection.sock.getpeercert()
            assert connection.getresponse().status == 200
            return int(certificate["serialNumber"], 16)
        finally:
            connection.close()

    first = renew()
    with activated("tls-service.conf", port, {**TWO_WORKERS, "/etc/engineio": str(copied)}):
        assert seen() == first
        second = renew()
        deadline = time.monotonic() + PATIENCE
        while True:
            # Until it has looked, the client trusts another certificate than it sees.
            try:
                assert seen() == second
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < deadline, "the new certificate isn't used"


# A manager of systemd, for one user, where nobody sees it

MANAGER = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user/0 || exit 1
export XDG_RUNTIME_DIR=/run/user/0 HOME="$1"
/lib/systemd/systemd --user >"$1/systemd.log" 2>&1 &
for _ in $(seq 100); do
    systemctl --user list-units >/dev/null 2>&1 && echo ready && break
    sleep 0.1
done
while read -r line; do
    eval "$line" </dev/null
    echo "status $?"
done
# It takes away the groups of processes that it has made.
systemctl --user exit && wait
"""


class Manager:
    """systemd, told what to do by commands of a shell."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout

    def begin(self, command: str) -> None:
        """Start a command."""
        self._stdin.write(changed(command, {"systemctl ": "systemctl --user --no-pager "}) + "\n")
        self._stdin.flush()

    def finish(self) -> str:
        """Wait for its end, which has to be a good one; return what it said."""
        said = ""
        for line in self.stdout:
            if line.startswith("status "):
                assert line == "status 0\n", said
                return said
            said += line
        raise AssertionError(f"systemd ended: {said}")

    def __call__(self, command: str) -> str:
        self.begin(command)
        return self.finish()


@pytest.fixture
def manager(tmp_path: Path, port: int) -> Iterator[Manager]:
    """A manager that knows the units. With the fixture everything it has started ends."""
    unshare = executable("unshare")
    executable("systemctl")
    units(tmp_path / ".config" / "systemd" / "user", port)
    # As the first process of its own space of processes: whose end is that of all others.
    apart = [unshare, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", MANAGER]
    process = subprocess.Popen(
        [*apart, "sh", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        here = Manager(process)
        if here.stdout.readline() != "ready\n":
            # No program is missing: it is the rights of a container.
            pytest.skip("no systemd can be started here")
        yield here
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.communicate()


def restarts(page: str, unit: str) -> str:
    """The command of the page that restarts a unit."""
    (found,) = (each for each in commands(page) if each.endswith(f" restart {unit}"))
    return found


@pytest.mark.slow
def test_restarted(manager: Manager, port: int) -> None:
    """The first connection starts it; a restart refuses nobody, and who connects meanwhile gets a session."""
    manager("systemctl daemon-reload")
    manager("systemctl start engineio@1.socket")
    assert "inactive" in manager("systemctl show -p ActiveState engineio@1.service")
    first = talk(port)
    assert first.startswith("1-")
    before = manager("systemctl show -p MainPID engineio@1.service")
    manager.begin(restarts("systemd.md", "engineio@1"))
    opened = 0
    while not select.select([manager.stdout], [], [], 0)[0] or not opened:
        try:
            # Refused, this raises what isn't caught here.
            ask(port)
            opened += 1
        except (ConnectionResetError, HTTPException, AssertionError):
            # Accepted by the process that ends.
            pass
    manager.finish()
    assert manager("systemctl show -p MainPID engineio@1.service") != before
    assert talk(port).startswith("1-")
    (stop,) = (each for each in commands("systemd.md") if " stop " in each)
    manager(stop)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), PATIENCE)


@pytest.mark.slow
def test_reloaded(manager: Manager, port: int) -> None:
    """With workers, the service is active once one is ready; a reload replaces all of them and refuses nobody."""
    manager("systemctl daemon-reload")
    (enable,) = (each for each in commands("systemd.md") if " enable " in each and "engineio.service" in each)
    manager(changed(enable, {"enable --now": "start"}))
    shown = "systemctl show -p ActiveState -p MainPID -p StatusText engineio.service"
    assert "ActiveState=active" in manager(shown)
    assert talk(port)[:2] in ("1-", "2-")
    (parent,) = re.findall("^MainPID=.*$", manager(shown), re.MULTILINE)
    (reload,) = (each for each in commands("systemd.md") if each == "systemctl reload engineio")
    manager(reload)
    deadline = time.monotonic() + PATIENCE
    sids: list[str] = []
    while not {"3", "4"} <= {each.partition("-")[0] for each in sids}:
        # Refused, or not answered, this raises. A session of a worker that is replaced may end as soon as it has begun.
        sids.append(ask(port).partition('"sid":"')[2].partition('"')[0])
        with suppress(AssertionError):
            ask(port, f"{QUERY}&sid={sids[-1]}", b"1")
        assert time.monotonic() < deadline, "the workers aren't replaced"
    while not {"ActiveState=active", "StatusText=2 of 2 workers ready"} <= {*(now := manager(shown)).splitlines()}:
        assert time.monotonic() < deadline, now
    assert parent in now
    manager(restarts("systemd.md", "engineio"))
    assert parent not in manager(shown)
    assert talk(port)[:2] in ("1-", "2-")
