"""
The terminal tool, `python -m engineio_twisted.client`: one session, whose messages are lines. docs/client-tool.md

The first thing to try when a client can't connect. Each of its waits has a deadline.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..clock import cancel, steadyClock
from ..protocol.errors import CloseReason, EngineIOError
from .client import CLOSED_BY_CLIENT, Client
from .commandline import PROGRAM, Plan, parse
from .console import Console, standardConsole
from .errors import ConnectionFailed, FailureType
from .report import FAILED, INTERRUPTED, OK, asJSON, asLine, event, failureEvent, faultEvent, messageEvent
from .tunnels import TunnelEndpoint

_log = Logger()


class Terminal:
    """
    One run of the tool.

    @param plan: what the command line asks for.
    @param client: a client that isn't connected.
    @param clock: the time.
    @ivar problem: a line about what ended the run, for people; None if it ended as it was asked to.
    """

    problem: str | None = None
    _console: Console
    _connecting: Deferred[Any] | None = None
    _deadline: IDelayedCall | None = None
    _isOpen = False
    # Of the run, once it ends.
    _exitCode: int | None = None
    _failure: dict[str, Any] | None = None
    # How many messages came, or how many round trips were measured; and the text that is to come back.
    _count = 0
    _awaited: str | None = None

    def __init__(self, plan: Plan, client: Client, clock: Any) -> None:
        self._plan = plan
        self._client = client
        self._clock = clock
        self._since: float = clock.seconds()
        self._finished: Deferred[int] = Deferred()

    def run(self, console: Console) -> Deferred[int]:
        """
        Connect, and do what the plan says.

        @return: a Deferred of the exit code. It fires when the session is over, its connections are gone, and what was
            printed was read.
        """
        self._console = console
        self._report(event("connecting", url=self._plan.url))
        client = self._client
        client.on("upgrade", self._upgraded)
        client.on("upgradeError", self._notUpgraded)
        client.on("message", self._received)
        client.on("suspend", self._suspended)
        client.on("resume", self._resumed)
        client.on("error", self._faulty)
        client.on("close", self._closed)
        self._connecting = client.connect()
        self._connecting.addCallbacks(self._opened, self._notOpened).addErrback(self._broken)
        return self._finished

    def interrupt(self) -> None:
        """Called on Ctrl-C: close the session; at the second time, drop what wasn't sent."""
        if self._exitCode is None:
            self._end(OK if self._isOpen else INTERRUPTED)
        else:
            self._client.close(discard=True)

    # The session

    def _opened(self, _: Client) -> None:
        self._isOpen = True
        handshake = self._client.handshake
        assert handshake is not None
        self._report(
            event(
                "open",
                transport=self._client.transport.name,
                milliseconds=self._elapsed(),
                session=self._client.logName,
                upgrades=[*handshake.upgrades],
                pingInterval=handshake.pingInterval,
                pingTimeout=handshake.pingTimeout,
                maxPayload=handshake.maxPayload,
            )
        )
        if self._plan.isChecking or self._plan.isEcho:
            self._expect("the upgrade wasn't over")
            # An upgrade begins in this turn.
            self._client.callLater(0, self._settledUnlessUpgrading)
        else:
            self._expectMessage()
            self._client.registerProducer(self._console, True)
            self._console.resumeProducing()

    def _settledUnlessUpgrading(self) -> None:
        if not self._client.upgrading:
            self._settled()

    def _upgraded(self, transport: Any) -> None:
        self._report(event("upgrade", transport=transport.name, milliseconds=self._elapsed()))
        self._settled()

    def _notUpgraded(self, failure: ConnectionFailed) -> None:
        self._report(event("upgradeError", type=str(failure.type), description=failure.description))
        if self._plan.isChecking:
            self._fail(ConnectionFailed(FailureType.PROBE, failure.description, "websocket", failure.response))
        else:
            self._settled()

    def _settled(self) -> None:
        """Called when the session is on the transport that it stays on."""
        if self._plan.isChecking:
            self._end(OK)
        elif self._plan.isEcho and self._awaited is None:
            self._sendEcho()

    def _suspended(self, description: str) -> None:
        self._report(event("suspend", description=description))
        self._elapsed()

    def _resumed(self) -> None:
        self._report(event("resume", transport=self._client.transport.name, milliseconds=self._elapsed()))

    def _received(self, data: str | bytes) -> None:
        if self._awaited is not None and data in (self._awaited, self._awaited.encode()):
            self._report(event("echo", transport=self._client.transport.name, milliseconds=self._elapsed()))
            self._counted()
            if self._exitCode is None:
                self._sendEcho()
            return
        self._report(messageEvent(data))
        if not self._plan.isEcho:
            self._expectMessage()
            self._counted()

    def _counted(self) -> None:
        self._count += 1
        if self._count == self._plan.count:
            self._end(OK)

    def _sendEcho(self) -> None:
        self._expect("no echo: does the server send back what it gets? None came")
        self._awaited = f"engineio_twisted {token_hex(4)}"
        self._elapsed()
        self._send(self._awaited)

    def _send(self, text: str) -> None:
        try:
            self._client.send(text, self._sent)
        except EngineIOError as error:
            self._sent(error)

    def _sent(self, result: object) -> None:
        if isinstance(result, Exception):
            self._report(event("unsent", description=str(result)))

    # ConsoleUser

    def typed(self, line: bytes) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            self._report(event("unsent", description=f"the line isn't UTF-8: {error}"))
            return
        self._expectMessage()
        self._send(text)

    def inputEnded(self, problem: str | None) -> None:
        if problem is not None:
            self._fault(problem)
        elif self._plan.count is None:
            self._end(OK)

    def outputEnded(self) -> None:
        # Such as `head`, which has read enough.
        self._end(OK if self._isOpen else INTERRUPTED)

    def outputFull(self, isFull: bool) -> None:
        if isFull:
            self._client.pauseReceiving()
        else:
            self._client.resumeReceiving()

    # Deadlines

    def _expectMessage(self) -> None:
        if self._plan.count is not None:
            self._expect("no message came")

    def _expect(self, otherwise: str) -> None:
        """Fail if nothing more happens in time."""
        cancel(self._deadline)
        if self._exitCode is None:
            self._deadline = self._clock.callLater(self._plan.seconds, self._timedOut, otherwise)

    def _timedOut(self, otherwise: str) -> None:
        self._fail(ConnectionFailed(FailureType.TIMEOUT, f"{otherwise} in {self._plan.seconds:g} s"))

    def _elapsed(self) -> float:
        """Return the milliseconds since this was called before."""
        now: float = self._clock.seconds()
        since, self._since = self._since, now
        return round((now - since) * 1000, 3)

    # The end

    def _notOpened(self, failure: Failure) -> None:
        # Of what the event says already.
        failure.trap(ConnectionFailed, CancelledError)

    def _closed(self, reason: CloseReason, description: str) -> None:
        if self._isOpen:
            self._report(event("close", reason=str(reason), description=description))
        failure = self._client.failure
        if failure is not None and failure.type is FailureType.LOST and description.startswith("close frame"):
            # That is how most servers close a session on WebSocket.
            failure = ConnectionFailed(FailureType.CLOSED, failure.description, failure.transport)
        if failure is not None:
            # That of an end that was asked for too: something may not have gone out.
            self._fail(failure)
        elif self._exitCode is None:
            isSilent = reason is CloseReason.PING_TIMEOUT
            self._fail(ConnectionFailed(FailureType.TIMEOUT if isSilent else FailureType.CLOSED, description))
        elif reason is CloseReason.FORCED_CLOSE and description != CLOSED_BY_CLIENT.description:
            # The server didn't take all of what was sent.
            self._fail(ConnectionFailed(FailureType.LOST, description))

    def _broken(self, failure: Failure) -> None:
        _log.failure("The terminal tool failed", failure)
        self._faulty(failure.value)

    def _faulty(self, error: object) -> None:
        self._fault(f"{type(error).__name__}: {error}")

    def _fault(self, description: str) -> None:
        self._end(FAILED, faultEvent(description))

    def _fail(self, failure: ConnectionFailed) -> None:
        happened = failureEvent(failure)
        self._end(happened["exitCode"], happened)

    def _end(self, exitCode: int, failure: dict[str, Any] | None = None) -> None:
        """Close the session if it isn't yet; the first failure is the one that counts."""
        cancel(self._deadline)
        isFirst = self._exitCode is None
        if isFirst or (self._exitCode == OK and exitCode != OK):
            self._exitCode = exitCode
            self._failure = failure
        if isFirst:
            self._console.pauseProducing()
            if self._connecting is not None:
                self._connecting.cancel()
            over = self._client.close().addCallback(self._sayWhy)
            over.addErrback(lambda failure: _log.failure("The terminal tool failed", failure))
            over.addCallback(lambda _: self._console.close())
            over.addBoth(lambda _: self._finished.callback(self._exitCode or OK))

    def _sayWhy(self, _: object) -> None:
        if self._failure is not None:
            if self._plan.isJSON:
                self._report(self._failure)
            else:
                self.problem = asLine(self._failure)

    def _report(self, happened: dict[str, Any]) -> None:
        self._console.print(asJSON(happened) if self._plan.isJSON else asLine(happened))


