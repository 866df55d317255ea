"""Stock clients, with nothing configured, against two workers to which their connections come in turn."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from ..kit.clients import (
    BOTH,
    MIXED,
    Application,
    Message,
    Run,
    assertTransport,
    echoed,
    firstDifference,
    overEveryTransport,
    sentDuring,
)

pytestmark = pytest.mark.node


@pytest.fixture
def workers() -> int:
    """Of `serve`. The whole modules of real clients run so by C{make test-workers}."""
    return 2


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, client: Run, transports: list[str]) -> None:
    """Text and binary come back unchanged and in order."""
    messages: list[Message] = [*MIXED, *map(str, range(200))]
    await echoed(serve, client, transports, messages)


@pytest_twisted.ensureDeferred
async def test_fleet(serve: Any, client: Run) -> None:
    """Several clients that send without a break, before, during and after an upgrade, lose and swap nothing."""
    application = Application()
    running = await serve(application)
    programs = [client(running.url, "during", BOTH) for _ in range(3)]
    sessions = [await application.session() for _ in programs]
    for each in sessions:
        assert await each.closed() == "transport close"
        assertTransport(each, BOTH)
    for program in programs:
        await program.finish()
        assert firstDifference(program.messages, sentDuring(program)) is None
    assert sorted(map(len, (each.messages for each in sessions))) == sorted(len(sentDuring(each)) for each in programs)
