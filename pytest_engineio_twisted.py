"""
The plugin for pytest: the fixtures C{engineio} and C{socketio}.

pytest imports this wherever engineio_twisted is installed, so it imports nothing of it until the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engineio_twisted.socketio.testing import MemorySocketIO
    from engineio_twisted.testing import MemoryCluster, MemoryServer


@pytest.fixture
def engineio() -> Iterator[Callable[..., MemoryServer | MemoryCluster]]:
    """
    Make servers in memory: `engineio(application, pingInterval=300)` is a `MemoryServer` of `engineio_twisted.testing`.

    With `workers=2` it is a `MemoryCluster` of so many workers.

    They are closed after the test, which fails where the application did, or left something behind.
    """
    from engineio_twisted.testing import MemoryServer

    with ExitStack() as servers:

        def start(*args: Any, **keywords: Any) -> MemoryServer | MemoryCluster:
            server: MemoryServer | MemoryCluster
            if "workers" in keywords:
                from engineio_twisted.testing import MemoryCluster

                server = MemoryCluster(*args, **keywords)
            else:
                server = MemoryServer(*args, **keywords)
            servers.callback(server.close)
            return server

        yield start


@pytest.fixture
def socketio() -> Iterator[Callable[..., MemorySocketIO]]:
    """
    Make Socket.IO servers in memory: `socketio(application, pingInterval=300)` is a `MemorySocketIO` of
    `engineio_twisted.socketio.testing`. They are closed after the test, as those of `engineio`.
    """
    from engineio_twisted.socketio.testing import MemorySocketIO

    with ExitStack() as servers:

        def start(*args: Any, **keywords: Any) -> MemorySocketIO:
            server = MemorySocketIO(*args, **keywords)
            servers.callback(server.close)
            return server

        yield start
