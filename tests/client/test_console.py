"""Standard input and output of the terminal tool, as pipes: lines both ways, and each way's end."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.stdio import StandardIO
from twisted.internet.task import Clock

from engineio_twisted.client.console import FLUSH_TIMEOUT, Console

from ..kit.wire import eventually, pause, within


class User:
    """Keeps what a console tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def typed(self, line: bytes) -> None:
        self.told.append(line)

    def inputEnded(self, problem: str | None) -> None:
        self.told.append(("input ended", problem))

    def outputEnded(self) -> None:
        self.told.append("output ended")

    def outputFull(self, isFull: bool) -> None:
        self.told.append(isFull)


class Pipes:
    """A console between two pipes."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.user, self.clock = User(), Clock()
        self.console = Console(self.user, self.clock)
        stdin, self.input = os.pipe()
        self.output, stdout = os.pipe()
        self.isOutputOpen = self.isInputOpen = True
        connect: Any = StandardIO
        connect(self.console, stdin, stdout, reactor)

    def types(self, data: bytes, isAll: bool = False) -> None:
        os.write(self.input, data)
        if isAll:
            os.close(self.input)
            self.isInputOpen = False

    def leave(self) -> None:
        """Read the output no more."""
        if self.isOutputOpen:
            self.isOutputOpen = False
            os.close(self.output)


@pytest.fixture
def pipes(serve: Any) -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.leave()
    if made.isInputOpen:
        os.close(made.input)


@pytest_twisted.ensureDeferred
async def test_lines(pipes: Pipes) -> None:
    """Lines end with a line feed or with both, and the last one by the end; none is read while it is paused."""
    pipes.types(b"one\r\ntwo\n\nlast", isAll=True)
    pipes.console.print("é \udc80")
    # What is printed has arrived, and so the reactor has gone round.
    await eventually(lambda: select.select([pipes.output], [], [], 0)[0], "what is printed")
    assert pipes.user.told == []
    pipes.console.resumeProducing()
    await eventually(lambda: len(pipes.user.told) == 5, "all lines")
    assert pipes.user.told == [b"one", b"two", b"", b"last", ("input ended", None)]
    await within(pipes.console.close(), "the end")
    assert os.read(pipes.output, 100) == "é \\udc80\n".encode()
    assert pipes.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_aLineThatIsTooLong(pipes: Pipes) -> None:
    """It ends the input, with a problem."""
    pipes.console.MAX_LENGTH = 10
    pipes.console.resumeProducing()
    pipes.types(b"x" * 100)
    await eventually(lambda: pipes.user.told, "the problem")
    assert pipes.user.told == [("input ended", "a line has more than 10000000 bytes")]
    await within(pipes.console.close(), "the end")


@pytest_twisted.ensureDeferred
async def test_outputThatIsNotRead(pipes: Pipes) -> None:
    """It is told while it is full; the end waits for it, but not for ever."""
    while True not in pipes.user.told:
        pipes.console.print("x" * 10_000)
    assert pipes.user.told == [True]
    read = 0
    while False not in pipes.user.told:
        if select.select([pipes.output], [], [], 0)[0]:
            read += len(os.read(pipes.output, 1_000_000))
        await pause(0)
    assert read > 0
    for _ in range(100):
        pipes.console.print("x" * 10_000)
    closed: list[object] = []
    pipes.console.close().addCallback(closed.append)
    pipes.clock.advance(FLUSH_TIMEOUT - 0.1)
    assert closed == []
    pipes.clock.advance(0.1)
    assert closed == [None]


@pytest_twisted.ensureDeferred
async def test_outputThatEnds(pipes: Pipes) -> None:
    """Nothing is printed any more, and the end is there at once."""
    pipes.leave()
    pipes.console.print("x")
    await eventually(lambda: pipes.user.told, "the end of the output")
    assert pipes.user.told == ["output ended"]
    pipes.console.print("y")
    await within(pipes.console.close(), "the end")
    assert pipes.clock.getDelayedCalls() == []
