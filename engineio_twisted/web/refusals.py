"""The forms of a refusal, as the response to a request."""

from __future__ import annotations

from http import HTTPStatus

from ..protocol.errors import HTTPRefusal


def plainForm(refusal: HTTPRefusal) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the response to a plain request: JSON with a message."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **refusal.headers}
    return headers, refusal.asJSON().encode()


def upgradeForm(refusal: HTTPRefusal) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the response to a request for a WebSocket: the message as text."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", **refusal.headers}
    return headers, refusal.message.encode()


def wholeForm(refusal: HTTPRefusal) -> bytes:
    """Return the whole response to a request whose head is refused, of which no more is known."""
    body = refusal.asJSON().encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n{head}\r\n".encode() + body
