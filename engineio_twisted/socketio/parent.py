"""What makes namespaces when clients ask for them: a pattern or a function of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import CancelledError

from .listeners import deferredOf
from .namespace import Namespace, Shared
from .options import ConnectionStateRecovery


class ParentNamespace(Shared):
    """
    Handlers and middlewares of namespaces that are made when clients ask for them. L{SocketIO.of} makes it.

    @ivar children: the namespaces that it has made, by name.
    """

    def __init__(
        self,
        io: Any,
        accepts: re.Pattern[str] | Callable[[str, dict[str, Any]], object],
        settings: ConnectionStateRecovery | None,
    ) -> None:
        super().__init__(io)
        self._accepts = accepts
        self.recoverySettings: ConnectionStateRecovery | None = settings
        self._children: dict[str, Namespace] = {}
        # Those that were empty, the one longest ago first.
        self._kept: dict[str, Namespace] = {}
        self.children: Mapping[str, Namespace] = MappingProxyType(self._children)

    def __repr__(self) -> str:
        return f"<ParentNamespace {getattr(self._accepts, 'pattern', self._accepts)!r}, {len(self._children)} children>"

    def emit(self, event: str, *arguments: Any) -> None:  # type: ignore[override]
        """Send an event to all sockets of all its namespaces."""
        for each in [*self._children.values()]:
            each.emit(event, *arguments)

    def matches(self, name: str) -> bool:
        """Return whether the name is one of its pattern. A function is asked for clients alone."""
        return isinstance(self._accepts, re.Pattern) and self._accepts.search(name) is not None

    async def accepts(self, name: str, auth: dict[str, Any]) -> bool:
        """Return whether a namespace may be made; a function that raises is logged, and says no."""
        if isinstance(self._accepts, re.Pattern):
            return self.matches(name)
        try:
            result = self._accepts(name, auth)
            deferred = deferredOf(result)
            return bool(result if deferred is None else await deferred)
        except CancelledError:
            # The client has left.
            raise
        except Exception:
            self._log.failure("The function that accepts namespaces failed")
            return False

    def make(self, name: str) -> Namespace:
        """Make a namespace, and tell the handlers of C{new_namespace}."""
        child: Namespace = self.io._addNamespace(name, self)
        self._children[name] = child
        self.io.fire("new_namespace", child)
        return child

    def forget(self, name: str) -> None:
        """Let go of a namespace that has ended."""
        self._children.pop(name, None)
        self._kept.pop(name, None)

    def keep(self, namespace: Namespace) -> None:
        """
        Keep a namespace that is empty, whose clients may come back.

        A client may ask for any number of names: no more are kept than sessions in one of them.
        """
        self._kept.pop(namespace.name, None)
        self._kept[namespace.name] = namespace
        recovery: Any = namespace.recovery
        if len(self._kept) > recovery.settings.maxWaitingSessions:
            oldest = self._kept.pop(next(iter(self._kept)))
            # It may have been joined meanwhile.
            if oldest._isEmpty and oldest.recovery is not None:
                oldest.recovery.close()
                oldest._endIfEmpty()
