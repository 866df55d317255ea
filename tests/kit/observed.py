"""Servers that listen, as an observer sees them."""

from __future__ import annotations

from typing import Any

from engineio_twisted import Server

from .asking import OPEN, opened
from .fakes import FakeRequest


def ask(server: Server, uri: bytes, body: bytes = b"", method: bytes = b"") -> FakeRequest:
    request = FakeRequest(method or (b"POST" if body else b"GET"), uri, body)
    server.handleRequest(request)
    return request


def session(server: Server) -> bytes:
    """The address of a new session on polling."""
    return OPEN + b"&sid=" + opened(ask(server, OPEN)).encode()


def fails(*args: Any) -> Any:
    raise RuntimeError("no")
