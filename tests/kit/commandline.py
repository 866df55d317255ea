"""The command line of twistd engineio, and ports that are taken."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted.operation.tap import CommandService, Options


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def failure(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        CommandService(parse(*arguments), MemoryReactorClock())
    text = str(caught.value)
    assert text.startswith("twistd engineio: ")
    assert "\n" not in text
    return text


class TakenPort(MemoryReactorClock):
    """A reactor on which every port is taken."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))
