"""What joins a Socket.IO server with those of other processes, however messages reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import LogThrottle, OptionError
from .errors import AdapterError, NotSupported, UnsendableValue
from .remote_messages import Answer, InvalidMessage, MessageWriter, Question, ServerEvent
from .remote_namespace import RemoteNamespace
from .remote_requests import Requests

MAX_SERVED = 1000
"""Questions of other processes that wait for clients at most."""


class RemoteAdapter:
    """
    The base of the adapters for several processes: the messages of all namespaces of a L{SocketIO}, and their answers.

    @param host: the name of this process in messages.
    @param requestTimeout: milliseconds that the answer of another process is waited for.
    @param maxMessageBytes: maximum bytes of a message for other processes. Sending a larger one raises L{AdapterError}.
    @raise OptionError: one of these is no whole number from 1 on.
    """

    _log: ClassVar[Logger]

    def __init__(self, host: str, requestTimeout: int, maxMessageBytes: int) -> None:
        for name, value in {"requestTimeout": requestTimeout, "maxMessageBytes": maxMessageBytes}.items():
            if type(value) is not int or value < 1:
                raise OptionError(name, value, "expected a whole number from 1 on")
        self.requestTimeout: float = requestTimeout / 1000
        self.maxMessageBytes: int = maxMessageBytes
        self._host = host
        self._io: Any = None
        self._namespaces: dict[str, Any] = {}
        self._throttle = LogThrottle()
        self._requests: Requests | None = None
        # How many questions of other processes wait for somebody here.
        self._served = 0
        self._isClosed = False
        self._received = self._invalid = self._tooLarge = 0

    # What depends on how messages go

    def __call__(self, namespace: Any) -> RemoteNamespace:
        """Return the adapter of a namespace. Called by the L{SocketIO}."""
        if self._io is None:
            self._io = namespace.io
            self._bind(namespace.io)
        elif self._io is not namespace.io:
            raise OptionError("adapter", self, "it has another SocketIO already; make one for each")
        return self._namespaceFor(namespace)

    @property
    def writer(self) -> MessageWriter:
        """What writes the messages of this process."""
        raise NotImplementedError

    def _bind(self, io: Any) -> None:
        """Called with the L{SocketIO}, before its first namespace has begun."""
        raise NotImplementedError

    def _namespaceFor(self, namespace: Any) -> RemoteNamespace:
        raise NotImplementedError

    def _start(self) -> None:
        """Begin to receive. Called when the first namespace begins."""
        raise NotImplementedError

    def _stop(self) -> Deferred[None]:
        """Receive no more. Called when the last namespace has ended."""
        raise NotImplementedError

    def publish(self, message: bytes) -> None:
        """Send a message to all other processes of ours."""
        raise NotImplementedError

    def _reply(self, host: str, message: bytes) -> None:
        """Send a message to the process that asked."""
        raise NotImplementedError

    def _others(self) -> Iterable[str]:
        """Return the names of the processes that are there."""
        raise NotImplementedError

    # Namespaces

    def opened(self, namespace: RemoteNamespace) -> None:
        """Called when a namespace begins."""
        self._namespaces[namespace.name] = namespace
        if self._requests is None:
            self._requests = Requests(self._io.engine.clock, self._countInvalid)
            self._start()

    def closed(self, namespace: RemoteNamespace) -> Deferred[None]:
        """Called when a namespace ends; the last one closes the adapter."""
        if self._namespaces.get(namespace.name) is namespace:
            del self._namespaces[namespace.name]
        if self._namespaces or self._isClosed:
            return succeed(None)
        self._isClosed = True
        for host in [*self._others()]:
            self._processGone(host)
        self._throttle.flush()
        return self._stop()

    # Sending

    def checked(self, message: bytes) -> bytes:
        """
        Return a message, if it may be sent.

        @raise AdapterError: it is too large.
        """
        if len(message) > self.maxMessageBytes:
            self._tooLarge += 1
            size = f"{len(message)} bytes are more than maxMessageBytes ({self.maxMessageBytes})"
            raise AdapterError(f"a message for other processes: {size}")
        return message

    def ask(
        self, message: bytes, seconds: float | None, read: Callable[[dict[str, Any]], Any]
    ) -> Deferred[tuple[list[Any], int]]:
        """
        Ask all other processes.

        @param message: a question without its id, which L{checked} has let pass.
        @param seconds: how long to wait; None for as long as they are there.
        @param read: called with each item of an answer.
        @return: a Deferred of what C{read} returned, and of how many processes did not answer. Cancelling it forgets
            the answers.
        """
        assert self._requests is not None
        others = {*self._others()}
        if not others or self._isClosed:
            return succeed(([], 0))
        request = self._requests.begin(others, seconds, read)
        self.publish(self.writer.ask(message, request.id))
        return request.deferred

    def _processGone(self, host: str) -> None:
        """Called when another process is gone: it won't answer."""
        if self._requests is not None:
            self._requests.processGone(host)

    # Receiving

    def _receive(self, read: Callable[[bytes], Any], payload: bytes) -> None:
        """Handle what came, or count it as invalid."""
        self._received += 1
        try:
            message = read(payload)
            if message is not None and message.host != self._host:
                self._handle(message)
        except InvalidMessage as error:
            self._countInvalid(str(error))
        except (UnsendableValue, TypeError, ValueError) as error:
            # Rooms that are the id of another socket, values that a client can't be sent.
            self._countInvalid(type(error).__name__)

    def _countInvalid(self, problem: str) -> None:
        self._invalid += 1
        if self._throttle.allows("invalid message"):
            self._warnOfInvalid(problem)

    def _warnOfInvalid(self, problem: str) -> None:
        self._log.warn("A message of another process was ignored: {problem}", problem=problem)

    def _handle(self, message: Any) -> None:
        if isinstance(message, Answer):
            if message.to == self._host:
                assert self._requests is not None
                self._requests.answered(message)
        elif isinstance(message, Question):
            self._asked(message)
        else:
            namespace = self._namespaces.get(message.namespace)
            if namespace is not None:
                namespace.received(message)

    def _asked(self, question: Question) -> None:
        if self._served >= MAX_SERVED:
            raise InvalidMessage("too many questions at a time")
        namespace = self._namespaces.get(question.about.namespace)
        if namespace is None:
            items: Deferred[list[bytes] | None] = succeed(None if isinstance(question.about, ServerEvent) else [])
        else:
            items = namespace.itemsFor(question.about)
        self._served += 1
        items.addErrback(self._unanswered)
        items.addCallback(self._answer, question)

    def _unanswered(self, failure: Failure) -> None:
        # The caller of a handler logs what it raises.
        if not failure.check(NotSupported):
            self._log.debug("A question of another process failed: {problem}", problem=failure.getErrorMessage())

    def _answer(self, items: list[bytes] | None, question: Question) -> None:
        self._served -= 1
        if self._isClosed:
            return
        try:
            messages = self.writer.answers(question, items, self.maxMessageBytes)
        except UnsendableValue:
            self._tooLarge += 1
            messages = self.writer.answers(question, None, self.maxMessageBytes)
        for each in messages:
            self._reply(question.host, each)
