"""Stories of raw bytes on connections to one process or to several workers in memory, to be compared byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from engineio_twisted.testing import MemoryCluster, MemoryServer
from engineio_twisted.testing.kit import Kit

SID = b"SID"

_heard: dict[str, list[Any]] = {}


def application(server: Any) -> None:
    """Keep each message, and send it back; ten times as long if it begins with `big`."""

    @server.on("connection")
    def connected(socket: Any) -> None:
        heard = _heard[socket.id] = []

        @socket.on("message")
        def received(data: Any) -> None:
            heard.append(data)
            socket.send(data * (10 if data[:3] == "big" else 1))


_CHANGING = re.compile(rb"\r\nDate: [^\r]*")


class RawClient:
    """
    The client's end of a connection, on which exact bytes are said.

    @ivar data: what has come.
    @ivar isOver: whether the server has closed it.
    """

    def __init__(self, kit: Kit, worker: int | None) -> None:
        self._kit = kit
        self.data = bytearray()
        self.isOver = False
        self.connection = kit._network.connect(self, "127.0.0.1", worker)

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self) -> None:
        self.isOver = True

    def say(self, *pieces: bytes) -> None:
        """Send bytes, each piece to be read on its own."""
        for each in filter(None, pieces):
            self.connection.send(each)
            self._kit.settle()

    def taken(self) -> bytes:
        """What has come since this was last asked."""
        data = bytes(self.data)
        self.data.clear()
        return data


def request(
    method: str, query: str, *headers: str, body: bytes | None = None, version: str = "1.1", path: str = "/engine.io/"
) -> bytes:
    """A request for the session, unless the query says otherwise."""
    lines = [f"{method} {path}?{query} HTTP/{version}", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


POLLING = "EIO=4&transport=polling&sid=SID"


def opening(query: str = "EIO=4&transport=polling") -> bytes:
    return request("GET", query)


Story = Sequence[tuple[str, bytes]]
"""What is said on connections, each with a name; that of the one at the right worker is C{right}."""


def said(kit: Kit, sid: bytes, story: Story, right: int | None, wrong: int | None, cut: int | None = None) -> Any:
    """
    Tell a story of a session that is open.

    @param right: the worker that has it.
    @param wrong: the one to which all other connections come.
    @param cut: a byte at which each piece on those is cut.
    @return: by the names of the connections: what came, and whether it was closed.
    """
    clients: dict[str, RawClient] = {}
    for name, text in story:
        if name not in clients:
            clients[name] = RawClient(kit, right if name == "right" else wrong)
        data = text.replace(SID, sid)
        at = len(data) if name == "right" or cut is None else min(cut, len(data))
        clients[name].say(data[:at], data[at:])
        # What a poll waits for while an upgrade is going on.
        kit.advance(0.2)
    heard = {name: (_CHANGING.sub(b"", each.taken()).replace(sid, SID), each.isOver) for name, each in clients.items()}
    for each in clients.values():
        each.connection.lose()
    kit.settle()
    return heard


def openSession(kit: Kit, worker: int | None, query: str) -> tuple[bytes, bytes]:
    """Open a session; return its id, and what the server has answered."""
    client = RawClient(kit, worker)
    client.say(opening(query))
    answer = client.taken()
    found = re.search(rb'\\?"sid\\?":\\?"([^"\\]+)', answer)
    assert found is not None, answer
    client.connection.finish()
    kit.settle()
    return found[1], answer


def socketOf(kit: Kit, sid: bytes) -> Any:
    """The server's end of a session."""
    return kit._sockets[sid.decode()]


def play(
    kit: Kit,
    story: Story,
    right: int | None = None,
    wrong: int | None = None,
    *,
    cut: int | None = None,
    query: str = "EIO=4&transport=polling",
) -> Any:
    """Open a session, tell a story of it, and close it; return what came, and what the application has heard."""
    sid, _ = openSession(kit, right, query)
    assert right is None or sid.split(b"-")[0].endswith(b"%d" % right)
    socket = socketOf(kit, sid)
    got = _heard.pop(sid.decode())
    reasons: list[Any] = []
    socket.on("close", lambda reason, description: reasons.append((reason, description)))
    heard = said(kit, sid, story, right, wrong, cut)
    isOpen = socket.readyState == "open"
    if socket.readyState != "closed":
        socket.close(discard=True)
        kit.settle()
    return heard, got, isOpen, reasons


def onOne(**options: Any) -> MemoryServer:
    """A server as it is without workers, but for the ids, which are as long as those of workers."""
    return MemoryServer(application, idPrefix="0-", **options)


def pairs(kit: MemoryCluster) -> Iterator[tuple[int, int]]:
    """Every ordered pair of workers."""
    for right in kit.workers:
        for wrong in kit.workers:
            if right != wrong:
                yield right, wrong


def assertIdle(kit: MemoryCluster) -> None:
    """Make sure that nothing is left: no session, connection or descriptor, and no link that isn't idle."""
    assert kit.sockets == {}
    assert [*kit._network.connections] == [*kit._network.carriers] == []
    for each in kit.workers.values():
        front = each.cluster.front
        busy = {link for links in front._links.values() for link in links} - {
            link for links in front._free.values() for link in links
        }
        assert not busy
        assert front.webSockets == 0
        assert not len(each.cluster.site.channels)
        assert not len(each.server._router.reading)
        assert not len(each.server._webSockets.connections)
