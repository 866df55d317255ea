"""
The states of a session: three machines, and the one table of what changes them.

What decides a change is L{TRANSITIONS} and nothing else; an absent key means that the input changes nothing in that
state. docs/protocol.md, "Sessions"; docs/architecture.md, "The states of a session".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any


class ReadyState(StrEnum):
    """The state of a session, as its C{readyState}. Equal to its text."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class UpgradeState(Enum):
    """How far a session is in moving from polling to WebSocket."""

    NONE = "no upgrade"
    PROBING = "a WebSocket is there"
    PROBED = "the WebSocket was tried out"
    DONE = "upgraded"

    # There is one of each; that of Enum takes a call in Python.
    __hash__ = object.__hash__


class HeartbeatState(Enum):
    """What the heartbeat of a session waits for."""

    STOPPED = "nothing"
    RESTING = "the next ping"
    AWAITING = "a pong"
    LISTENING = "a ping"

    __hash__ = object.__hash__


State = ReadyState | UpgradeState | HeartbeatState


class Input(Enum):
    """What can change a state."""

    START = "the open packet was sent"
    CLOSE = "the server closes the session"
    END = "the session is over"
    CANDIDATE = "a WebSocket wants to take over"
    PROBE = "ping with the data probe, on that WebSocket"
    UPGRADE = "upgrade packet, on that WebSocket"
    ABANDON = "that WebSocket is given up"
    RETURN = "the client has come back on another connection"
    INTERVAL = "pingInterval is over"
    PONG = "pong"
    LISTEN = "the client is the one to ping"
    PING = "ping"
    STOP = "no pings any more"

    __hash__ = object.__hash__


TRANSITIONS: Mapping[tuple[State, Input], State] = {
    (ReadyState.OPENING, Input.START): ReadyState.OPEN,
    (ReadyState.OPENING, Input.END): ReadyState.CLOSED,
    (ReadyState.OPEN, Input.CLOSE): ReadyState.CLOSING,
    (ReadyState.OPEN, Input.END): ReadyState.CLOSED,
    (ReadyState.CLOSING, Input.END): ReadyState.CLOSED,
    (UpgradeState.NONE, Input.CANDIDATE): UpgradeState.PROBING,
    (UpgradeState.PROBING, Input.PROBE): UpgradeState.PROBED,
    # Some clients trust the WebSocket without trying it out.
    (UpgradeState.PROBING, Input.UPGRADE): UpgradeState.DONE,
    (UpgradeState.PROBING, Input.ABANDON): UpgradeState.NONE,
    (UpgradeState.PROBED, Input.UPGRADE): UpgradeState.DONE,
    (UpgradeState.PROBED, Input.ABANDON): UpgradeState.NONE,
    (UpgradeState.DONE, Input.RETURN): UpgradeState.NONE,
    (HeartbeatState.STOPPED, Input.START): HeartbeatState.RESTING,
    (HeartbeatState.RESTING, Input.INTERVAL): HeartbeatState.AWAITING,
    (HeartbeatState.RESTING, Input.STOP): HeartbeatState.STOPPED,
    (HeartbeatState.AWAITING, Input.PONG): HeartbeatState.RESTING,
    (HeartbeatState.AWAITING, Input.STOP): HeartbeatState.STOPPED,
    (HeartbeatState.STOPPED, Input.LISTEN): HeartbeatState.LISTENING,
    (HeartbeatState.LISTENING, Input.PING): HeartbeatState.LISTENING,
    (HeartbeatState.LISTENING, Input.STOP): HeartbeatState.STOPPED,
}


def change(session: Any, machine: str, given: Input) -> bool:
    """
    Change a state of a session by an input, if the input means anything in it.

    @param machine: the name of the attribute that is the state.
    @return: whether the input means anything in the present state.
    """
    old: State = getattr(session, machine)
    new = TRANSITIONS.get((old, given))
    if new is None:
        return False
    setattr(session, machine, new)
    counters = session._host.counters
    if counters.stateObservers:
        counters.tell("stateChanged", session, old, new)
    return True
