"""The workers of a server as one Socket.IO server, by way of C{server.exchange}. docs/architecture/socketio.md."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from .. import Measure
from .errors import UnsendableValue
from .interfaces import Target
from .measuring import Measuring
from .recovery import Kept, Recovery
from .remote_adapter import RemoteAdapter
from .remote_messages import (
    Disconnect,
    Event,
    InvalidMessage,
    MessageWriter,
    Newest,
    Position,
    Rooms,
    ServerEvent,
    Session,
    Sockets,
    objectOf,
    readMessage,
)
from .remote_namespace import RemoteNamespace
from .remote_recovery import TIMEOUT, RemoteRecovery

CHANNEL = "socketio"
"""The channel of the exchange."""

HEAD_BYTES = 200
"""Bytes of a message beside the items of an answer, at most."""


@attrs.frozen(kw_only=True)
class ExchangeAdapterStats:
    """
    What an L{ExchangeAdapter} has now, and what it has counted since it began.

    @ivar processes: other processes that are there.
    @ivar requests: requests to them that wait for answers.
    @ivar sent: messages for others.
    @ivar received: messages of others.
    @ivar invalid: messages that were ignored, since they are no message, or none that may come.
    @ivar tooLarge: messages that were refused, since they are larger than C{maxMessageBytes}.
    @ivar remoteTimeouts: requests that a process did not answer.
    """

    processes: int
    requests: int
    sent: int
    received: int
    invalid: int
    tooLarge: int
    remoteTimeouts: int


class ExchangeAdapter(RemoteAdapter):
    """
    Joins a L{SocketIO} with those of the other processes that C{server.exchange} reaches.

    If a server is one of several workers, its L{SocketIO} has one without being told to. Give one as C{adapter} to
    change a setting.

    @param requestTimeout: milliseconds that the answer of another process is waited for.
    @param maxMessageBytes: maximum bytes of a message for other processes. Sending a larger one raises L{AdapterError}.
    @raise OptionError: a wrong option.
    """

    _log = Logger()

    def __init__(self, *, requestTimeout: int = 5000, maxMessageBytes: int = 8_000_000) -> None:
        super().__init__("", requestTimeout, maxMessageBytes)
        self._exchange: Any = None
        self._writer = MessageWriter("")
        # The other processes, by the number that they have as text.
        self._peers: dict[str, int] = {}
        self._ends: list[Callable[[], None]] = []
        self._sent = 0

    def __repr__(self) -> str:
        return f"<ExchangeAdapter {len(self._peers)} other processes>"

    @property
    def writer(self) -> MessageWriter:
        return self._writer

    @property
    def host(self) -> str:
        """The number of this process as text."""
        return self._host

    def stats(self) -> ExchangeAdapterStats:
        """Return what there is now, and what was counted."""
        requests = self._requests
        return ExchangeAdapterStats(
            processes=len(self._peers),
            requests=0 if requests is None else len(requests),
            sent=self._sent,
            received=self._received,
            invalid=self._invalid,
            tooLarge=self._tooLarge,
            remoteTimeouts=0 if requests is None else requests.timeouts,
        )

    def measures(self) -> list[Measure]:
        """Return what L{stats} says, for Prometheus."""
        stats = self.stats()
        counters = {
            "sent": (stats.sent, "Messages for other processes."),
            "received": (stats.received, "Messages of other processes."),
            "invalid": (stats.invalid, "Messages of other processes that were ignored."),
            "too_large": (stats.tooLarge, "Messages over maxMessageBytes."),
            "remote_timeouts": (stats.remoteTimeouts, "Requests that another process did not answer."),
        }
        return [
            Measure("socketio_exchange_processes", "Other processes that are there.", stats.processes),
            *[
                Measure(f"socketio_exchange_{name}", text, value, isCounter=True)
                for name, (value, text) in counters.items()
            ],
        ]

    # How messages go

    def _bind(self, io: Any) -> None:
        self._exchange = io.engine.exchange
        self._host = str(self._exchange.number)
        self._writer = MessageWriter(self._host, io.opts.default)

    def _namespaceFor(self, namespace: Any) -> ExchangeNamespace:
        return ExchangeNamespace(namespace, self)

    def _start(self) -> None:
        exchange = self._exchange
        self._peers = {str(each): each for each in exchange.peers}
        self._ends = [exchange.subscribe(CHANNEL, self._frame), exchange.whenPeersChange(self._peersChanged)]
        self._io.engine.addObserver(Measuring(self.measures))

    def _stop(self) -> Deferred[None]:
        for each in self._ends:
            each()
        return succeed(None)

    def publish(self, message: bytes) -> None:
        self._sent += 1
        self._exchange.send(None, CHANNEL, message)

    def _reply(self, host: str, message: bytes) -> None:
        self._sent += 1
        self._exchange.send((self._peers.get(host, -1),), CHANNEL, message)

    def tell(self, host: str, message: bytes) -> None:
        """Send a message to one process."""
        self._reply(host, message)

    def item(self, fields: dict[str, Any], values: list[Any]) -> bytes:
        """
        Return an item of an answer, which fits into one message.

        @raise UnsendableValue: it doesn't, or something in it can't be sent.
        """
        item = self._writer.item(fields, values)
        if len(item) > self.maxMessageBytes - HEAD_BYTES:
            raise UnsendableValue("answer", "larger than maxMessageBytes")
        return item

    def _others(self) -> Collection[str]:
        return self._peers

    @property
    def hosts(self) -> Collection[str]:
        """The numbers of the other processes as text."""
        return self._peers

    def _peersChanged(self) -> None:
        before, self._peers = self._peers, {str(each): each for each in self._exchange.peers}
        for each in before.keys() - self._peers.keys():
            self._processGone(each)
        came = self._peers.keys() - before.keys()
        for namespace in [*self._namespaces.values()]:
            namespace.hostsChanged(came)

    def _frame(self, origin: int, frame: bytes) -> None:
        self._receive(lambda payload: self._read(str(origin), payload), frame)

    def _read(self, origin: str, frame: bytes) -> Any:
        message = readMessage(objectOf(frame))
        if message.host != origin:
            raise InvalidMessage("it names another process as its sender")
        return message


class ExchangeNamespace(RemoteNamespace):
    """
    The rooms of one namespace in this process, and what connects it with the same namespace in others.

    @param namespace: the L{Namespace}.
    @param adapter: the L{ExchangeAdapter}.
    """

    def __init__(self, namespace: Any, adapter: ExchangeAdapter) -> None:
        super().__init__(namespace, adapter)
        self._adapter = adapter
        self._remote: RemoteRecovery | None = None

    def recoveryBegins(self, recovery: Recovery | None) -> None:
        self._remote = None
        if recovery is not None:
            others = _Others(self.namespace, self._adapter)
            self._remote = recovery.elsewhere = RemoteRecovery(recovery, others, self.namespace.io.engine.clock)
            self._remote.start()

    def hostsChanged(self, came: Collection[str]) -> None:
        """Called when other processes have come, or have gone."""
        if self._remote is not None:
            for each in came:
                self._remote.hostCame(each)
            self._remote.look()

    def _nextPosition(self, target: Target) -> Position | None:
        return None if self._remote is None or target.flags.volatile else self._remote.nextPosition

    def received(self, message: Event | ServerEvent | Rooms | Disconnect | Newest) -> None:
        remote = self._remote
        if isinstance(message, Newest):
            if remote is not None:
                remote.newest(message)
        elif isinstance(message, Event) and message.position is not None and remote is not None:
            remote.received(message.host, message.position)
            self.namespace.deliver(self._packet(message), message.target, message.position)
            remote.look()
        else:
            super().received(message)

    def itemsFor(self, about: Event | ServerEvent | Sockets | Session) -> Deferred[list[bytes] | None]:
        if isinstance(about, Session):
            return succeed([] if self._remote is None else self._remote.items(about))
        return super().itemsFor(about)


class _Others:
    """The other processes, for the recovery of one namespace."""

    def __init__(self, namespace: Any, adapter: ExchangeAdapter) -> None:
        self._name: str = namespace.name
        self._adapter = adapter
        self.host = adapter.host

    @property
    def hosts(self) -> Collection[str]:
        return self._adapter.hosts

    def makeKept(self, pid: str, id: str, auth: dict[str, Any]) -> Kept:  # noqa: A002
        return Kept(pid, id, id, auth, 0)

    def askForSession(
        self, pid: str, offset: str | None, takes: bool, read: Callable[[dict[str, Any]], Any]
    ) -> Deferred[tuple[list[Any], int]]:
        adapter = self._adapter
        message = adapter.checked(adapter.writer.session(self._name, pid, offset, takes))
        return adapter.ask(message, TIMEOUT, read)

    def tellNewest(self, host: str | None, position: Position, wantsAnswer: bool) -> None:
        message = self._adapter.writer.newest(self._name, position, wantsAnswer)
        if host is None:
            self._adapter.publish(message)
        else:
            self._adapter.tell(host, message)

    def item(self, fields: dict[str, Any], values: list[Any]) -> bytes:
        return self._adapter.item(fields, values)
