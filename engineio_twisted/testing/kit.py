"""What servers in memory have in common: clients, time, and the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from ..protocol.options import ServerOptions
from ..server import Server
from ..session.socket import Socket
from ..session.states import ReadyState
from .client import ClientListener, MemoryClient
from .network import MemoryNetwork
from .requests import Requests, Response


class Kit:
    """
    Servers in memory, on a clock, and their clients.

    @ivar clock: a L{twisted.internet.task.Clock} by which all happens.
    @ivar clients: the L{MemoryClient}s that were connected, in this order.
    @ivar errors: what handlers and others called by the servers raised, and anything else that was logged with its
        failure. L{close} raises unless this is empty: a test that expects some takes them out.
    """

    # The one for which something happens just now: what is logged is of its application.
    _present: ClassVar[Kit | None] = None

    def __init__(self, network: MemoryNetwork, opts: ServerOptions, leavesTimers: bool) -> None:
        self.clock: Clock = network.clock
        self._network: MemoryNetwork = network
        self._opts = opts
        self._servers: list[Server] = []
        self._leavesTimers = leavesTimers
        self.errors: list[BaseException] = []
        self._failures: list[Failure] = []
        self.clients: list[MemoryClient] = []
        self._sockets: dict[str, Socket] = {}
        self._isClosed = False
        self._observer = cast("Any", self._logged)

    def _begin(self, start: Callable[[], object]) -> None:
        """Call what starts the application, and let happen what comes of it."""
        globalLogPublisher.addObserver(self._observer)
        try:
            start()
            self.settle()
        except BaseException:
            globalLogPublisher.removeObserver(self._observer)
            raise

    def _serve(self, server: Server, application: Callable[[Server], object] | None) -> None:
        """Watch a server, and have the application serve it, unless it does already."""
        self._servers.append(server)
        server.on("connection", self._opened)
        result = None if application is None else application(server)
        if isinstance(result, Awaitable):
            Deferred.fromCoroutine(_awaited(result)).addErrback(self._failed)

    def _opened(self, socket: Socket) -> None:
        self._sockets[socket.id] = socket

    def _logged(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and Kit._present in (None, self):
            self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        self._failures.append(failure)
        self.errors.append(error)

    # What a test does

    def connect(
        self,
        transport: str = "polling",
        upgrade: bool = True,
        *,
        protocol: int = 4,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        path: str | None = None,
        jsonp: bool = False,
        address: str = "127.0.0.1",
        answersPings: bool = True,
        delay: float = 0,
        split: int | None = None,
        wait: bool = True,
        listener: ClientListener | None = None,
        worker: int | Callable[[], int] | None = None,
    ) -> MemoryClient:
        """
        Connect a client. When this returns, its session is open, handlers of the application were called, and it has
        upgraded where it does.

        @param transport: C{polling} or C{websocket}.
        @param upgrade: whether it moves from polling to WebSocket, if the server lets it.
        @param protocol: the revision of the protocol, 4 or 3.
        @param headers: of all its requests.
        @param query: parameters of the address, besides the protocol's own or in their place.
        @param path: the path; by default that of the server's options.
        @param jsonp: whether it polls by scripts, as in old browsers.
        @param address: its IP address.
        @param answersPings: whether it answers pings, or, in revision 3, sends them.
        @param delay: as of L{MemoryClient.delay}; needs C{wait=False}.
        @param split: as of L{MemoryClient.split}.
        @param wait: False returns it in any case. Look at its C{readyState} and C{refused}, and L{advance}.
        @param listener: what is called as the session opens, as messages come, and as it ends: a L{ClientListener}. It
            may send from inside.
        @param worker: as of L{MemoryClient.at}; needs several workers.
        @raise HandshakeRefused: it was refused.
        @raise AssertionError: it wasn't answered, as the application takes its time.
        @raise ValueError: an argument isn't one of those above.
        """
        if transport not in ("polling", "websocket"):
            raise ValueError(f"transport {transport!r}: expected polling or websocket")
        if protocol not in (3, 4):
            raise ValueError(f"protocol {protocol!r}: expected 4 or 3")
        if jsonp and transport != "polling":
            raise ValueError(f"jsonp on {transport}: expected polling")
        client = MemoryClient(
            self,
            transport,
            upgrade,
            protocol,
            headers or {},
            query or {},
            self._opts.path.rstrip("/") + "/" if path is None else path,
            jsonp,
            address,
            answersPings,
            listener,
        )
        client.at = worker
        self.clients.append(client)
        client.split(split)
        client.delay(delay)
        client._begin()
        self.settle()
        if wait:
            if client.refused is not None:
                raise client.refused
            if client.readyState is ReadyState.OPENING:
                client.drop()
                raise AssertionError(
                    "the client wasn't answered yet; to let time pass, connect(wait=False) and advance()"
                )
        return client

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        worker: int | None = None,
    ) -> Response:
        """
        Send a request, and return the answer: for what is no session, such as what else the site has.

        @param target: path and query.
        @param worker: as for L{connect}.
        @raise AssertionError: it wasn't answered, as it waits for something.
        """
        answers: list[Response] = []
        requests = Requests(lambda receiver: self._network.connect(receiver, "127.0.0.1", worker))
        requests.ask(method, target, list((headers or {}).items()), body, answers.append, lambda: None)
        self.settle()
        requests.drop()
        self.settle()
        if not answers:
            raise AssertionError(f"{method} {target} wasn't answered")
        return answers[0]

    def advance(self, seconds: float) -> None:
        """
        Let time pass: timers run, pings are sent and answered, and what is late arrives, each at its time.

        @raise ValueError: the time is negative.
        """
        self._while(lambda: self._network.advance(seconds))

    def settle(self) -> None:
        """Let happen what does without time passing: after something was done to a socket of the server's directly."""
        self._while(self._network.settle)

    def _while(self, what: Callable[[], object]) -> None:
        before, Kit._present = Kit._present, self
        try:
            what()
        finally:
            Kit._present = before

    # The end

    def close(self) -> None:
        """
        Close the server, with the sessions that are left, and make sure that nothing else is. Again, it does nothing.

        @raise AssertionError: the application failed; or there is a session, a connection or a timer left.
        """
        if not self._isClosed:
            left = self._close()
            failed = [each.getTraceback() for each in self._failures if each.value in self.errors]
            failed += [repr(each) for each in self.errors if each not in [failure.value for failure in self._failures]]
            if failed:
                raise AssertionError("the application failed:\n" + "\n".join(failed)) from self.errors[0]
            assert not left, "; ".join(left)

    def _close(self) -> list[str]:
        self._isClosed = True
        try:
            self.settle()
            for client in self.clients:
                if not client._line.isVanished:
                    client.delay(0)
                    client.resumeReading()
            closing = self._closeServers()
            self.settle()
            # Clients that say nothing any more are cut off. No time passes: timers that are left would run.
            for client in self.clients:
                client.drop()
            for connection in list(self._network.connections):
                connection.lose()
            self.settle()
        finally:
            globalLogPublisher.removeObserver(self._observer)
        left = ["the server doesn't close" for each in closing if not each.called]
        left += [f"the session of {each!r} is left" for server in self._servers for each in server.clients.values()]
        left += [f"{each!r} is left" for each in (*self._network.connections, *self._network.carriers)]
        if not self._leavesTimers:
            left += [f"a timer is left: {each}" for clock in self._network.clocks for each in clock.getDelayedCalls()]
        return left

    def _closeServers(self) -> list[Deferred[None]]:
        return [each.close() for each in self._servers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._isClosed:
            # What failed first is what matters.
            self._close()
            for failure in self._failures:
                error.add_note(f"the application failed:\n{failure.getTraceback()}")


async def _awaited(what: Awaitable[object]) -> None:
    await what
