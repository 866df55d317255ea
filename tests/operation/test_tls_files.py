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
from engineio_twisted.operation.tls import CHECK_INTERVAL, CertificateError, RenewedCertificate, loadContext

from ..kit.fronts import Certificate, makeCertificate
from ..kit.wire import Wire, http, makeFrame, target, upgrade, within


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
    monkeypatch.setattr("engineio_twisted.operation.tls.loadContext", None)
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

    monkeypatch.setattr("engineio_twisted.operation.tls.CertificateOptions", refuse)
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
    monkeypatch.setitem(sys.modules, "engineio_twisted.operation.tls", None)
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


# What comes a moment later


def isReadable(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether each file can be read: root may read all of them."""
    readable: dict[str, bool] = {}

    def openFile(path: str, mode: str) -> Any:
        if not readable.get(Path(path).name, True):
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    monkeypatch.setattr("engineio_twisted.operation.tls.open", openFile, raising=False)
    return readable


@pytest.mark.parametrize("how", ["mode", "nothing"])
@pytest.mark.parametrize("which", ["key", "chain"])
def test_notReadableYet(
    files: Certificate,
    log: list[str],
    loggedErrors: list[LogEvent],
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    how: str,
) -> None:
    """New files that can't be read yet are tried again until they can, whether or not anything else changes."""
    clock = Clock()
    readable = isReadable(monkeypatch)
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    other = makeCertificate(files.key.parent)
    path = getattr(files, which)
    readable[path.name] = False
    for _ in range(5):
        clock.advance(CHECK_INTERVAL)
        assert shown(renewed) == files.serial
    assert log == [f"The TLS certificate stays as it was: {path}: cannot be read (Permission denied)"]
    readable[path.name] = True
    if how == "mode":
        path.chmod(0o640)
    clock.advance(CHECK_INTERVAL)
    assert shown(renewed) == other.serial
    assert [each.partition(",")[0] for each in log[1:]] == [f"The TLS certificate is that of {files.chain} now"]
    clock.advance(CHECK_INTERVAL)
    assert shown(renewed) == other.serial
    assert (len(log), len(loggedErrors)) == (2, 1)
    loggedErrors.clear()


def test_anotherProblem(files: Certificate, log: list[str], loggedErrors: list[LogEvent]) -> None:
    """Each problem is logged once, as is the same after another change of the files."""
    clock = Clock()
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    for content in (None, b"nonsense", b"something else", None):
        if content is None:
            files.key.unlink(missing_ok=True)
        else:
            files.key.write_bytes(content)
        for _ in range(3):
            clock.advance(CHECK_INTERVAL)
            assert shown(renewed) == files.serial
    assert len(log) == len(loggedErrors) == 4
    loggedErrors.clear()


@pytest.mark.parametrize("change", ["mode", "owner", "group"])
def test_whoMayRead(files: Certificate, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A change of mode or owner counts as one of the file."""
    clock = Clock()
    renewed = RenewedCertificate(str(files.chain), str(files.key), clock)
    read: list[Any] = []
    monkeypatch.setattr(
        "engineio_twisted.operation.tls.loadContext", lambda *paths: read.append(paths) or (None, "now")
    )
    monkeypatch.setattr("engineio_twisted.operation.tls._Connection", lambda context, socket: Anything())
    status = os.stat(files.key)
    if change == "mode":
        files.key.chmod(status.st_mode ^ 0o40)
    elif os.getuid() == 0:
        os.chown(files.key, *((12345, -1) if change == "owner" else (-1, 12345)))
    else:
        pytest.skip("a change of owner needs root")
    clock.advance(CHECK_INTERVAL)
    renewed.serverConnectionForTLS(None)
    clock.advance(CHECK_INTERVAL)
    renewed.serverConnectionForTLS(None)
    assert read == [(str(files.chain), str(files.key))]


class Anything:
    def set_app_data(self, data: object) -> None:
        pass


# ALPN


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (None, None),
        (["http/1.1"], "http/1.1"),
        (["foo", "http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], "http/1.1"),
        (["h2"], "no application protocol"),
        (["foo"], "no application protocol"),
        (["foo", "http/1.0", "spdy/3"], "no application protocol"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest_twisted.ensureDeferred
async def test_protocols(files: Certificate, version: Any, offered: list[str] | None, expected: str | None) -> None:
    """A client gets a protocol that is spoken here, none if it asks for none, and an alert if it has no such one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if offered is not None:
        context.set_alpn_protocols(offered)
    server = listen(f"tls-files:tcp:0:interface=127.0.0.1:certificate={files.chain}:key={files.key}")
    port: Any = await server.listening

    def connect() -> str | None:
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as connection:
            try:
                with context.wrap_socket(connection) as secured:
                    return secured.selected_alpn_protocol()
            except ssl.SSLError as error:
                # Versions of OpenSSL write it in different ways.
                found = "no application protocol" in str(error).lower().replace("_", " ")
                return "no application protocol" if found else str(error)

    try:
        assert await within(deferToThread(connect), "a handshake") == expected
    finally:
        await within(server.close(), "the server to close")


@pytest_twisted.ensureDeferred
async def test_protocolsOfOthers(files: Certificate) -> None:
    """A client that is refused leaves nothing behind: another goes on, in its handshake and after it."""
    from OpenSSL import _util

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    server = listen(f"tls-files:tcp:0:interface=127.0.0.1:certificate={files.chain}:key={files.key}")
    port: Any = await server.listening

    def refused() -> None:
        other = ssl.create_default_context()
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        other.set_alpn_protocols(["foo"])
        connection = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20)
        with connection, pytest.raises(ssl.SSLError), other.wrap_socket(connection):
            pass

    def connect() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing)
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as connection:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    hello = outgoing.read()
                    connection.sendall(hello[:50])
                    refused()
                    connection.sendall(hello[50:])
                    incoming.write(connection.recv(65536))
            client.write(http("GET", target()))
            connection.sendall(outgoing.read())
            refused()
            received = b""
            while b"\r\n\r\n0{" not in received:
                incoming.write(connection.recv(65536))
                try:
                    received += client.read(65536)
                except ssl.SSLWantReadError:
                    continue
            return received

    try:
        assert (await within(deferToThread(connect), "an answer")).startswith(b"HTTP/1.1 200")
        assert _util.lib.ERR_peek_error() == 0
    finally:
        await within(server.close(), "the server to close")
