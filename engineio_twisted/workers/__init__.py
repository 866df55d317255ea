"""Several processes as one server, without sticky sessions: what C{twistd engineio --workers} runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Workers as Workers
    from .service import WorkersService as WorkersService

__all__ = ["Workers", "WorkersService"]


def __getattr__(name: str) -> Any:
    # Only the parent needs what starts processes: no worker, and no test in memory.
    if name == "WorkersService":
        from .service import WorkersService

        return WorkersService
    if name == "Workers":
        from .cluster import Workers

        return Workers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
