"""
TLS with a certificate that is renewed while the server runs: the endpoint C{tls-files:}.

Twisted's C{ssl:} reads its files once, and C{tls:} its folder again only when a client asks for a name that it doesn't
know. `twisted/plugins/engineio_plugin.py` makes this endpoint known; it needs the extra C{tls}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto
from OpenSSL.crypto import X509, PKey
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from ..web.descriptions import describedEndpoint

CHECK_INTERVAL = 1.0
"""Seconds: how often it is looked whether the files are others, at most, and only when somebody connects."""

T = TypeVar("T")


class CertificateError(ValueError):
    """A certificate or its key can't be used; the text names the file, and says why."""


def _read(path: str, load: Callable[[bytes], T], expected: str) -> T:
    try:
        with open(path, "rb") as file:
            return load(file.read())
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{path}: expected {expected}, as PEM") from None


def _asBytes(public: Any) -> bytes:
    written: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return written


def loadContext(certificate: str, key: str) -> tuple[SSL.Context, str]:
    """
    Read a certificate and its key, and make a context of them for servers: TLS 1.2 and later.

    @param certificate: the path of a PEM file: the certificate, and behind it those that vouch for it.
    @param key: the path of the PEM file of its private key, which may be the same.
    @return: the context, and until when the certificate is valid.
    @raise CertificateError: they can't be used.
    """
    chain = _read(certificate, load_pem_x509_certificates, "certificates")
    private: Any = _read(key, partial(load_pem_private_key, password=None), "a private key without a password")
    if _asBytes(chain[0].public_key()) != _asBytes(private.public_key()):
        raise CertificateError(f"{key}: isn't the key of the first certificate in {certificate}")
    first, *others = map(X509.from_cryptography, chain)
    try:
        options = CertificateOptions(
            privateKey=PKey.from_cryptography_key(private), certificate=first, extraCertChain=others
        )
        context = options.getContext()
        context.set_alpn_select_callback(_chooseProtocol)
        return context, f"{chain[0].not_valid_after_utc:%Y-%m-%d}"
    except (SSL.Error, TypeError) as error:
        raise CertificateError(f"{certificate}: cannot be used by OpenSSL ({error})") from None


class NoCommonProtocol(SSL.Error):
    """A client offers only protocols that aren't spoken here; it gets the alert C{no_application_protocol}."""

    def __init__(self) -> None:
        # As those of pyOpenSSL: what Twisted looks at.
        super().__init__([("SSL routines", "", "no application protocol")])


class _Connection(SSL.Connection):
    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except NoCommonProtocol:
            # OpenSSL has its own list of errors, one for all connections. pyOpenSSL leaves it as it is when a callback
            # raises, and would take it for an error of the connection that comes next. This empties it.
            with suppress(crypto.Error):
                crypto.load_certificate(crypto.FILETYPE_PEM, b"")
            raise


def _chooseProtocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """
    Choose among the protocols that a client offers (ALPN) the one that the factory of a connection likes best.

    @raise NoCommonProtocol: there is none (RFC 7301, 3.2). Twisted itself answers with C{internal_error} then.
    """
    factory = getattr(getattr(connection.get_app_data(), "factory", None), "wrappedFactory", None)
    spoken = factory.acceptableProtocols() if IProtocolNegotiationFactory.providedBy(factory) else []
    if not spoken:
        return SSL.NO_OVERLAPPING_PROTOCOLS
    for each in spoken:
        if each in offered:
            return each
    raise NoCommonProtocol


@implementer(IOpenSSLServerConnectionCreator)
class RenewedCertificate:
    """
    What makes the TLS side of each connection, with the certificate that the files hold at that time.

    Connections that are there keep theirs. If new files can't be used, the certificate stays, the log says why, and
    they are tried again.

    @param certificate: as of L{loadContext}.
    @param key: the same.
    @raise CertificateError: the files can't be used.
    """

    _log = Logger()

    def __init__(self, certificate: str, key: str, clock: IReactorTime) -> None:
        self._files = (certificate, key)
        self._clock = clock
        self._checked = clock.seconds()
        # Looked at before they are read: what changes meanwhile is read once more.
        self._seen = self._look()
        self._problem: str | None = None
        self._context, _ = loadContext(*self._files)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Return the TLS side of a new connection."""
        now = self._clock.seconds()
        # The clock may have been set back.
        if not 0 <= now - self._checked < CHECK_INTERVAL:
            self._checked = now
            self._renew()
        connection = _Connection(self._context, None)
        # By it the protocols are found that are spoken here.
        connection.set_app_data(protocol)
        return connection

    def _look(self) -> list[tuple[int, ...] | None]:
        """Return a value that differs after a file was replaced or written, or its mode or owner was changed."""
        found: list[tuple[int, ...] | None] = []
        for path in self._files:
            try:
                status = os.stat(path)
                written = (status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino, status.st_size)
                # A change of mode or owner changes the time of the last status change too, but not in all file systems.
                found.append((*written, status.st_mode, status.st_uid, status.st_gid))
            except OSError:
                found.append(None)
        return found

    def _renew(self) -> None:
        seen, self._seen = self._seen, self._look()
        isChanged = seen != self._seen
        if not isChanged and self._problem is None:
            return
        try:
            self._context, until = loadContext(*self._files)
        except CertificateError as error:
            # Tried again until it works, and told once.
            if isChanged or str(error) != self._problem:
                self._log.error("The TLS certificate stays as it was: {problem}", problem=error)
            self._problem = str(error)
        else:
            self._problem = None
            self._log.info("The TLS certificate is that of {file} now, until {until}", file=self._files[0], until=until)


@implementer(IStreamServerEndpoint)
class TLSFilesEndpoint:
    """Another endpoint, whose connections are TLS."""

    def __init__(self, endpoint: IStreamServerEndpoint, certificate: RenewedCertificate, clock: IReactorTime) -> None:
        self._endpoint = endpoint
        self._certificate = certificate
        self._clock = clock

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen with a factory, as the other endpoint does."""
        wrapped = TLSMemoryBIOFactory(self._certificate, False, factory, self._clock)
        listening: Deferred[IListeningPort] = self._endpoint.listen(wrapped)
        return listening


def parse(reactor: Any, *args: str, certificate: str = "", key: str = "", **keywords: str) -> TLSFilesEndpoint:
    """
    Return the endpoint of a description: C{tls-files:tcp:443:certificate=fullchain.pem:key=privkey.pem}.

    @param args: with C{keywords} the description of another endpoint, which connections come by.
    @param key: the file of the private key; by default that of the certificate.
    @raise ValueError: there is no other endpoint, no certificate, or it can't be used.
    """
    if not args or not certificate:
        raise ValueError(
            "expected tls-files:tcp:443:certificate=FILE:key=FILE, or another endpoint in place of tcp:443"
        )
    named = [f"{name}={quoteStringArgument(value)}" for name, value in keywords.items()]
    inner = describedEndpoint(reactor, ":".join([*map(quoteStringArgument, args), *named]))
    return TLSFilesEndpoint(inner, RenewedCertificate(certificate, key or certificate, reactor), reactor)
