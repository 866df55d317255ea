"""
For the tests of deployments: the real nginx and HAProxy, started with the files of examples/deployment.

Of those files only ports, paths, users and times are changed. L{Front} is what clients then see: an L{Arena} over TLS.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.ssl import CertificateOptions

from engineio_twisted.session.emitter import EventEmitter

from ..kit.tools import require
from .markdown import blocksOf
from .wire import Arena, LostError, Response, Wire, eventually, http, target, within

FILES = Path(__file__).parents[2] / "examples" / "deployment"
PAGES = Path(__file__).parents[2] / "docs" / "deployment"
PATIENCE = 60

PACKAGES = {"nginx": "nginx-light"}
"""Debian's packages of programs, where they have another name."""

PROGRAMS = {
    "nginx.conf": "nginx",
    "nginx-one.conf": "nginx",
    "haproxy-one.cfg": "haproxy",
    "haproxy.cfg": "haproxy",
    "haproxy-cookie.cfg": "haproxy",
}
"""The configurations, and the program that each is for."""

# What a configuration of nginx for a site stands in, and where the program may write.
NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def executable(name: str) -> str:
    """The path of a program of Debian; skips where it is missing."""
    # Those of an administrator are not on everybody's path.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    require(found is not None, f"{name} (Debian's package {PACKAGES.get(name, name)})")
    assert found is not None
    return found


def changed(text: str, changes: Mapping[str, str]) -> str:
    """A text with passages replaced, each of which has to be there."""
    for old, new in changes.items():
        assert old in text, f"there is no {old!r}"
        text = text.replace(old, new)
    return text


def blocks(page: str) -> list[str]:
    """The files, and parts of files, that a page of docs/deployment shows."""
    return [each.text for each in blocksOf(PAGES / page) if not each.isCommands]


def commands(page: str) -> list[str]:
    """The commands of a page of docs/deployment."""
    return [line for each in blocksOf(PAGES / page) if each.isCommands for line in each.text.splitlines()]


@attrs.frozen
class Certificate:
    """A certificate for loopback that its key has signed itself, as files: each alone, and both in one."""

    key: Path
    chain: Path
    both: Path
    serial: int


def makeCertificate(folder: Path, chained: bool = False) -> Certificate:
    """
    Write a new key and its certificate into a folder; what was there under the same names is replaced.

    @param chained: whether another certificate vouches for it, and for that one one more, in `root.pem`.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = serialization.Encoding.PEM
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signer: Any = None
    chain = b""
    for name in ["root", "intermediate", "localhost"] if chained else ["localhost"]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer, issuersKey = signer or (subject, key)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        if name == "localhost":
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        else:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        signed = builder.sign(issuersKey, hashes.SHA256())
        signer = (subject, key)
        if name == "root":
            (folder / "root.pem").write_bytes(signed.public_bytes(pem))
        else:
            chain = signed.public_bytes(pem) + chain
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # As certbot names them.
    certificate = Certificate(
        folder / "privkey.pem", folder / "fullchain.pem", folder / "both.pem", signed.serial_number
    )
    certificate.key.write_bytes(private)
    certificate.chain.write_bytes(chain)
    certificate.both.write_bytes(chain + private)
    return certificate


class Front(Arena):
    """A proxy as clients see it: over TLS."""

    def __init__(self, port: int, plainPort: int, folder: Path, command: Sequence[str]) -> None:
        # The application is elsewhere: behind it.
        super().__init__(EventEmitter(), port, echoes=False)
        self.plainPort = plainPort
        # From which clients come.
        self.address = "127.0.0.1"
        self.folder = folder
        self._command = command
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start the proxy, and wait until it listens."""
        log = self.folder / "output.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        waitUntilListening(self.port, self.process, log)

    def stop(self) -> None:
        """Stop the proxy, which closes all its connections."""
        # Not killed: the workers of nginx would outlive it.
        self.process.terminate()
        self.process.wait(PATIENCE)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def connect(self, wires: list[Wire] | None = None) -> Wire:
        from twisted.internet import reactor

        endpoint = SSL4ClientEndpoint(
            reactor, "127.0.0.1", self.port, CertificateOptions(verify=False), bindAddress=(self.address, 0)
        )
        try:
            wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        except ConnectError as error:
            raise LostError("no connection") from error
        (self.wires if wires is None else wires).append(wire)
        return wire

    async def reload(self) -> None:
        """Have the proxy read its configuration again, as for a new certificate, and wait until another worker runs."""
        isNginx = (self.folder / "nginx.conf").exists()
        # It listens before it has its workers, and until then HAProxy ignores the signal.
        await eventually(lambda: self._workers() and (isNginx or "Loading success" in self.log()), "the first worker")
        before = self._workers()
        self.process.send_signal(signal.SIGHUP if isNginx else signal.SIGUSR2)
        await eventually(lambda: self._workers() - before, "a new worker")

    def _workers(self) -> set[str]:
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def log(self) -> str:
        """What the proxy wrote into its logs."""
        return "".join(each.read_text() for each in self.folder.glob("*.log"))


