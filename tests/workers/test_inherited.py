"""Ports that the parent opens and workers accept on, over sockets of this process."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from engineio_twisted.operation.application import commandEndpoint
from engineio_twisted.operation.commandline import CommandFailed
from engineio_twisted.workers.inherited import InheritedReactor, RecordingReactor, openPort


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with TemporaryDirectory() as name:
        yield Path(name)


class Greeting(Protocol):
    """Says by which worker a connection was accepted, and closes it."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.factory.name)  # type: ignore[union-attr, attr-defined]
        self.transport.loseConnection()


def greeting(name: bytes) -> Any:
    factory: Any = Factory.forProtocol(Greeting)
    factory.name = name
    return factory


def now(deferred: Deferred[Any]) -> Any:
    """Return what a Deferred has fired with, or raise it."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    return results[0]


class Processes:
    """A parent and its workers, as far as ports go."""

    def __init__(self) -> None:
        self.parent = RecordingReactor(reactor)
        self.parents: list[Any] = []
        self.workers: list[Any] = []

    def open(self, *descriptions: str) -> None:
        self.parents += [now(openPort(self.parent, commandEndpoint(self.parent, each))) for each in descriptions]

    def inherited(self) -> list[tuple[tuple[str, ...], int]]:
        return [(each.description, os.dup(each.fileno())) for each in self.parent.opened]

    def worker(self, name: bytes, *descriptions: str) -> InheritedReactor:
        worker = InheritedReactor(reactor, self.inherited())
        try:
            for each in descriptions:
                self.workers.append(now(commandEndpoint(worker, each).listen(greeting(name))))
        except BaseException:
            worker.close()
            raise
        return worker

    async def stop(self, ports: list[Any]) -> None:
        while ports:
            await ports.pop().stopListening()


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop(made.workers)))
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop(made.parents)))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def asked(address: Any) -> bytes:
    """Return what somebody says who connects, without waiting in the thread of the reactor."""
    from twisted.internet.threads import deferToThread

    def ask() -> bytes:
        kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(kind) as client:
            client.settimeout(60)
            client.connect(address)
            return client.recv(100)

    return await deferToThread(ask)


TCP = ["tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\:\:1", "haproxy:tcp:0:interface=127.0.0.1", "0"]


@pytest_twisted.ensureDeferred
async def test_tcp(processes: Processes) -> None:
    """Each description gets the socket that the parent has opened for it; the parent accepts nothing itself."""
    both = [TCP[0], TCP[1], TCP[0]]
    processes.open(*both)
    before = descriptors()
    addresses = [(each.getHost().host, each.getHost().port) for each in processes.parents]
    assert [each.description for each in processes.parent.opened] == [
        ("TCP", "0", "127.0.0.1"),
        ("TCP", "0", "::1"),
        ("TCP", "0", "127.0.0.1"),
    ]
    worker = processes.worker(b"one", *both)
    assert worker.whatIsLeft() is None
    found = [(each.getHost().host, each.getHost().port) for each in processes.workers]
    assert found == addresses
    assert [await asked(each) for each in addresses] == [b"one"] * 3
    # One that ends leaves the port to the others.
    await processes.stop(processes.workers)
    processes.worker(b"two", *both)
    assert await asked(addresses[0]) == b"two"
    await processes.stop(processes.workers)
    await processes.stop(processes.parents)
    with pytest.raises(ConnectionRefusedError):
        await asked(addresses[0])
    assert descriptors() == before - 3


def test_aPortAlone(processes: Processes) -> None:
    """A number is IPv6 and IPv4 at once, and stays what the parent found possible."""
    processes.open("0")
    assert processes.parent.opened[0].description == ("TCP", "0", "::")
    processes.worker(b"one", "0")
    assert processes.workers[0].getHost() == processes.parents[0].getHost()


def test_aPortAloneWithoutIPv6(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the parent's system has no IPv6, workers listen on what the parent listens on."""
    listenTCP = RecordingReactor.listenTCP

    def withoutIPv6(self: Any, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if ":" in interface:
            raise CannotListenError(interface, port, OSError(errno.EAFNOSUPPORT, "none"))
        return listenTCP(self, port, factory, backlog, interface)

    monkeypatch.setattr(RecordingReactor, "listenTCP", withoutIPv6)
    processes.open("0")
    assert processes.parent.opened[0].description == ("TCP", "0", "")
    worker = processes.worker(b"one", "0")
    assert worker.whatIsLeft() is None
    assert processes.workers[0].getHost() == processes.parents[0].getHost()


@pytest_twisted.ensureDeferred
async def test_unix(processes: Processes, folder: Path) -> None:
    """The parent gives the file its mode and its lock, and removes it; a worker does none of that."""
    path = folder / "app.sock"
    description = f"unix:{path}:mode=600:lockfile=1"
    processes.open(description)
    for name in (b"one", b"two"):
        processes.worker(name, description)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asked(str(path)) == name
        await processes.stop(processes.workers)
        assert path.exists()
        assert (folder / "app.sock.lock").is_symlink()
    await processes.stop(processes.parents)
    assert [*folder.iterdir()] == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("around", ["", "haproxy:"])
async def test_systemd(processes: Processes, folder: Path, monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    """A socket of systemd's is the parent's, whatever descriptor a worker has; nobody changes or removes its path."""
    from twisted.internet.endpoints import _SystemdParser
    from twisted.python.systemd import ListenFDs

    path = folder / "app.sock"
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(0o640)
    made.listen(7)
    number = os.dup(made.fileno())
    monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs([number]))
    description = f"{around}systemd:domain=UNIX:index=0"
    processes.open(description)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    # As in a process to which systemd has passed none.
    monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs([]))
    processes.worker(b"one", description)
    if not around:
        assert await asked(str(path)) == b"one"
    await processes.stop(processes.workers)
    await processes.stop(processes.parents)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    # It listens still, for who is started next.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    made.close()