def _client(reactor: Any, plan: Plan) -> Client:
    options = plan.options
    proxy = plan.proxy
    if proxy is not None:
        way = HostnameEndpoint(reactor, proxy.host, proxy.port)
        milliseconds = options["connectTimeout"]
        options = {
            **options,
            "endpoint": TunnelEndpoint(way, *proxy.target, proxy.headers, milliseconds, reactor=reactor),
        }
    return Client(plan.url, reactor=reactor, **options)


def runIn(reactor: Any, plan: Plan) -> int:
    """Run the tool in a reactor that doesn't run yet, until the tool ends; return the exit code."""
    clock = steadyClock(reactor)
    terminal = Terminal(plan, _client(reactor, plan), clock)
    codes: list[int] = [FAILED]

    def done(code: int) -> None:
        codes.append(code)

    def start() -> None:
        ended = maybeDeferred(terminal.run, console).addCallback(done)
        ended.addErrback(lambda failure: _log.failure("The terminal tool failed", failure))
        ended.addBoth(lambda _: reactor.stop())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: reactor.callFromThread(terminal.interrupt))
    with standardConsole(terminal, reactor, clock) as console:
        reactor.callWhenRunning(start)
        reactor.run(installSignalHandlers=False)
    if terminal.problem is not None and sys.stderr is not None:
        sys.stderr.write(f"{PROGRAM}: {terminal.problem}\n")
    return codes[-1]


def _openClosed() -> None:
    """Let nothing else become what is standard input, output or error, if the process was started without one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the tool.

    @param arguments: the command line; by default that of the process.
    @raise SystemExit: always, with the exit code.
    """
    plan = parse(sys.argv[1:] if arguments is None else arguments)
    # Before the reactor, which has descriptors of its own.
    _openClosed()
    from twisted.internet import reactor

    sys.exit(runIn(reactor, plan))