class Visitor:
    """A browser on polling: one connection, on which it asks for one thing after the other, and its cookies."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._wire: Wire | None = None
        self.cookies: dict[str, str] = {}
        self.sid = ""

    async def ask(self, method: str, body: bytes | None = None, **query: object) -> Response:
        """Send a request, and read the answer."""
        if self._wire is None or self._wire.isLost:
            self._wire = await self._front.connect()
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._wire.send(http(method, target(**query), [("Cookie", cookies)] if cookies else [], body))
        response = await self._wire.response()
        if "set-cookie" in response.headers:
            name, _, value = response.headers["set-cookie"].partition(";")[0].partition("=")
            self.cookies[name] = value
        return response

    async def open(self) -> str:
        """Open a session; return its id."""
        self.sid = (await self.ask("GET")).packets[0].partition('"sid":"')[2].partition('"')[0]
        assert self.sid
        return self.sid

    async def echo(self, text: str) -> None:
        """Send a message, and have it come back in the answer to the next request."""
        response = await self.ask("POST", b"4" + text.encode(), sid=self.sid)
        assert (response.status, response.body) == (200, b"ok")
        response = await self.ask("GET", sid=self.sid)
        assert response.status == 200, response
        assert response.packets == ["4" + text]

    async def lost(self) -> None:
        """Wait until the proxy closes the connection."""
        assert self._wire is not None
        await self._wire.lost()

    async def close(self) -> None:
        """End the session."""
        assert (await self.ask("POST", b"1", sid=self.sid)).body == b"ok"


@contextmanager
def ports(count: int) -> Iterator[list[int]]:
    """Ports of loopback for programs that must be told some: nobody else is given them in this context."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            # Bound, but not listening, as the fixture `freePort` does.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def waitUntilListening(port: int, process: subprocess.Popen[Any], log: Path) -> None:
    """Wait until something listens on a port of loopback, and look whether the program that is to do so still runs."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, f"it ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"it doesn't listen: {log.read_text()}"
            time.sleep(0.01)


def write(
    name: str,
    folder: Path,
    certificate: Certificate,
    listen: Sequence[int],
    backends: Sequence[int],
    changes: Mapping[str, str],
    isHealthServed: bool,
) -> list[str]:
    """
    Write a configuration of examples/deployment into a folder; return the command that runs it in the foreground.

    @param listen: the ports for TLS and for what is redirected there.
    @param backends: the ports of the processes.
    @param changes: what else is replaced.
    @param isHealthServed: whether the processes have `/ready`; otherwise the proxy looks whether they listen.
    """
    secure, plain = listen
    replaced = {f"127.0.0.1:{3000 + number}": f"127.0.0.1:{port}" for number, port in enumerate(backends, 1)}
    if PROGRAMS[name] == "nginx":
        replaced |= {
            "listen 80": f"listen 127.0.0.1:{plain}",
            "listen 443": f"listen 127.0.0.1:{secure}",
            "/etc/letsencrypt/live/example.com/fullchain.pem": str(certificate.chain),
            "/etc/letsencrypt/live/example.com/privkey.pem": str(certificate.key),
            "/var/log/nginx/access.log": f"{folder}/access.log",
            "/var/www/html": f"{folder}/html",
        }
        (folder / "html").mkdir(exist_ok=True)
        (folder / "html" / "index.html").write_text("<p>the site</p>")
        (folder / "site.conf").write_text(changed((FILES / name).read_text(), {**changes, **replaced}))
        # The workers of an administrator's nginx give the rights up that the folder of a test asks for.
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user))
        return [executable("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    replaced |= {
        "bind :80": f"bind 127.0.0.1:{plain}",
        "bind :443": f"bind 127.0.0.1:{secure}",
        "/etc/haproxy/certs/example.com.pem": str(certificate.both),
        "/run/haproxy/admin.sock": f"{folder}/admin.sock",
        "maxconn 20000": "maxconn 200",
        "log /dev/log local0": "log stdout format raw local0",
        "    user haproxy\n    group haproxy\n": "",
    }
    if not isHealthServed:
        replaced["    option httpchk GET /ready\n"] = ""
    (folder / "haproxy.cfg").write_text(changed((FILES / name).read_text(), {**changes, **replaced}))
    return [executable("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


@contextmanager
def front(
    name: str,
    folder: Path,
    certificate: Certificate,
    backends: Sequence[int],
    changes: Mapping[str, str] | None = None,
    isHealthServed: bool = False,
    isReloadable: bool = False,
) -> Iterator[Front]:
    """Run a proxy with a configuration of examples/deployment; parameters as of L{write}."""
    with ports(2) as listen:
        command = write(name, folder, certificate, listen, backends, changes or {}, isHealthServed)
        if isReloadable and PROGRAMS[name] == "haproxy":
            # As a service of systemd: a master, which puts another worker beside the old one.
            command.insert(1, "-W")
        here = Front(*listen, folder, command)
        try:
            here.start()
            yield here
        finally:
            here.stop()
