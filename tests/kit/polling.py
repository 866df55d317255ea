"""Polling transports without a server, and what clients send to them."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload import SEPARATOR, codecFor
from engineio_twisted.transports.jsonp import JSONPTransport
from engineio_twisted.transports.polling import PollingTransport
from engineio_twisted.web.writer import ResponseWriter

from .fakes import FakeOwner, FakeRequest, FakeWriter

HELLO = Packet(PacketType.MESSAGE, "hello")


def polling(
    limit: int = 1000,
    revision: int = 4,
    supportsBinary: bool = True,
    index: str | None = None,
    writer: ResponseWriter | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> tuple[PollingTransport, FakeOwner]:
    """
    Return a polling transport, and its owner.

    @param limit: C{maxHttpBufferSize}.
    @param index: for a transport of JSONP, its digits.
    """
    settings = ServerOptions(maxHttpBufferSize=limit, **options)
    codec, reactor, writes = codecFor(revision), clock or Clock(), writer or FakeWriter()
    if index is None:
        transport = PollingTransport(codec, supportsBinary, settings, reactor, writes)
    else:
        transport = JSONPTransport(codec, settings, reactor, writes, index)
    transport.owner = FakeOwner()
    return transport, transport.owner


def post(body: bytes, **headers: str) -> FakeRequest:
    """Return a POST."""
    return FakeRequest(b"POST", body=body, headers={name.replace("_", "-"): [value] for name, value in headers.items()})


def inRevision4(data: list[str]) -> bytes:
    """Return a payload of messages in revision 4."""
    return SEPARATOR.join("4" + each for each in data).encode()
