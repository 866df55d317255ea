"""
What TLS and perMessageDeflate cost the server: CPU for each echo on a WebSocket, and memory for each session.

Run as `python benchmarks/extras.py`. The load generator speaks neither, so a client in Python has the messages sent,
one in flight in each of eight sessions. It is slow, but what counts is the CPU of the server alone. Each is compared
with the same client and the same messages without.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import struct
import tempfile
import time
import zlib
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from harness.processes import Running, Server, bound, cpuSeconds, raiseFileLimit, residentKiB, running
from harness.servers import ALL, OURS

SESSIONS = 8
MANY = 300
WARM, SECONDS = 1.0, 2.0
ROUNDS = 3

SHORT = "x" * 32
LONG = json.dumps([{"id": each, "name": f"item {each * 7919 % 1000}", "price": each * 37 % 501} for each in range(80)])

OPENING = (
    "GET /engine.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
COMPRESSED = 0x40


class Session:
    """
    A session on WebSocket, which sends one message and waits for it.

    @param isSecure: whether over TLS.
    @param deflates: whether messages are compressed.
    """

    def __init__(self, port: int, text: str, isSecure: bool, deflates: bool) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isSecure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.connection = context.wrap_socket(self.connection)
        self._payload = b"4" + text.encode()
        self._deflates = deflates
        self._compressor = zlib.compressobj(wbits=-15)
        self._decompressor = zlib.decompressobj(wbits=-15)
        self.connection.sendall(OPENING.format(OFFER if deflates else "").encode())
        opening = b""
        while not opening.endswith(b"}"):
            opening += self.connection.recv(4096)
        assert (b"permessage-deflate" in opening) == deflates

    def send(self) -> None:
        payload, first = self._payload, 0x81
        if self._deflates:
            first |= COMPRESSED
            payload = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
            payload = payload.removesuffix(b"\0\0\xff\xff")
        length = len(payload)
        head = struct.pack("!BB", first, 0x80 | length) if length < 126 else struct.pack("!BBH", first, 0xFE, length)
        # Masked with zeros, which takes as long as any other mask.
        self.connection.sendall(head + bytes(4) + payload)

    def receive(self) -> None:
        first, length = self._read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._read(2))
        payload = self._read(length)
        assert bool(first & COMPRESSED) == self._deflates
        if self._deflates:
            payload = self._decompressor.decompress(payload + b"\0\0\xff\xff")
        assert payload == self._payload

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.connection.recv(size - len(data))
        return data


def makeCertificate(path: Path) -> None:
    """Write a key and a certificate that it has signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))


def cpu(here: Running, text: str, isSecure: bool, deflates: bool) -> float:
    """Return the microseconds of the server's CPU for each echo."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(SESSIONS):
            session = Session(here.port, text, isSecure, deflates)
            stack.enter_context(session.connection)
            selector.register(session.connection, selectors.EVENT_READ, session)
            session.send()
        begin, counted, before = time.monotonic(), -1, 0.0
        while (now := time.monotonic()) < begin + WARM + SECONDS:
            if counted < 0 and now > begin + WARM:
                counted, before = 0, cpuSeconds(here.process.pid)
            for key, _ in selector.select(1):
                key.data.receive()
                key.data.send()
                counted += counted >= 0
        return (cpuSeconds(here.process.pid) - before) / counted * 1_000_000


def kibPerSession(here: Running, text: str, isSecure: bool, deflates: bool) -> float:
    """Return the KiB that each session takes once it has sent and got a message."""
    with ExitStack() as stack:
        sizes = []
        for count in (20, MANY):
            for _ in range(count):
                session = Session(here.port, text, isSecure, deflates)
                stack.enter_context(session.connection)
                session.send()
                session.receive()
            sizes.append(residentKiB(here.process.pid))
        return (sizes[1] - sizes[0]) / MANY


def compare(title: str, server: Server, text: str, isSecure: bool, deflates: bool) -> None:
    """Print what a server costs, and what the plain one does with the same messages."""
    costs: dict[str, list[float]] = {"with": [], "without": []}
    sizes: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(ROUNDS):
        for name, each, *how in (("without", ALL[OURS], False, False), ("with", server, isSecure, deflates)):
            with running(each) as here, bound(isServer=False):
                costs[name].append(cpu(here, text, *how))
                sizes[name].append(kibPerSession(here, text, *how))
    with_, without = median(costs["with"]), median(costs["without"])
    print(
        f"{title}: {with_:.1f} µs an echo, {without:.1f} without: {with_ / without:.2f} times. "
        f"{median(sizes['with']):.0f} KiB a session, {median(sizes['without']):.0f} without"
    )


def main() -> None:
    raiseFileLimit()
    plain = ALL[OURS]
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "pem"
        makeCertificate(pem)
        secure = Server("tls", (*plain.command, "--tls", str(pem)), plain.environment)
        compare(f"TLS, {len(SHORT)} bytes", secure, SHORT, isSecure=True, deflates=False)
    compare(f"perMessageDeflate, {len(LONG)} bytes", ALL[f"{OURS}-deflate"], LONG, isSecure=False, deflates=True)


main()
