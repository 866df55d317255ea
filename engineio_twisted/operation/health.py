"""
Whether the process works and the server is ready, for whatever starts processes and chooses among them.

docs/monitoring.md, "Health checks".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.web import resource

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..server import Server

Check = Callable[[], str | None]


class HealthResource(resource.Resource):
    """Answers 200 as long as the process answers at all. A supervisor that gets no answer restarts it."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        return _answer(request, 200, {"status": "ok"})


class ReadyResource(resource.Resource):
    """
    Answers 200 while new sessions are opened, and otherwise 503 with the reason, for balancers.

    @param server: the L{Server}.
    @param checks: what has to be well besides, such as a connection to a database; each returns why it isn't, or None.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, server: Server, checks: Iterable[Check] = ()) -> None:
        super().__init__()
        self._server = server
        self._checks = tuple(checks)

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        reason = self._server.whyNotReady or self._whyNot()
        if reason is None:
            return _answer(request, 200, {"status": "ready"})
        return _answer(request, 503, {"status": "not ready", "reason": reason})

    def _whyNot(self) -> str | None:
        for check in self._checks:
            try:
                reason = check()
            except BaseException:
                if self._server._counters.throttle.allows("failing checks"):
                    self._log.failure("A check of whether the server is ready failed")
                reason = "a check failed"
            if reason is not None:
                return reason
        return None


def _answer(request: Request, status: int, said: dict[str, Any]) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    return json.dumps(said, separators=(",", ":")).encode()
