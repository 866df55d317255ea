"""Servers for tests: on any endpoint, on either site; and the arena in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs

from engineio_twisted import FastSite, Server, Site, listen
from engineio_twisted.listening import NotImplementedResource, listenOn

from .network import MemoryEndpoint
from .wire import Arena, arena, pause, within


@attrs.frozen
class Listening:
    """A server that listens, and where: a port of loopback, or an endpoint in memory."""

    server: Any
    port: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def listenWith(siteClass: type[Site], endpoint: Any, reactor: Any = None, **options: Any) -> Server:
    """Listen as `listen` does, on a site of any class."""
    if siteClass is FastSite:
        return listen(endpoint, reactor=reactor, **options)
    site: Any = siteClass(NotImplementedResource(), **({} if reactor is None else {"reactor": reactor}))
    site.takesBodies = False
    server = Server(site, reactor=reactor, **options)
    listenOn(server, endpoint, site)
    return server


async def started(server: Server, setup: Callable[[Any], object] | None = None) -> Listening:
    """Wait until a server listens, after `setup(server)`, if that is given."""
    if setup is not None:
        setup(server)
    port: Any = await server.listening
    return Listening(server, port.getHost().port)


@asynccontextmanager
async def memoryArena(
    siteClass: type[Site], setup: Callable[[Any], object] | None = None, **options: Any
) -> AsyncIterator[Arena]:
    """An arena in memory, after which no connection and no timer is left."""
    endpoint = MemoryEndpoint()
    servers: list[Server] = []

    async def start(**options: Any) -> Listening:
        servers.append(listenWith(siteClass, endpoint, endpoint.clock, **options))
        return await started(servers[0], setup)

    with endpoint.passing():
        try:
            async with arena(start, **options) as here:
                yield here
        finally:
            for server in servers:
                await within(server.close(), "the end of the server")
            # This goes on from inside of what fired that.
            await pause(0)
        endpoint.assertNothingLeft()
