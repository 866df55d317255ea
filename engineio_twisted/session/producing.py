"""A producer that writes to a session at the pace of its client; a session has a L{Pace} only while it has one."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall

from ..clock import cancel

HIGH_MARK = 65536
"""Bytes buffered above which a producer is paused: as many as Twisted writes to a connection before it pauses one."""


class Pace:
    """
    The producer of one session, and whether it is to write.

    @param session: the L{Session}.
    @param producer: an C{IPushProducer}, or, if not C{isStreaming}, an C{IPullProducer}.
    """

    __slots__ = ("_call", "_isPaused", "_isStreaming", "_session", "producer")

    def __init__(self, session: Any, producer: Any, isStreaming: bool) -> None:
        self._session = session
        self.producer: Any = producer
        self._isStreaming = isStreaming
        self._isPaused = not isStreaming
        self._call: IDelayedCall | None = None

    def wrote(self) -> None:
        """Pause a producer that has written enough, or ask one that waits to be asked for more."""
        session = self._session
        if self._isPaused:
            self.resume()
        elif not self._hasRoom:
            self._isPaused = True
            session._callHandler("producer", self.producer.pauseProducing)

    def resume(self) -> None:
        """Let a paused producer write, if there is room."""
        session = self._session
        outbox = session._outbox
        if not self._isPaused or (outbox is not None and outbox.isFlushing):
            return
        if self._isStreaming:
            if session.isDrained:
                self._isPaused = False
                session._callHandler("producer", self.producer.resumeProducing)
        elif self._call is None and self._hasRoom:
            self._call = session._host.clock.callLater(0, self._pull)

    @property
    def _hasRoom(self) -> bool:
        session = self._session
        if session.transport.writable:
            return True
        resumption = session._resumption
        isFew = resumption is None or resumption.isFew(len(session.writeBuffer))
        return isFew and bool(session.bufferedAmount <= HIGH_MARK)

    def _pull(self) -> None:
        self._call = None
        if self._hasRoom:
            self._session._callHandler("producer", self.producer.resumeProducing)

    def stop(self) -> None:
        """Let go of the producer, and tell it that nothing more is written."""
        self._session.unregisterProducer()
        self._session._callHandler("producer", self.producer.stopProducing)

    def leave(self) -> None:
        """Ask the producer for nothing more."""
        cancel(self._call)
        self._call = None
