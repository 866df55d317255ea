"""How many workers `auto` is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engineio_twisted.workers.cpus import countOfWorkers

NEW = {"proc/self/cgroup": "0::/a/b\n"}
OLD = {"proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/s\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        (NEW, 8),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"}, 2),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "1000 100000\n"}, 1),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n"}, 8),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({**NEW, "sys/fs/cgroup/a/b/cpu.max": "nonsense"}, 8),
        (
            {
                **OLD,
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({**OLD, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        # In a container, whose path is the host's.
        ({**OLD, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_auto(files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as CPUs in the affinity mask, or in the quota of a cgroup of the process, rounded up, if that is less."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(8)})
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert countOfWorkers("auto", tmp_path) == expected
    assert countOfWorkers(5, tmp_path) == 5


def test_here() -> None:
    """On this machine it is a number that makes sense."""
    assert 1 <= countOfWorkers("auto") <= len(os.sched_getaffinity(0))
