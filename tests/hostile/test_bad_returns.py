"""Servers that promise to keep a session for a client that comes back, and answer its return with something wrong."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted.client import FailureType

from ..kit.client_servers import OPEN, WEBSOCKET, ScriptedServer, Step, answer, both, cuts, endless, ends, frame
from ..kit.client_stories import Story, telling
from .test_bad_servers import BAD_OPENINGS, NO_HTTP, NO_OPENINGS, PORTAL, SILENT, STATUSES, ids, opening, refusal

TRANSPORTS = ("polling", "websocket")
TIMEOUT = 30
"""Seconds for which the server says that it keeps the session."""

GRANT = {"timeout": TIMEOUT * 1000, "packets": 100, "bytes": 100_000}
RESUMABLE = opening(resume=GRANT)


def returned(received: Any, **changes: Any) -> bytes:
    """The open packet that answers a return."""
    return opening(resume={**GRANT, "received": received}, **changes)


def serverOf(transport: str, *returns: Step, first: bytes = RESUMABLE) -> ScriptedServer:
    """A server that opens a session, which loses its connection, and answers returns so."""
    if transport == "polling":
        return ScriptedServer([answer(first), cuts(), *returns])
    return ScriptedServer(webSockets=[both(WEBSOCKET + frame(first.decode()), cuts()), *returns])


def said(transport: str, packet: bytes) -> Step:
    return answer(packet) if transport == "polling" else WEBSOCKET + frame(packet.decode())


def lives(server: ScriptedServer, transport: str, sends: int = 0) -> Any:
    """Connect a client, which sends something, and let it lose its connection."""
    return telling(server, transports=[transport], resume=True)


def begin(story: Story, sends: int = 0) -> None:
    story.client.on("open", lambda: [story.client.send(f"{each}") for each in range(sends)] and None)
    story.connect()
    story.advance(0.5)
    assert "suspend" in story.names()


def assertOver(story: Story, kind: FailureType | None = None) -> None:
    """Make sure that the session has ended, once, with what went wrong at last."""
    assert story.client.readyState == "closed", story.happened
    ((reason, description),) = story.all("close")
    assert reason in ("transport close", "transport error", "ping timeout")
    assert description.isprintable()
    assert story.client.failure is not None
    if kind is not None:
        assert story.client.failure.type == kind, story.client.failure
        assert "no return" in description
    assert story.isQuiet, story.left()


BAD_GRANTS: dict[str, Any] = {
    "text": "yes",
    "number": 1,
    "list": [],
    "nothing in it": {},
    "no timeout": {"packets": 1, "bytes": 1},
    **{
        f"{name} {value!r:.10}": {**GRANT, name: value}
        for name in ("timeout", "packets", "bytes")
        for value in (None, 0, -1, 1.5, "9", True, 10**30, float("nan"), [])
    },
}
"""What can't be in the open packet as what the server promises."""


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("grant", ids(BAD_GRANTS))
def test_grant(grant: Any, transport: str) -> None:
    """A promise that isn't one is a handshake that isn't one."""
    with lives(serverOf(transport, first=opening(resume=grant)), transport) as story:
        story.connect()
        story.advance(4)
        assert story.result.type == FailureType.HANDSHAKE, story.result
        assert "resume" in story.result.description
        assert story.isQuiet, story.left()


def test_forYears() -> None:
    """No promise lasts longer than the longest time that there is."""
    with lives(serverOf("polling", first=opening(resume={**GRANT, "timeout": 10**14})), "polling") as story:
        begin(story)
        assert max(each.getTime() for each in story.clock.getDelayedCalls()) < 2**31 / 1000 + 1


def test_notAsked() -> None:
    """A client that doesn't ask for it doesn't look at it."""
    with telling(ScriptedServer([answer(opening(resume="whatever"))])) as story:
        story.connect()
        assert story.result is story.client


WRONG_RETURNS: dict[str, bytes] = {
    "another session": returned(0, sid="T"),
    "no promise": OPEN,
    "no number": RESUMABLE,
    "more than was sent": returned(4),
    "much more": returned(10**14),
    **{f"received {value!r:.10}": returned(value) for value in (None, -1, 1.5, "2", True, 10**30, [])},
}
"""Answers to a return that can't be."""


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("packet", ids(WRONG_RETURNS))
def test_wrong(packet: bytes, transport: str) -> None:
    """An answer that can't be ends the session: whatever that is, it isn't the one that was lost."""
    with lives(serverOf(transport, said(transport, packet)), transport) as story:
        begin(story, 3)
        story.advance(TIMEOUT + 4)
        assertOver(story)
        assert "resume" not in story.names()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "step",
    ids(
        {f"open packet: {name}": name for name in BAD_OPENINGS}
        | {f"packet: {name}": name for name in NO_OPENINGS}
        | {f"status: {name}": name for name in STATUSES}
        | {f"silent: {name}": name for name in SILENT}
        | {f"no HTTP: {name}": name for name in NO_HTTP}
        | {"page": "page"}
    ),
)
def test_never(step: str, transport: str) -> None:
    """A server that never answers a return as it should: the session ends when its time is over, or at once."""
    steps: dict[str, Step] = {
        **{name: said(transport, each) for name, each in (BAD_OPENINGS | NO_OPENINGS).items()},
        **{name: row[0] for name, row in STATUSES.items()},
        **SILENT,
        **NO_HTTP,
        "page": answer(PORTAL, kind="text/html"),
    }
    with lives(serverOf(transport, *[steps[step]] * 200), transport) as story:
        begin(story, 3)
        story.advance(TIMEOUT + 4)
        assertOver(story)
        assert "resume" not in story.names()
        # Again and again, and not all the time.
        assert len(story.server.asked) < 40


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("code", [1, 3, 4])
def test_refused(code: int, transport: str) -> None:
    """A server that knows the session no more says so, which ends it at once."""
    step = answer(refusal(code), "400 Bad Request")
    with lives(serverOf(transport, *[step] * 3), transport) as story:
        begin(story, 1)
        story.advance(4)
        assertOver(story, FailureType.REFUSED)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", [ends, cuts])
