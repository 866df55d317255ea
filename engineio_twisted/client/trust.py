"""Which certificates the terminal tool trusts. It needs pyOpenSSL, which no other module of the client does."""

from __future__ import annotations

import re
from typing import Any

from OpenSSL.crypto import Error
from OpenSSL.SSL import Connection
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from ..protocol.errors import OptionError

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def trusting(name: str) -> BrowserLikePolicyForHTTPS:
    """
    Return a policy that trusts the authorities in a file, and no others.

    @param name: the name of the file, which has certificates in PEM.
    @raise OptionError: there is no such file, or no certificate in it.
    """
    try:
        with open(name, "rb") as file:
            certificates = [Certificate.loadPEM(each) for each in _PEM.findall(file.read())]
    except OSError as error:
        raise OptionError("contextFactory", name, error.strerror or str(error)) from None
    except Error:
        certificates = []
    if not certificates:
        raise OptionError("contextFactory", name, "expected a file with certificates in PEM")
    return BrowserLikePolicyForHTTPS(trustRootFromCertificates(certificates))


@implementer(IPolicyForHTTPS)
class AnyCertificate:
    """A policy that accepts any certificate, of anybody."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Return what makes the TLS of a connection."""
        return _Unverified(hostname.decode("ascii"))


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Connection:
        connection = Connection(self._context, None)
        if not isIPAddress(self._hostname) and not isIPv6Address(self._hostname):
            # Without a name a server that has several sites doesn't know which certificate to show.
            connection.set_tlsext_host_name(self._hostname.encode())
        return connection
