"""What a client in memory knows of its server, and how its session ended."""

from __future__ import annotations

from typing import Protocol

import attrs

from ..session.socket import Socket
from .network import MemoryNetwork


@attrs.frozen
class End:
    """
    How a session ended, as its client sees it.

    @ivar reason: C{forced close} where the client closed it; C{transport close}, C{transport error}, C{ping timeout}.
    @ivar description: what happened.
    @ivar code: of the server's close frame, if there was one.
    """

    reason: str
    description: str
    code: int | None = None


class Serving(Protocol):
    """What a client in memory knows of its server."""

    _network: MemoryNetwork
    _sockets: dict[str, Socket]
    errors: list[BaseException]

    def settle(self) -> None:
        """Let happen what does without time passing."""
        ...
