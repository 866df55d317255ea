"""
How many operations a server takes until the next ones cost no less: why warm-up is counted in operations.

Run as `python benchmarks/warming.py`, or with names of servers behind it. A server is loaded with the same number of
operations again and again, and what each cost is printed for each time. docs/performance.md, "Warm-up".
"""

from __future__ import annotations

import sys

from harness.processes import generate, raiseFileLimit, running
from harness.servers import OURS, REFERENCE, choose, install

STEPS = {
    "handshake": ("handshake --connections 32", 5000),
    "ws-handshake": ("ws-handshake --connections 32", 1500),
    "upgrade": ("upgrade --connections 64", 1500),
    "polling-echo": ("polling-echo --connections 32", 5000),
    "ws-echo": ("ws-echo --connections 32", 20_000),
}
"""Each with how many operations are measured together."""

COUNT = 8


def main(names: list[str]) -> None:
    raiseFileLimit()
    servers = choose(names)
    install(servers)
    for mode, (load, operations) in STEPS.items():
        for server in servers:
            with running(server) as here:
                arguments = [*load.split(), "--ops", str(operations)]
                costs = [generate(here, arguments, within=0)["cpuPerOp"] for _ in range(COUNT)]
            shown = " ".join(f"{cost:6.1f}" for cost in costs)
            print(f"{mode:13} {server.name:16} µs in each {operations:6}: {shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [OURS, REFERENCE, "bun"])
