"""The open packet as a client reads it. docs/protocol.md, "Handshake"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from ..protocol.packet import excerpt
from .errors import ConnectionFailed, FailureType

MAX_SID = 512
"""Characters of a session id at most. It is a part of every URL."""

MAX_TIME = 2**31 - 1
"""Milliseconds of a time of the heartbeat at most, which is what timers of Node.js take."""


@attrs.frozen
class Handshake:
    """
    What a server says as it opens a session.

    @ivar sid: the id of the session.
    @ivar upgrades: the transports to which the session may move.
    @ivar pingInterval: milliseconds from a heartbeat to the next ping.
    @ivar pingTimeout: milliseconds that the answer to a ping may take.
    @ivar maxPayload: bytes of a request, or of a message on WebSocket, that the server takes; None if it doesn't say.
    @ivar extra: other members of the open packet.
    """

    sid: str = attrs.field(repr=False)
    upgrades: tuple[str, ...]
    pingInterval: int
    pingTimeout: int
    maxPayload: int | None
    extra: Mapping[str, Any]


def _refused(problem: str) -> ConnectionFailed:
    return ConnectionFailed(FailureType.HANDSHAKE, f"open packet {problem}")


def _time(opening: dict[str, Any], name: str) -> int:
    value = opening.pop(name, None)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 < value <= MAX_TIME:
        raise _refused(f"with {name} {value!r:.40}: expected milliseconds, from 1 to {MAX_TIME}")
    return value


def readHandshake(data: str | bytes) -> Handshake:
    """
    Read the data of an open packet.

    @raise ConnectionFailed: it isn't one.
    """
    try:
        opening = json.loads(data, parse_constant=lambda name: name)
    except (ValueError, RecursionError):
        raise _refused(f"{excerpt(data)}: expected JSON") from None
    if not isinstance(opening, dict):
        raise _refused(f"{excerpt(data)}: expected an object of JSON")
    sid = opening.pop("sid", None)
    if not isinstance(sid, str) or not 0 < len(sid) <= MAX_SID or not sid.isascii() or not sid.isprintable():
        raise _refused(f"with sid {sid!r:.40}: expected the id of a session, up to {MAX_SID} characters of ASCII")
    upgrades = opening.pop("upgrades", [])
    if not isinstance(upgrades, list) or not all(isinstance(each, str) for each in upgrades):
        raise _refused(f"with upgrades {upgrades!r:.40}: expected the names of transports")
    interval, timeout = _time(opening, "pingInterval"), _time(opening, "pingTimeout")
    maxPayload = opening.pop("maxPayload", None)
    # Revision 3 has none.
    if maxPayload is not None and (type(maxPayload) is not int or maxPayload < 1):
        raise _refused(f"with maxPayload {maxPayload!r:.40}: expected bytes, 1 or more")
    return Handshake(sid, tuple(upgrades[:16]), interval, timeout, maxPayload, opening)
