"""The endpoint `tls-files:`: a certificate that is renewed while the server runs."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol, serverFromString
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from engineio_twisted import listen
from engineio_twisted.tls import CHECK_INTERVAL, CertificateError, RenewedCertificate, loadContext

from .fronts import Certificate, makeCertificate
from .wire import Wire, http, makeFrame, target, upgrade, within


@pytest.fixture
def files(tmp_path: Path) -> Certificate:
    return makeCertificate(tmp_path, chained=True)


def shown(renewed: RenewedCertificate) -> int:
    """The serial number of the certificate that a connection would see now."""
    certificate = renewed.serverConnectionForTLS(None).get_certificate()
    assert certificate is not None
    return certificate.get_serial_number()


@pytest.fixture
def log() -> Any:
    """The texts of what is logged by the module."""
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == RenewedCertificate._log.namespace:
            said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


# Without a network


def test_renewed(files: Certificate, log: list[str]) -> None:
    """New files are used from the first connection a second later on, and read once; the log says so."""
    clock = Clock()
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    assert shown(renewed) == files.serial
    other = makeCertificate(files.key.parent)
    clock.advance(CHECK_INTERVAL - 0.1)
    assert shown(renewed) == files.serial
    clock.advance(0.1)
    assert shown(renewed) == other.serial
    clock.advance(CHECK_INTERVAL)
    assert shown(renewed) == other.serial
    assert [each.partition(", until")[0] for each in log] == [f"The TLS certificate is that of {files.chain} now"]
    assert clock.getDelayedCalls() == []


def test_notRenewed(files: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are the same are not read again."""
    clock = Clock()
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    monkeypatch.setattr("engineio_twisted.tls.loadContext", None)
    clock.advance(CHECK_INTERVAL)
    assert shown(renewed) == files.serial


def test_aRenewalInTwoSteps(files: Certificate, log: list[str], loggedErrors: list[LogEvent]) -> None:
    """A certificate without its key yet, or links to other files: the old one stays until both are there."""
    clock = Clock()
    live = files.key.parent / "live"
    live.mkdir()
    for each in (files.chain, files.key):
        (live / each.name).symlink_to(each)
    renewed = RenewedCertificate(str(live / files.chain.name), str(live / files.key.name), clock)
    folder = files.key.parent / "new"
    folder.mkdir()
    other = makeCertificate(folder)

    def link(new: Path) -> None:
        (folder / "link").symlink_to(new)
        os.replace(folder / "link", live / new.name)

    link(other.chain)
    for _ in range(3):
        clock.advance(CHECK_INTERVAL)
        assert shown(renewed) == files.serial
    problem = f"{live / files.key.name}: isn't the key of the first certificate in {live / files.chain.name}"
    assert log == [f"The TLS certificate stays as it was: {problem}"]
    link(other.key)
    clock.advance(CHECK_INTERVAL)
    assert shown(renewed) == other.serial
    assert len(log) == 2
    assert len(loggedErrors) == 1
    loggedErrors.clear()


@pytest.mark.parametrize(
    ("which", "content", "problem"),
    [
        ("chain", None, "cannot be read (No such file or directory)"),
        ("key", None, "cannot be read (No such file or directory)"),
        ("chain", b"", "expected certificates, as PEM"),
        ("chain", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "expected certificates, as PEM"),
        ("key", b"nonsense", "expected a private key without a password, as PEM"),
    ],
)
def test_brokenFiles(
    files: Certificate,
    log: list[str],
    loggedErrors: list[LogEvent],
    which: str,
    content: bytes | None,
    problem: str,
) -> None:
    """What can't be used changes nothing; one line says what is wrong, however many connect."""
    clock = Clock()
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    broken: Path = getattr(files, which)
    if content is None:
        broken.unlink()
    else:
        broken.write_bytes(content)
    for _ in range(3):
        clock.advance(CHECK_INTERVAL)
        assert shown(renewed) == files.serial
    assert log == [f"The TLS certificate stays as it was: {broken}: {problem}"]
    assert [event["log_level"] for event in loggedErrors] == [LogLevel.error]
    loggedErrors.clear()
    with pytest.raises(CertificateError) as caught:
        RenewedCertificate(str(files.chain), str(files.key), clock)
    assert str(caught.value) == f"{broken}: {problem}"


def test_aKeyWithAPassword(files: Certificate) -> None:
    """It is refused: there is nobody to ask."""
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(CertificateError, match="expected a private key without a password, as PEM"):
        loadContext(str(files.chain), str(files.key))


