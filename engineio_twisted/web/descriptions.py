"""
Ports as descriptions name them: what Twisted makes of a description, with what has to be different here.

Twisted gives the file of a UNIX socket a mode, and removes it at the end, also if systemd has made it. Without
pyOpenSSL it doesn't say what is missing.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from typing import Any

from twisted.internet import posixbase, tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

try:
    from twisted.internet import unix
except ImportError:
    # Not on Windows.
    unix = None  # type: ignore[assignment]

WITHOUT_TLS = 'needs TLS, which is not installed: pip install "engineio_twisted[tls]"'
"""The error if pyOpenSSL is missing."""


BACKLOG = 4096
"""How many connections may wait to be accepted, unless a description says how many. The system may allow fewer."""

_HAVE_BACKLOG = ("ssl", "tcp", "tcp6", "unix")
"""Descriptions that take a backlog."""

_AROUND_OTHERS = ("haproxy", "tls-files")
"""Descriptions that pass it on to another that they contain."""

_SAYS_BACKLOG = re.compile(r"(?<!\\)(?:\\\\)*:backlog=")


def withBacklog(description: str) -> str:
    """Return a description with L{BACKLOG}, if it takes a backlog and has none."""
    kind, colon, rest = description.partition(":")
    while kind in _AROUND_OTHERS:
        kind, colon, rest = rest.partition(":")
    if not colon or kind not in _HAVE_BACKLOG or _SAYS_BACKLOG.search(description):
        return description
    return f"{description}:backlog={BACKLOG}"


def withoutSystemd(description: str) -> str:
    """Return a description that stands for a socket which another process has from systemd and passed on."""
    kind, colon, rest = description.partition(":")
    if kind in _AROUND_OTHERS:
        return f"{kind}{colon}{withoutSystemd(rest)}"
    return f"engineio-inherited{colon}{rest}" if kind == "systemd" else description


def leaveOpen(port: object) -> None:
    """Let a port leave its socket open when it closes, for the other processes that have it."""
    if isinstance(port, tcp.Port):
        # A private name of Twisted, as in AdoptedUNIXPort.
        port._shouldShutdown = False


def describedEndpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    Return the endpoint that a description stands for, as L{serverFromString} does, with L{BACKLOG} by default.

    @raise ValueError: it stands for none; or for one that needs what isn't installed.
    """
    if not isinstance(reactor, DescribedPorts):
        reactor = DescribedPorts(reactor)
    if getattr(reactor, "inheritsPorts", False):
        description = withoutSystemd(description)
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, withBacklog(description))
        return endpoint
    except (ImportError, NameError) as error:
        # Without pyOpenSSL Twisted leaves names out, some of which it uses all the same.
        if _hasTLS():
            raise
        raise ValueError(f"{WITHOUT_TLS} ({error})") from error
    except LookupError as error:
        if not description.startswith("systemd:"):
            raise
        raise ValueError("systemd has passed no such socket to this process") from error


