"""The states of a session: every input, and every packet, in every state."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.states import TRANSITIONS, HeartbeatState, Input, ReadyState, UpgradeState, change

from ..kit.sessions import Session, polling

pytestmark = pytest.mark.usefixtures("isServerHeard")

STATES = [*ReadyState, *UpgradeState, *HeartbeatState]


@pytest.mark.parametrize("given", Input)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_everyPairOfStateAndInput(state: Any, given: Input) -> None:
    """An input leads to the one state that the table says, or changes nothing and is known to."""
    socket = Session().socket
    machines: dict[type[Any], str] = {
        ReadyState: "_readyState",
        UpgradeState: "_upgradeState",
        HeartbeatState: "heartbeatState",
    }
    before = {kind: getattr(socket, machine) for kind, machine in machines.items()}
    machine = machines[type(state)]
    setattr(socket, machine, state)
    expected = TRANSITIONS.get((state, given))
    assert change(socket, machine, given) is (expected is not None)
    before[type(state)] = expected or state
    assert {kind: getattr(socket, machine) for kind, machine in machines.items()} == before


def test_theTableItself() -> None:
    """Nothing leaves closed, nothing but a return undoes an upgrade, and every state can be reached."""
    assert not [key for key in TRANSITIONS if key[0] is ReadyState.CLOSED]
    assert [given for old, given in TRANSITIONS if old is UpgradeState.DONE] == [Input.RETURN]
    assert {type(old) is type(new) for (old, _), new in TRANSITIONS.items()} == {True}
    starts = {ReadyState.OPENING, UpgradeState.NONE, HeartbeatState.STOPPED}
    assert starts | set(TRANSITIONS.values()) == set(STATES)


PACKETS = [Packet(each) for each in PacketType if each is not PacketType.CLOSE]


PACKETS += [Packet(PacketType.PING, "probe"), Packet(PacketType.MESSAGE, b"x"), Packet(PacketType.OPEN, "0")]


@pytest.mark.parametrize("packet", PACKETS, ids=repr)
@pytest.mark.parametrize("state", ["open", "closing", "closed", "probing", "probed", "upgraded"])
def test_everyPacketInEveryState(state: str, packet: Packet) -> None:
    """Whatever a client sends whenever: the session goes on, or ends cleanly and leaves nothing."""
    session = polling()
    socket, transport = session.socket, session.transport
    if state in ("probing", "probed", "upgraded"):
        candidate = session.candidate()
        if state != "probing":
            candidate.receive(PacketType.PING, "probe")
        if state == "upgraded":
            candidate.receive(PacketType.UPGRADE)
            transport = candidate
    elif state == "closing":
        socket.close()
    elif state == "closed":
        socket.close(discard=True)
    assert socket.readyState == (state if state in ("closing", "closed") else "open")
    if packet.type is PacketType.MESSAGE:
        transport.owner.transportMessage(transport, packet.data)
    else:
        transport.owner.transportPacket(transport, packet)
    if packet.type is PacketType.PING and state not in ("closing", "closed"):
        assert session.closes == [("transport error", "invalid heartbeat direction")]
        assert session.isQuiet()
    else:
        assert socket.readyState == (state if state in ("closing", "closed") else "open")
        received = [each for each in session.events if each[0] in ("packet", "message")]
        if state in ("closing", "closed"):
            assert received == []
        elif packet.type is PacketType.MESSAGE:
            assert received == [("packet", packet), ("message", packet.data)]
        else:
            assert received == [("packet", packet)]
    socket.close(discard=True)
    assert session.isQuiet()
    assert session.ended == [socket]
