"""What the transports of one client share: where and how they connect, and what each of their requests carries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ..clock import AfterReading, steadyClock
from ..observer import Counters
from ..protocol.payload import Codec, codecFor
from .address import addressOf
from .cookies import Cookies, cookiesFor
from .options import ClientOptions


class Connecting:
    """
    How the transports of one client connect.

    @param url: the URL of the server.
    @param opts: the options.
    @param reactor: connects, and has the time; None for the running one.
    @ivar address: where to.
    @ivar cookies: the cookies, of both transports; None without C{withCredentials}.
    @ivar codec: that of the revision.
    @ivar counters: the counters of what the transports send and receive.
    @ivar sid: the id of the session; None until it is open.
    @ivar attempt: how often a connection was tried to resume the session; 0 if never.
    """

    def __init__(self, url: object, opts: ClientOptions, reactor: Any) -> None:
        self.opts = opts
        self.address = addressOf(url, opts.path, opts.addTrailingSlash, opts.query)
        self._givenReactor = reactor
        self.cookies: Cookies | None = cookiesFor(opts.withCredentials)
        self.codec: Codec = codecFor(opts.EIO)
        self.counters: Counters = Counters()
        self.sid: str | None = None
        self.attempt: int = 0
        # The URL of requests of polling but for the timestamp, and what it was made for.
        self._polled: tuple[tuple[str | None, int], str] | None = None

    @cached_property
    def reactor(self) -> Any:
        """The reactor."""
        if self._givenReactor is not None:
            return self._givenReactor
        # Not before it is needed: an application may install another one first.
        from twisted.internet import reactor

        return reactor

    @cached_property
    def clock(self) -> Any:
        """The time."""
        return steadyClock(self.reactor)

    @cached_property
    def timeouts(self) -> AfterReading:
        """What ends by timeout, when the reactor has read."""
        return AfterReading(self.clock)

    @cached_property
    def _stamps(self) -> Iterator[int]:
        return itertools.count(int(self.clock.seconds() * 1000))

    def parameters(self, transport: str, **more: str) -> dict[str, str]:
        """
        Return the parameters of a request.

        @param transport: the name of the transport.
        @param more: others than each request has.
        """
        parameters = self._fixed(transport) | more
        if self._isStamped(transport):
            parameters[self.opts.timestampParam] = f"{next(self._stamps):x}"
        return parameters

    def _fixed(self, transport: str) -> dict[str, str]:
        """Return the parameters that all requests of a transport have in this session."""
        opts = self.opts
        parameters = {"EIO": str(opts.EIO), "transport": transport}
        if opts.forceBase64 and not (transport == "polling" and self.sid):
            parameters["b64"] = "1"
        if self.sid is not None:
            parameters["sid"] = self.sid
            if self.attempt:
                parameters["attempt"] = str(self.attempt)
        return parameters

    def _isStamped(self, transport: str) -> bool:
        isStamped = self.opts.timestampRequests
        return transport == "polling" if isStamped is None else isStamped

    def target(self, transport: str, **more: str) -> str:
        """Return the target of a request: its path, and its query."""
        return self.address.target(self.parameters(transport, **more))

    def url(self, transport: str, **more: str) -> str:
        """Return the URL of a request."""
        return self.address.url(self.parameters(transport, **more), transport == "websocket")

    def nextUrl(self) -> str:
        """Return the URL of the next request of polling, of which all but the first are made in one step."""
        key = self.sid, self.attempt
        if self._polled is None or self._polled[0] != key:
            self._polled = key, self.address.url(self._fixed("polling"))
        url = self._polled[1]
        return f"{url}&{self.opts.timestampParam}={next(self._stamps):x}" if self._isStamped("polling") else url
