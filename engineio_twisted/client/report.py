"""What the terminal tool prints, for people or as JSON, and its exit codes. docs/client-tool.md"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import attrs

from .errors import ConnectionFailed, FailureType

OK = 0
"""The session was closed as it was asked for."""

FAILED = 1
"""The tool itself failed."""

WRONG_USAGE = 2
"""An option or the URL is wrong."""

INTERRUPTED = 130
"""Interrupted before the session was open."""


@attrs.frozen
class Kind:
    """
    What a kind of failure means for somebody at a terminal.

    @ivar exitCode: the exit code of the tool.
    @ivar cure: what to look at first.
    """

    exitCode: int
    cure: str


KINDS: Mapping[FailureType, Kind] = {
    FailureType.DNS: Kind(3, "check the name of the host in the URL"),
    FailureType.CONNECT: Kind(4, "check that the server runs, and the host and the port in the URL"),
    FailureType.TLS: Kind(5, "--ca FILE trusts another authority, --insecure any certificate"),
    FailureType.TIMEOUT: Kind(6, "check firewalls and proxies on the way; --timeout waits longer"),
    FailureType.PROXY: Kind(7, "check --proxy, its user and its password"),
    FailureType.REFUSED: Kind(8, "check what the server asks for: --query, --header, --eio"),
    FailureType.AUTHENTICATION: Kind(9, "say who asks with --header 'Authorization: …'"),
    FailureType.REDIRECT: Kind(10, "connect to the URL that it names"),
    FailureType.UNAVAILABLE: Kind(11, "check that the proxy reaches the server, and its log"),
    FailureType.HTTP: Kind(12, "check the path, and what the proxy sends where"),
    FailureType.NOT_ENGINEIO: Kind(13, "check the port and the path: something else answers there"),
    FailureType.HANDSHAKE: Kind(14, "check that the proxy passes WebSocket on; --transport polling does without"),
    FailureType.PARSE: Kind(15, "check the revision of the protocol (--eio), and what the proxy changes"),
    FailureType.TOO_LARGE: Kind(16, "the server sends messages that are too large"),
    FailureType.LOST: Kind(17, "check the timeouts of proxies on the way, and the log of the server"),
    FailureType.PROBE: Kind(18, "check that the proxy passes WebSocket on, to the same process"),
    FailureType.CLOSED: Kind(19, "the log of the server says why"),
}
"""Each kind of failure."""


def event(name: str, **fields: Any) -> dict[str, Any]:
    """Return an event as it is printed with C{--json}: an object with its name, and its fields."""
    return {"event": name, **fields}


def messageEvent(data: str | bytes) -> dict[str, Any]:
    """Return the event of a message: the text, or the bytes in base64."""
    if isinstance(data, str):
        return event("message", text=data)
    return event("message", base64=b64encode(data).decode())


def failureEvent(failure: ConnectionFailed) -> dict[str, Any]:
    """Return the event of the failure that ends the tool."""
    kind = KINDS[failure.type]
    response = failure.response
    return event(
        "failed",
        type=str(failure.type),
        description=failure.description,
        transport=failure.transport,
        status=None if response is None else response.status,
        cure=kind.cure,
        exitCode=kind.exitCode,
    )


def faultEvent(description: str) -> dict[str, Any]:
    """Return the event of a failure of the tool itself."""
    return event(
        "failed",
        type="error",
        description=description,
        transport=None,
        status=None,
        cure="what is above it says where",
        exitCode=FAILED,
    )


def asJSON(happened: Mapping[str, Any]) -> str:
    """Return an event as one line of JSON, in ASCII."""
    return json.dumps(happened)


def asLine(happened: Mapping[str, Any]) -> str:
    """Return an event as a line for people, or several for a message of several."""
    line: str = _LINES[happened["event"]](happened)
    return line


def _open(happened: Mapping[str, Any]) -> str:
    return (
        f"* open on {happened['transport']} after {_ms(happened)}, session {happened['session']},"
        f" a ping every {happened['pingInterval'] / 1000:g} s"
    )


def _message(happened: Mapping[str, Any]) -> str:
    if "base64" in happened:
        return f"<base64 {happened['base64']}"
    # What a server sends is not to move the cursor, or worse.
    lines = happened["text"].split("\n")
    return "\n".join(f"< {each if each.isprintable() else _shown(each)}" for each in lines)


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() or each == "\t" else repr(each)[1:-1] for each in text)


def _ms(happened: Mapping[str, Any]) -> str:
    return f"{happened['milliseconds']:g} ms"


_LINES: Mapping[str, Any] = {
    "connecting": lambda happened: f"* connecting to {happened['url']}",
    "open": _open,
    "upgrade": lambda happened: f"* upgraded to {happened['transport']} after {_ms(happened)}",
    "upgradeError": lambda happened: f"* not upgraded: {happened['type']}: {happened['description']}",
    "message": _message,
    "echo": lambda happened: f"* round trip of a message on {happened['transport']}: {_ms(happened)}",
    "unsent": lambda happened: f"* not sent: {happened['description']}",
    "suspend": lambda happened: f"* connection lost, coming back: {happened['description']}",
    "resume": lambda happened: f"* came back on {happened['transport']} after {_ms(happened)}",
    "close": lambda happened: f"* closed: {happened['reason']}: {happened['description']}",
    "failed": lambda happened: f"{happened['type']}: {happened['description']} ({happened['cure']})",
}