def leavingAlone(endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """Return an endpoint that does what another does, but leaves the file of a socket alone that was adopted."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and not isinstance(endpoint.reactor, DescribedPorts):
        return AdoptedStreamServerEndpoint(DescribedPorts(endpoint.reactor), endpoint.fileno, endpoint.addressFamily)
    return endpoint


def _hasTLS() -> bool:
    try:
        from twisted.internet import ssl
    except ImportError:
        return False
    return ssl is not None


def _quiet(factory: Any) -> Any:
    """Keep what an endpoint has put around a site, as that of the PROXY protocol does, from logging that it starts."""
    if isinstance(factory, WrappingFactory):
        factory.noisy = False
    return factory


class DescribedPorts:
    """A reactor, as far as the endpoints of descriptions need one, whose UNIX ports are those of this module."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._makesUNIX = unix is not None and isinstance(reactor, posixbase.PosixReactorBase)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, *args: Any, **keywords: Any) -> IListeningPort:
        """Listen on a TCP port."""
        listening: IListeningPort = self._reactor.listenTCP(port, _quiet(factory), *args, **keywords)
        return listening

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> IListeningPort:
        """Listen on a socket that somebody else has made."""
        factory = _quiet(factory)
        if not self._makesUNIX or addressFamily != socket.AF_UNIX:
            port: IListeningPort = self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
            return port
        adopted = AdoptedUNIXPort(self._reactor, fileDescriptor, factory)
        adopted.startListening()
        return adopted

    def listenUNIX(self, address: Any, factory: Any, *args: Any, **keywords: Any) -> IListeningPort:
        """Listen on a new UNIX socket."""
        factory = _quiet(factory)
        if not self._makesUNIX:
            port: IListeningPort = self._reactor.listenUNIX(address, factory, *args, **keywords)
            return port
        names = ("backlog", "mode", "wantPID")
        own = UNIXPort(address, factory, reactor=self._reactor, **dict(zip(names, args, strict=False)), **keywords)
        own.startListening()
        return own


if unix is not None:

    class UNIXPort(unix.Port):
        """A UNIX socket, whose file is removed at the end only if it is still the one that was made."""

        _log = Logger()
        _path = b""
        _made: tuple[int, int] | None = None

        def startListening(self) -> None:
            """Make the socket, and listen."""
            super().startListening()
            self._path = self.getHost().name or b""
            self._made = self._identity()

        def _identity(self) -> tuple[int, int] | None:
            try:
                status = os.lstat(self._path)
            except (OSError, ValueError):
                # Removed, or of no file, as on Linux a name that begins with a NUL.
                return None
            return status.st_dev, status.st_ino

        def connectionLost(self, reason: Failure) -> None:
            """Close the socket, whatever becomes of its file."""
            try:
                if self._made is not None and self._made == self._identity():
                    os.unlink(self._path)
                if self.lockFile is not None:
                    self.lockFile.unlock()
            except OSError as error:
                # A folder in which only root may write.
                self._log.warn("{path} is left behind: {reason}", path=os.fsdecode(self._path), reason=error.strerror)
            tcp.Port.connectionLost(self, reason)

    class AdoptedUNIXPort(UNIXPort):
        """
        A UNIX socket that somebody else has made and goes on to use, such as systemd: its file stays as it is.

        @param fileDescriptor: of the socket, which listens already; the port has one of its own.
        """

        # A private name of Twisted (26.10), as that of a TCP port which is adopted. Shut down, the socket would be dead
        # for those who share it.
        _shouldShutdown = False

        def __init__(self, reactor: Any, fileDescriptor: int, factory: Any) -> None:
            adopted = socket.fromfd(fileDescriptor, socket.AF_UNIX, socket.SOCK_STREAM)
            super().__init__(adopted.getsockname(), factory, reactor=reactor)
            self._adopted = adopted

        def startListening(self) -> None:
            """Take connections."""
            # What Twisted's own ports do besides binding, giving a mode, and setting how many connections may wait.
            tcp._reservedFD.reserve()
            factory: Any = self.factory
            factory.doStart()
            self.connected = True
            self.socket = self._adopted
            self.fileno = self.socket.fileno  # type: ignore[method-assign]
            self.numberAccepts = 100
            self.startReading()


def isTLS(port: object) -> bool:
    """Return whether the connections of a port are TLS."""
    # It can't be without its module having been imported, which without pyOpenSSL is impossible.
    module: Any = sys.modules.get("twisted.protocols.tls")
    factory = getattr(port, "factory", None)
    while module is not None and factory is not None:
        if isinstance(factory, module.TLSMemoryBIOFactory):
            return True
        factory = getattr(factory, "wrappedFactory", None)
    return False


def urlOf(port: IListeningPort) -> str:
    """Return the address of a port, for a log."""
    return asURL(port.getHost(), isTLS(port))


def asURL(address: object, isSecure: bool = False) -> str:
    """
    Return an address as one that can be opened, for a log.

    @param isSecure: whether connections are TLS.
    """
    scheme = "https" if isSecure else "http"
    if isinstance(address, IPv4Address | IPv6Address):
        host = "localhost" if address.host in ("0.0.0.0", "::") else address.host  # noqa: S104
        return f"{scheme}://[{host}]:{address.port}" if ":" in host else f"{scheme}://{host}:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}:"
    return str(address)