def test_whatOpenSSLRefuses(files: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is right, and weaker than the system allows, is refused with what OpenSSL says of it."""

    def refuse(*args: object, **keywords: object) -> None:
        raise SSL.Error([("SSL routines", "", "ee key too small")])

    monkeypatch.setattr("engineio_twisted.tls.CertificateOptions", refuse)
    with pytest.raises(CertificateError, match=r"fullchain.pem: cannot be used by OpenSSL \(.*ee key too small"):
        loadContext(str(files.chain), str(files.key))


def test_descriptions(files: Certificate) -> None:
    """Any other endpoint may be inside; of a key that isn't named the certificate's file is the place."""
    reactor = MemoryReactorClock()
    quoted = str(files.both).replace(":", r"\:")
    endpoint = serverFromString(reactor, f"tls-files:tcp:443:interface=127.0.0.1:backlog=7:certificate={quoted}")
    endpoint.listen(object())  # type: ignore[arg-type]
    ((port, _, backlog, interface),) = reactor.tcpServers
    assert (port, backlog, interface) == (443, 7, "127.0.0.1")
    endpoint = serverFromString(reactor, rf"tls-files:unix:/run/a\:b:certificate={quoted}:mode=660")
    endpoint.listen(object())  # type: ignore[arg-type]
    assert reactor.unixServers[0][0] == "/run/a:b"
    for wrong in ("tls-files:tcp:443", f"tls-files:certificate={quoted}"):
        with pytest.raises(ValueError, match="expected tls-files:tcp:443:certificate=FILE:key=FILE"):
            serverFromString(reactor, wrong)
    with pytest.raises(ValueError, match=r"/no/file: cannot be read \(No such file or directory\)"):
        serverFromString(reactor, "tls-files:tcp:443:certificate=/no/file")


def test_withoutTheExtra(files: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what TLS needs isn't installed, it is said what is."""
    monkeypatch.setitem(sys.modules, "engineio_twisted.tls", None)
    with pytest.raises(ValueError, match="needs the extra `tls` of engineio_twisted"):
        serverFromString(MemoryReactorClock(), f"tls-files:tcp:443:certificate={files.both}")


# Over real sockets


class Here:
    """A server that echoes over TLS, and connections to it."""

    def __init__(self, files: Certificate) -> None:
        description = f"tls-files:tcp:0:interface=127.0.0.1:certificate={files.chain}:key={files.key}"
        self.server = listen(description)
        self.server.on("connection", lambda socket: socket.on("message", socket.send) and None)
        self.port = 0
        self.wires: list[Wire] = []

    async def connect(self) -> tuple[Wire, int]:
        """A new connection, once its handshake is over, and the serial number of the certificate that it saw."""
        from twisted.internet import reactor

        self.port = (await self.server.listening).getHost().port
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", self.port, CertificateOptions(verify=False))
        wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        self.wires.append(wire)
        wire.send(http("GET", target()))
        assert (await wire.response()).status == 200
        return wire, wire.transport.getPeerCertificate().get_serial_number()


@pytest_twisted.async_yield_fixture
async def here(files: Certificate, serve: Any) -> Any:
    # `serve` isn't called; with it the check for leaks waits until closed connections have left the reactor.
    here = Here(files)
    yield here
    for wire in here.wires:
        if not wire.isLost:
            wire.drop()
            await wire.lost()
    await within(here.server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_served(here: Here, files: Certificate, runningReactor: Any) -> None:
    """Who connects after a renewal sees the new certificate; a session on a connection from before goes on."""
    wire, serial = await here.connect()
    assert serial == files.serial
    wire.send(upgrade())
    assert (await wire.response()).status == 101
    assert (await wire.text())[0] == "0"
    other = makeCertificate(files.key.parent)
    deadline = runningReactor.seconds() + 60
    while serial != other.serial:
        assert runningReactor.seconds() < deadline, "the new certificate isn't used"
        later, serial = await here.connect()
        later.drop()
        await later.lost()
        assert serial in (files.serial, other.serial)
    wire.send(makeFrame("4still here"))
    assert await wire.text() == "4still here"


@pytest_twisted.ensureDeferred
async def test_chainAndVersion(here: Here, files: Certificate) -> None:
    """A client that trusts the last of the chain gets through by TLS 1.2 and 1.3, and by nothing older."""
    await here.connect()
    trusting = ssl.create_default_context(cafile=str(files.chain.with_name("root.pem")))

    def version() -> str | None:
        with (
            socket.create_connection(("127.0.0.1", here.port), 60) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.version()

    assert await deferToThread(version) == "TLSv1.3"
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await deferToThread(version) == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    # Otherwise this side would refuse.
    trusting.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
        await deferToThread(version)


@pytest.mark.parametrize("back", [CHECK_INTERVAL, 3600, 30 * 365 * 86400])
def test_theClockIsSetBack(files: Certificate, back: float) -> None:
    """However far the system's clock is set back, new files are read with the next connection."""
    clock = Clock()
    clock.rightNow = 1_700_000_000
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    clock.rightNow -= back
    other = makeCertificate(files.key.parent)
    assert shown(renewed) == other.serial
