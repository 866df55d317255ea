"""
Ports that the parent opens and every worker accepts on: two reactors, as far as endpoints need one.

L{RecordingReactor} opens ports in the parent by the real reactor and notes them; nothing is ever accepted there. In a
worker L{InheritedReactor} opens none: the k-th listening of the same description adopts the k-th socket of that kind.
So every type of endpoint works, also one around another, without knowing of it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from ..web.descriptions import AdoptedUNIXPort, DescribedPorts, leaveOpen

Description = tuple[str, ...]
"""
What is listened on: C{("TCP", port, interface)}, C{("UNIX", path)}, or C{("adopted", family)}; all of it text.

For JSON the same as a list.
"""


@attrs.frozen
class OpenPort:
    """
    A port of the parent's.

    @ivar description: what was asked for.
    @ivar port: the port itself, which is open and never accepts.
    """

    description: Description
    port: Any

    def fileno(self) -> int:
        """Return the descriptor, for workers to inherit."""
        number: int = self.port.fileno()
        return number


def _tcp(port: int, interface: str) -> Description:
    return ("TCP", str(port), interface)


def _unix(address: Any) -> Description:
    return ("UNIX", os.fsdecode(address))


def _adopted(family: int) -> Description:
    return ("adopted", socket.AddressFamily(family).name)


class RecordingReactor:
    """
    The reactor of the parent, as endpoints see it: what they listen on is opened and noted.

    @ivar opened: the ports, in their order.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ports = DescribedPorts(reactor)
        self.opened: list[OpenPort] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def _note(self, description: Description, port: Any) -> IListeningPort:
        port.stopReading()
        leaveOpen(port)
        self.opened.append(OpenPort(description, port))
        listening: IListeningPort = port
        return listening

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Open a TCP port."""
        opened = self._ports.listenTCP(port, factory, backlog=backlog, interface=interface)
        return self._note(_tcp(port, interface), opened)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Open the TCP port of TLS."""
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """Make a UNIX socket, with its mode and its lock. The parent removes it at the end."""
        opened = self._ports.listenUNIX(address, factory, backlog=backlog, mode=mode, wantPID=wantPID)
        return self._note(_unix(address), opened)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> IListeningPort:
        """Take over a socket that somebody else has made, such as systemd, whose path stays as it is."""
        opened = self._ports.adoptStreamPort(fileDescriptor, addressFamily, factory)
        return self._note(_adopted(addressFamily), opened)


class InheritedReactor:
    """
    The reactor of a worker, as endpoints see it: what they listen on was opened by the parent.

    @param reactor: the real one.
    @param inherited: each description, in the order of the parent, and the descriptor of its socket. They are taken
        over: each is closed when its socket is adopted, or by L{close}.
    """

    inheritsPorts = True

    def __init__(self, reactor: Any, inherited: Iterable[tuple[Sequence[str], int]]) -> None:
        self._reactor = reactor
        self._left: list[tuple[Description, int]] = [(tuple(each), number) for each, number in inherited]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def whatIsLeft(self) -> str | None:
        """Return what is wrong if the parent has opened more than was listened on; None if all is adopted."""
        if not self._left:
            return None
        names = ", ".join(" ".join(each) for each, _ in self._left)
        return f"the parent has opened other ports than this worker listens on: {names}"

    def close(self) -> None:
        """Close the descriptors that nothing has adopted."""
        left, self._left = self._left, []
        for _, number in left:
            os.close(number)

    def _adopt(self, description: Description, family: int, adopt: Callable[[int], Any]) -> IListeningPort:
        found = next((each for each in self._left if each[0] == description), None)
        if found is None:
            # As if the system had no such addresses: an endpoint of IPv6 may go on with IPv4, as it did in the parent.
            problem = OSError(errno.EAFNOSUPPORT, "the parent has opened no such port")
            raise CannotListenError(*_place(description), problem)
        self._left.remove(found)
        number = found[1]
        try:
            actual = _familyOf(number)
            if actual != family:
                problem = OSError(errno.EINVAL, f"the parent has opened a port of {socket.AddressFamily(actual).name}")
                raise CannotListenError(*_place(description), problem)
            os.set_blocking(number, False)
            port: IListeningPort = adopt(number)
            return port
        finally:
            # The port has one of its own.
            os.close(number)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Adopt a TCP port."""
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        adopting = DescribedPorts(self._reactor)
        return self._adopt(
            _tcp(port, interface), family, lambda number: adopting.adoptStreamPort(number, family, factory)
        )

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Adopt the TCP port of TLS."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        """Adopt a UNIX socket, whose mode, lock and path stay as they are."""
        return self._adopt(_unix(address), socket.AF_UNIX, lambda number: self._adoptUNIX(number, factory))

    def _adoptUNIX(self, number: int, factory: Any) -> IListeningPort:
        port = AdoptedUNIXPort(self._reactor, number, factory)
        port.startListening()
        return port

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> IListeningPort:
        """
        Adopt a socket that the parent has adopted.

        @param fileDescriptor: of the parent's; it means nothing here.
        """
        adopting = DescribedPorts(self._reactor)
        return self._adopt(
            _adopted(addressFamily),
            addressFamily,
            lambda number: adopting.adoptStreamPort(number, addressFamily, factory),
        )


def _familyOf(number: int) -> int:
    with socket.socket(fileno=os.dup(number)) as found:
        return found.family


def _place(description: Description) -> tuple[Any, Any]:
    """Return what an error about a port says of its place."""
    kind, first, *others = description
    return (others[0], int(first)) if kind == "TCP" else (None, first)


class NeverServed(Factory):
    """What listens in the parent, where nothing is accepted."""

    noisy = False

    def logPrefix(self) -> str:
        """Return what the log calls it when a port opens: what workers serve there."""
        return "HTTP"


def openPort(reactor: RecordingReactor, endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
    """
    Open the port of an endpoint in the parent.

    @return: a Deferred of the port; C{CannotListenError} if there is none that workers can inherit.
    """
    before = len(reactor.opened)

    def opened(port: IListeningPort) -> IListeningPort:
        if len(reactor.opened) == before:
            port.stopListening()
            problem: Any = OSError(errno.EOPNOTSUPP, "an endpoint of this kind has no socket that workers can inherit")
            raise CannotListenError("", 0, problem)
        return port

    listening: Deferred[IListeningPort] = maybeDeferred(endpoint.listen, NeverServed())
    return listening.addCallback(opened)


@implementer(IStreamServerEndpoint)
class InheritedEndpoint:
    """An endpoint of a worker that listens on a socket of systemd's, which the parent has adopted."""

    def __init__(self, reactor: InheritedReactor, family: int) -> None:
        self._reactor = reactor
        self._family = family

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        """Listen on the next of these sockets."""
        return maybeDeferred(self._reactor.adoptStreamPort, -1, self._family, factory)


def parse(reactor: Any, domain: str = "", **_: str) -> InheritedEndpoint:
    """
    Return the endpoint that a description of systemd's stands for in a worker.

    @raise ValueError: this is no worker, or there is no such domain.
    """
    family = getattr(socket, f"AF_{domain}", None)
    if not getattr(reactor, "inheritsPorts", False) or family is None:
        raise ValueError("expected systemd:domain=INET:index=0, which workers inherit from their parent")
    return InheritedEndpoint(reactor, family)