def test_cut(how: Any, transport: str) -> None:
    """A return that is cut at any byte is tried again, and then nothing is lost or doubled."""
    whole = said(transport, returned(2))
    assert isinstance(whole, bytes)
    for at in range(0, len(whole), 7):
        with lives(serverOf(transport, how(whole[:at]), whole), transport) as story:
            begin(story, 3)
            story.advance(8)
            assert story.names().count("resume") == 1, (at, story.happened)
            heard = story.server.texts() if transport == "websocket" else story.server.bodies()
            assert heard[-1] == b"42"
            story.client.close(discard=True)


ACKNOWLEDGEMENTS = ["24", "34", "64", "2-1", "2x", "61e3", "6" + "9" * 400, "6" + "9" * 5_000, "6٣", "6 1", "60x1"]
"""Heartbeats of the server's with numbers that can't be, when three messages were sent."""


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("packet", [*ACKNOWLEDGEMENTS, "23", "63"])
def test_acknowledgement(packet: str, transport: str) -> None:
    """A number of messages that can't be ends the session."""
    server = ScriptedServer([answer(RESUMABLE)], webSockets=[WEBSOCKET + frame(RESUMABLE.decode())])
    with lives(server, transport) as story:
        story.connect()
        for each in range(3):
            story.client.send(f"{each}")
        story.advance(0)
        if transport == "polling":
            server.poll.say(answer(packet.encode()))
        else:
            server.peer.say(frame(packet))
        story.advance(4)
        if packet in ACKNOWLEDGEMENTS:
            assert story.client.readyState == "closed", story.happened
            assert story.all("close")[0][0] == "parse error"
            assert story.client.failure.type == FailureType.PARSE
            assert "suspend" not in story.names()
            assert story.isQuiet, story.left()
        else:
            assert story.client.readyState == "open", story.happened


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fewer(transport: str) -> None:
    """A server can't have fewer messages than it has said before."""
    if transport == "polling":
        server = ScriptedServer([answer(RESUMABLE), answer(b"63"), cuts(), answer(returned(2))])
    else:
        server = ScriptedServer(
            webSockets=[WEBSOCKET + frame(RESUMABLE.decode()), WEBSOCKET + frame(returned(2).decode())]
        )
    with lives(server, transport) as story:
        story.client.on("open", lambda: [story.client.send(f"{each}") for each in range(3)] and None)
        story.connect()
        story.advance(0)
        if transport == "websocket":
            story.say(frame("63"))
            story.do(cuts())
        story.advance(6)
        assertOver(story, FailureType.PARSE)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_neverAcknowledges(transport: str) -> None:
    """A server that acknowledges nothing makes nothing grow beyond the bounds: the session ends there."""
    server = ScriptedServer([answer(RESUMABLE)], webSockets=[WEBSOCKET + frame(RESUMABLE.decode())])
    with telling(server, transports=[transport], resume=True, maxBufferedPackets=100) as story:
        story.connect()
        wasWritable = []
        for each in range(300):
            story.client.send(f"{each}")
            wasWritable.append(story.client.writable)
            story.advance(0.001)
        assert not all(wasWritable)
        assert story.client.readyState == "closed"
        assert story.all("close")[0][0] == "buffer limit exceeded"
        story.advance(4)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_whileSuspended(transport: str) -> None:
    """Nor does what is sent while there is no connection."""
    for action in ("close", "drop", "raise"):
        server = serverOf(transport, *[answer(b"", "502 Bad")] * 20)
        options = {"maxBufferedPackets": 100, "bufferLimitAction": action}
        with telling(server, transports=[transport], resume=True, **options) as story:
            begin(story)
            told: list[object] = []
            for each in range(300):
                try:
                    story.client.send(f"{each}", told.append)
                except Exception as error:
                    told.append(error)
            assert len(story.client.writeBuffer) <= 100
            assert (story.client.readyState == "closed") is (action == "close")
            if action != "close":
                assert len(told) >= 190
            story.advance(TIMEOUT + 4)
            assert story.client.readyState == "closed"
            assert story.isQuiet, story.left()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_again(transport: str) -> None:
    """A server that takes the session back, and loses it at once, over and over, isn't asked all the time."""
    whole = said(transport, returned(0))
    steps = [whole, cuts()] if transport == "polling" else [both(whole, cuts())]
    with lives(serverOf(transport, *steps * 2_000), transport) as story:
        begin(story)
        story.advance(20)
        assert story.client.readyState == "open"
        assert len(story.server.asked) < 100
        story.client.close(discard=True)


def test_floodOfMessages() -> None:
    """Nor does one that sends more and more, and never reads what it is told."""
    with lives(ScriptedServer(webSockets=[WEBSOCKET + frame(RESUMABLE.decode())]), "websocket") as story:
        story.connect()
        for each in story.network.connections:
            each.toClient.isHeld = True
        story.do(endless(b"", frame("4x") * 500))
        story.advance(0.1)
        assert story.client.bufferedAmount < 1_000_000
        assert len(story.client.writeBuffer) < 200
        for each in story.network.connections:
            each.toClient.isHeld = False
