"""
A server in a process of its own, so that its memory can be looked at: it echoes, and floods those who ask for it.

On stdin it is told the options, how much to send, and how (C{"send"} or C{"produce"}); on stdout it says what happens,
one JSON object a line. Whoever starts it ends it.
"""

from __future__ import annotations

import json
import re
import sys
from io import RawIOBase
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.protocols.basic import FileSender

from engineio_twisted import BufferLimitExceeded, listen

SIZE = 65536
"""Bytes of one message."""

AT_ONCE = 16
"""How many are sent before others have their turn."""


def say(event: str, **what: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")
    sys.stdout.flush()


def memory() -> dict[str, int]:
    """Resident memory of this process, now and at most, in bytes."""
    status = Path("/proc/self/status").read_text()
    return {
        name: int(re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]
        for name, field in (("now", "VmRSS"), ("most", "VmHWM"))
    }


def message(number: int) -> bytes:
    """A new one each time: the same object would take no memory."""
    return number.to_bytes(8) * (SIZE // 8)


class Endless(RawIOBase):
    """A file that is as large as what is to be sent."""

    def __init__(self, total: int) -> None:
        self.left = total

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return message(self.left)[:size]


class Flood:
    """What is sent to one session, and what became of it."""

    def __init__(self, socket: Any, total: int) -> None:
        self.socket = socket
        self.count = total // SIZE
        self.number = 0
        self.told = {"dropped": 0, "raised": 0}

    def go(self) -> None:
        for _ in range(AT_ONCE):
            if self.number == self.count:
                say("flooded", offered=self.number * SIZE, **self.told)
                return
            self.number += 1
            try:
                self.socket.send(message(self.number), self.taken)
            except BufferLimitExceeded:
                self.told["raised"] += 1
        reactor.callLater(0, self.go)  # type: ignore[attr-defined]

    def taken(self, by: object) -> None:
        if isinstance(by, BufferLimitExceeded):
            self.told["dropped"] += 1


def serve(total: int, how: str, options: dict[str, Any]) -> None:
    server = listen("tcp:0:interface=127.0.0.1", **options)

    def opened(socket: Any) -> None:
        def heard(data: Any) -> None:
            if data == "memory":
                socket.send(json.dumps(memory()))
            elif data != "flood":
                socket.send(data)
            elif how == "send":
                Flood(socket, total).go()
            else:
                file = Endless(total)
                done = FileSender().beginFileTransfer(file, socket)
                done.addBoth(lambda _: say("produced", left=file.left))

        socket.on("message", heard)
        socket.on("close", lambda reason, _: say("closed", reason=reason, session=socket.id))

    server.on("connection", opened)
    server.listening.addCallback(lambda port: say("listening", port=port.getHost().port))


if __name__ == "__main__":
    serve(**json.load(sys.stdin))
    reactor.run()  # type: ignore[attr-defined]
