"""What type checkers know of a client."""

from __future__ import annotations

from typing import assert_type

from twisted.internet.defer import Deferred

from engineio_twisted import CloseReason, Packet, Transport
from engineio_twisted.client import Client, ConnectionFailed, FailedResponse, FailureType, Handshake

client = Client("https://example.org", transports=["websocket"], query={"a": 1}, extraHeaders={"A": "b"}, resume=True)


@client.on("handshake")
def handshake(handshake: Handshake) -> None:
    assert_type(handshake.maxPayload, int | None)


@client.on("upgradeError")
async def failed(failure: ConnectionFailed) -> None:
    assert_type(failure.type, FailureType)
    assert_type(failure.response, FailedResponse | None)


client.on("message", lambda data: client.send(data))
client.once("close", lambda reason, description: print(reason.value, description.upper()))


@client.on("upgrade")
def upgraded(transport: Transport) -> None:
    print(transport.name)


async def use() -> None:
    assert_type(await client.connect(), Client)
    assert_type(client.send("a").send(b"b"), Client)
    assert_type(client.sendAll(["a", b"b"]), Client)
    assert_type(client.writeBuffer, list[Packet])
    assert_type(client.handshake, Handshake | None)
    assert_type(client.close(), Deferred[None])
    assert_type(await client.whenClosed(), CloseReason)


Client("https://example.org", reconnection=True)  # error
Client("https://example.org", query={"a": b"b"})  # error
Client(5)  # error
client.on("connect", print)  # error
client.send(None)  # error


@client.on("handshake")  # error
def wrong(handshake: str) -> None: ...
