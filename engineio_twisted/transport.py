"""What the transports share, and all that a session shows of the one it is on."""

from __future__ import annotations

from typing import Any, ClassVar

from .observer import Counters
from .protocol.payload import Codec


class Transport:
    """
    The base of the transports.

    @ivar name: its name, as in the query: C{polling} or C{websocket}.
    @ivar owner: the session, an L{ITransportOwner}.
    @ivar codec: writes and reads packets in the revision of the client.
    @ivar supportsBinary: False if the client wants bytes as base64.
    @ivar counters: where its packets and bytes are counted; by default counters of its own.
    """

    name: ClassVar[str]
    owner: Any = None

    def __init__(self, codec: Codec, supportsBinary: bool, counters: Counters | None = None) -> None:
        self.codec = codec
        self.supportsBinary = supportsBinary
        self.counters: Counters = Counters() if counters is None else counters
