"""Whether a server does what is to be measured: one that does it wrongly is easily fast."""

from __future__ import annotations

from collections.abc import Sequence

from .processes import BenchmarkError, Running, Server, generate, running

SIZES = (0, 1, 125, 126, 65535, 65536)
"""Bytes of messages: where the form of a WebSocket frame changes, and none at all."""

KINDS = ("text", "utf8", "binary")


def _echoes(*modes: str) -> list[list[str]]:
    return [
        [mode, "--kind", kind, "--size", str(size), "--connections", "3", "--ops", "12"]
        for mode in modes
        for kind in KINDS
        for size in SIZES
    ]


ENGINEIO = [
    *_echoes("ws-echo", "polling-echo"),
    ["ws-echo", "--connections", "3", "--depth", "16", "--ops", "200"],
    ["ws-echo", "--connections", "20", "--inflight", "7", "--ops", "200"],
    ["handshake", "--connections", "3", "--ops", "12"],
    ["ws-handshake", "--connections", "3", "--ops", "12"],
    ["upgrade", "--connections", "3", "--ops", "6"],
    ["broadcast", "--connections", "10", "--size", "64", "--ops", "100"],
]

SOCKETIO = [
    *_echoes("sio-echo", "sio-ack"),
    ["sio-echo", "--connections", "3", "--depth", "16", "--ops", "200"],
    ["sio-ack", "--connections", "3", "--depth", "16", "--ops", "200"],
    ["sio-ack", "--connections", "3", "--event", "c", "--ops", "12"],
    ["sio-broadcast", "--connections", "10", "--size", "64", "--ops", "100"],
    ["sio-connect", "--connections", "3", "--ops", "12"],
    ["sio-disconnect", "--connections", "12", "--leavers", "4", "--warm-ops", "4"],
    ["sio-idle", "--connections", "3", "--base", "1"],
]


def problems(server: Server) -> list[str]:
    """Return what a server does wrong, in words; nothing where all is well."""
    try:
        with running(server) as here:
            return problemsOf(here, [each for each in checksOf(server) if server.can(each)])
    except BenchmarkError as error:
        return [str(error)]


def checksOf(server: Server) -> Sequence[Sequence[str]]:
    """Return what is asked of a server: arguments of the generator."""
    return SOCKETIO if server.isSocketIO else ENGINEIO


def problemsOf(here: Running, checks: Sequence[Sequence[str]] = ENGINEIO) -> list[str]:
    """The same for one that runs."""
    found = []
    for arguments in checks:
        try:
            generate(here, arguments, within=0)
        except BenchmarkError as error:
            found.append(f"{' '.join(arguments)}: {error}")
            if here.process.poll() is not None:
                break
    return found
