"""An access log that fails: the requests that its lines are about don't notice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogEvent

from engineio_twisted import FastSite, Site

from ..kit.memory import Connection, Memory
from ..kit.wire import http, makeFrame, target, upgrade

WAYS = ["formatter", "subclass", "attribute"]


class Full:
    """What can't be written to."""

    def __init__(self, raised: type[BaseException]) -> None:
        self.raised = raised
        self.count = 0

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        self.count += 1
        raise self.raised("disk full")


def failing(siteClass: type[Site], way: str, log: Full) -> Memory:
    """A server in memory whose access log fails."""
    if way == "subclass":
        return Memory(type("Logging", (siteClass,), {"log": lambda self, request: log(request)}))
    memory = Memory(siteClass)
    if way == "formatter":
        memory.site._logFormatter = log
        memory.site.accessLog = SimpleNamespace(write=log)  # type: ignore[assignment]
    else:
        memory.site.log = log  # type: ignore[method-assign]
    return memory


def statuses(connection: Connection) -> list[int]:
    return [int(each[:3]) for each in connection.taken().split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("raised", [OSError, SystemExit])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("siteClass", [FastSite, Site])
def test_eachRequestHasOneResponse(
    siteClass: type[Site], way: str, raised: type[BaseException], loggedErrors: list[LogEvent]
) -> None:
    """Refused or not, a request is answered once, the connection goes on, and the log has one line for all of them."""
    log = Full(raised)
    memory = failing(siteClass, way, log)
    connection = memory.connect(http("GET", target()))
    assert statuses(connection) == [200]
    # Refused in each way: by the protocol, by the site, before its body was complete.
    connection.say(http("GET", target(sid="unknown")))
    assert statuses(connection) == [400]
    connection.say(http("GET", "/elsewhere"))
    assert statuses(connection) == [501]
    connection.say(http("DELETE", target(sid="unknown")))
    assert statuses(connection) == [400]
    connection.say(http("GET", target()))
    assert statuses(connection) == [200]
    assert log.count == 5
    assert not connection.disconnecting
    assert [each["log_failure"].type for each in loggedErrors] == [raised]
    loggedErrors.clear()
    memory.server.close()
    memory.end()


@pytest.mark.parametrize("siteClass", [FastSite, Site])
def test_aWebSocketOpens(siteClass: type[Site], loggedErrors: list[LogEvent]) -> None:
    """Its line fails as others do, and it stays."""
    log = Full(OSError)
    memory = failing(siteClass, "attribute", log)
    connection = memory.connect(upgrade())
    connection.taken()
    connection.say(makeFrame("4hello"))
    assert connection.taken() == b"\x81\x064hello"
    assert (log.count, len(loggedErrors)) == (1, 1)
    loggedErrors.clear()
    memory.server.close()
    memory.end()
