"""
A server and its clients in memory, for the tests of an application: no socket, no waiting.

L{MemoryServer} serves an application as any server does, on a clock; L{MemoryClient} is a whole client of it, which
polls, upgrades and answers pings by itself. Between the two are bytes, that may be late, in pieces or lost.
docs/testing.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from twisted.internet.task import Clock
from twisted.web.pages import notFound

from ..interfaces import IEngineServer
from ..protocol.errors import OptionError
from ..protocol.options import OptionKeywords
from ..server import Server
from ..web.fast import siteFor
from ..web.mounting import Layer, isServer
from .kit import Kit
from .network import MemoryNetwork


class MemoryServer(Kit):
    """
    A server of an application in memory, on a clock, for tests; and, as a context manager, closed behind them.

    Nothing waits: when a call returns, all has happened that does without time passing. L{advance} lets it pass.

    @param application: what C{twistd engineio --app} takes: called with the L{Server}; a coroutine function too. Or a
        L{Server}, or a layer on one that adapts to what it provides, made with a C{Clock} as its reactor.
    @param site: the site on which the server is to be reached, ours or any other, made with the same clock as its
        reactor; a C{Server} has to be attached to it. By default one that has nothing else.
    @param leavesTimers: whether the application may have timers of its own on the clock in the end.
    @param options: options of the server, as in L{ServerOptions}, if the kit makes it.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the server, or the site, has another reactor than a clock.
    @ivar clock: a L{twisted.internet.task.Clock}, the reactor of the server.
    @ivar server: the L{Server}.
    @ivar clients: the L{MemoryClient}s that were connected, in this order.
    @ivar errors: what handlers and others called by the server raised, and anything else that was logged with its
        failure. L{close} raises unless this is empty: a test that expects some takes them out.
    """

    def __init__(
        self,
        application: Callable[[Server], object] | Layer,
        *,
        site: Any = None,
        leavesTimers: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> None:
        made: Any = application
        found = IEngineServer(made) if isServer(made) else None
        if found is not None:
            if options:
                raise OptionError("options", options, "expected none beside a server, which has its own")
            self.server: Server = found.server
            if not isinstance(self.server.reactor, Clock):
                raise ValueError(f"a server on {self.server.reactor!r}: expected one made with reactor=Clock()")
        else:
            self.server = Server(reactor=site.reactor if site is not None else Clock(), **options)
        clock = self.server.reactor
        if site is None:
            site = siteFor(notFound(), clock)
            self.server.attach(site)
        elif site.reactor is not clock:
            raise ValueError(f"a site on {site.reactor!r}: expected the clock of the server, as reactor=")
        elif found is None:
            self.server.attach(site)
        super().__init__(MemoryNetwork(clock, site), self.server.opts, leavesTimers)
        self._begin(lambda: self._serve(self.server, made if found is None else None))