@pytest.mark.parametrize("kind", ["ssl", "tls", "tls-files"])
def test_tls(processes: Processes, tmp_path: Path, certificate: tuple[Path, Path], kind: str) -> None:
    """Endpoints of TLS listen as others do; a key that a worker can't read is a line of its own."""
    from twisted.protocols.tls import TLSMemoryBIOFactory

    key = tmp_path / "key.pem"
    key.write_bytes(certificate[0].read_bytes())
    signed = certificate[1]
    description = {
        "ssl": f"ssl:0:privateKey={key}:certKey={signed}:interface=127.0.0.1",
        "tls": f"tls:{tmp_path}:0:interface=127.0.0.1",
        "tls-files": f"tls-files:tcp:0:interface=127.0.0.1:certificate={signed}:key={key}",
    }[kind]
    processes.open(description)
    worker = processes.worker(b"one", description)
    assert worker.whatIsLeft() is None
    assert isinstance(processes.workers[0].factory, TLSMemoryBIOFactory)
    if kind == "tls-files":
        key.unlink()
        with pytest.raises(CommandFailed, match=r"cannot be read \(No such file or directory\)") as caught:
            processes.worker(b"two", description)
        assert caught.value.problem.startswith(f"--listen {description}: {key}: ")


def test_otherPorts(processes: Processes, folder: Path) -> None:
    """A worker that listens on something else, less or of another kind is told so, and keeps no descriptor."""
    processes.open(TCP[0], f"unix:{folder}/a")
    before = descriptors()
    with pytest.raises(CannotListenError) as caught:
        processes.worker(b"one", "tcp:0:interface=127.0.0.2")
    assert str(caught.value.socketError.strerror) == "the parent has opened no such port"
    assert descriptors() == before
    with pytest.raises(CannotListenError):
        processes.worker(b"one", f"unix:{folder}/a", f"unix:{folder}/a")
    # That of the first one, which is a port now.
    assert descriptors() == before + 1
    worker = processes.worker(b"one", TCP[0])
    assert worker.whatIsLeft() == (f"the parent has opened other ports than this worker listens on: UNIX {folder}/a")
    worker.close()
    (_, first), (_, second) = processes.inherited()
    mixed = InheritedReactor(reactor, [(("TCP", "0", "127.0.0.1"), second), (("UNIX", f"{folder}/a"), first)])
    with pytest.raises(CannotListenError, match="AF_UNIX"):
        now(commandEndpoint(mixed, TCP[0]).listen(greeting(b"one")))
    mixed.close()


def test_endpointsWithoutASocket() -> None:
    """What has no socket for workers is refused in the parent."""
    from twisted.internet.defer import succeed
    from twisted.internet.interfaces import IStreamServerEndpoint
    from zope.interface import implementer

    stopped: list[bool] = []

    class Port:
        def stopListening(self) -> None:
            stopped.append(True)

    @implementer(IStreamServerEndpoint)
    class Strange:
        def listen(self, factory: Any) -> Deferred[Any]:
            return succeed(Port())

    with pytest.raises(CannotListenError, match="no socket that workers can inherit"):
        now(openPort(RecordingReactor(reactor), Strange()))
    assert stopped == [True]


def test_descriptionsForWorkersAlone() -> None:
    """The description that stands for a socket of systemd's in a worker is none anywhere else."""
    with pytest.raises(CommandFailed, match="which workers inherit from their parent"):
        commandEndpoint(reactor, "engineio-inherited:domain=INET")
