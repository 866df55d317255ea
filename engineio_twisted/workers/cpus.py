"""How many CPUs the process may use: its affinity mask, and the CPU quota of its cgroup if that is less."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..operation.service_options import AUTO, MAX_WORKERS


def countOfWorkers(workers: int | str, root: Path = Path("/")) -> int:
    """
    Return how many workers a setting stands for.

    @param workers: the number, or C{"auto"}.
    @param root: of the file system.
    """
    if workers != AUTO:
        return int(workers)
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, MAX_WORKERS, *(math.ceil(each) for each in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each cgroup that the process is in, in CPUs: that of one above holds too."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        isNew = not controllers
        if not isNew and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if isNew else "cpu")
        # In a container the path may be the host's, of which nothing is there but the top.
        for each in (PurePosixPath(path), *PurePosixPath(path).parents):
            folder = top / str(each).lstrip("/")
            if isNew:
                quota, _, period = _read(folder / "cpu.max").partition(" ")
            else:
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            try:
                share = int(quota) / int(period)
            except (ValueError, ZeroDivisionError):
                # No quota, or no such file.
                continue
            if share > 0:
                yield share


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
