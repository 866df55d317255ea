"""
HTTP long-polling: a GET waits until there is something to send, a POST delivers what the client has to say.

docs/protocol.md, "Polling".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from .debug import DebugScope
from .errors import CloseReason, DecodeError, HTTPRefusal, PayloadTooLarge
from .packet import Packet, PacketType
from .payload import Codec
from .transport import ITransport, Transport, respond

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

_debug = DebugScope("engine:polling")


def refuse(request: Request, refusal: HTTPRefusal) -> None:
    """Answer a request with a refusal, in the form for plain requests."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **refusal.headers}
    respond(request, refusal.status, headers, refusal.asJSON().encode())


@implementer(ITransport)
class PollingTransport(Transport):
    """
    The polling transport of one session.

    Three things call this: the server, with each GET (L{poll}) and POST (L{push}) of the session; the request class
    of our own site, while it reads the body of a POST (L{pushStarted}, L{pushEnded}, L{pushLost}); and the session. It
    owns the GET that waits and the POST whose body is being read, at most one of each.
    """

    name = "polling"
    _log = Logger()

    def __init__(self, codec: Codec, supportsBinary: bool, maxHttpBufferSize: int) -> None:
        super().__init__(codec, supportsBinary)
        self._maxHttpBufferSize = maxHttpBufferSize
        self._poll: Request | None = None
        self._body: Request | None = None

    @property
    def writable(self) -> bool:
        # When its connection is lost, others may hear of it before we do.
        return self._poll is not None and self._poll.channel is not None

    def poll(self, request: Request) -> None:
        """Serve a GET: it waits until there is something to send. A second one while one waits ends the session."""
        if self._poll is not None:
            self._failed("overlapping GET requests")
            refuse(request, HTTPRefusal("a GET of this session is waiting already"))
            return
        self._poll = request
        request.notifyFinish().addErrback(self._pollLost)
        self.owner.transportReady(self)

    def _pollLost(self, _: Failure) -> None:
        self._poll = None
        self._failed("poll connection closed prematurely")

    def pushStarted(self, request: Request) -> None:
        """
        Learn that the body of a POST is being read.

        @raise HTTPRefusal: the body of another is. The session has ended.
        """
        if self._body is not None:
            self._failed("overlapping POST requests")
            raise HTTPRefusal("a POST of this session is being read already")
        self._body = request

    def pushLost(self, request: Request) -> None:
        """Learn that the body of a POST will not be complete: its connection has gone. The session ends."""
        if self._body is request:
            self._body = None
            self._failed("data request connection closed prematurely")

    def pushEnded(self, request: Request) -> None:
        """Learn that the body of a POST is complete, or was refused before it was."""
        if self._body is request:
            self._body = None

    def push(self, request: Request) -> None:
        """Serve a POST, whose body is complete: deliver its packets, one after the other."""
        content = request.content
        assert content is not None
        body = content.read(self._maxHttpBufferSize + 1)
        if len(body) > self._maxHttpBufferSize:
            # Only a site whose request class isn't ours lets such a body come this far.
            refusal = PayloadTooLarge(self._maxHttpBufferSize)
            self._log.warn("POST refused: {reason}", reason=refusal.message)
            refuse(request, refusal)
            return
        contentType = request.getHeader("content-type") or ""
        isBinary = contentType.partition(";")[0].strip().lower() == "application/octet-stream"
        try:
            for packet in self.codec.decodePayload(body, isBinary):
                if packet.type is PacketType.CLOSE:
                    self.discard()
                    self.owner.transportClosed(self, CloseReason.TRANSPORT_CLOSE, "close packet")
                    break
                if _debug.enabled:
                    _debug.log(f"received {packet}")
                if not self.owner.transportPacket(self, packet):
                    # Nothing is acknowledged that nobody gets.
                    refuse(request, HTTPRefusal("the session is closing"))
                    return
        except DecodeError as error:
            self.owner.transportClosed(self, CloseReason.PARSE_ERROR, str(error))
            refuse(request, HTTPRefusal(str(error)))
            return
        self._respond(request, "text/html", b"ok")

    def send(self, packets: Sequence[Packet]) -> None:
        if _debug.enabled:
            _debug.log(f"sending {packets}")
        request, self._poll = self._poll, None
        if request is not None:
            self._respond(request, "text/plain; charset=UTF-8", self.codec.encodePayload(packets))

    def close(self, packets: Sequence[Packet] = ()) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.loseConnection()
        self.send([*packets, Packet(PacketType.CLOSE)])

    def discard(self) -> None:
        self.send([Packet(PacketType.NOOP)])

    def _failed(self, description: str) -> None:
        self.owner.transportClosed(self, CloseReason.TRANSPORT_ERROR, description)

    def _respond(self, request: Request, contentType: str, body: bytes) -> None:
        headers = {"Content-Type": contentType, "Cache-Control": "no-store"}
        userAgent = request.getHeader("user-agent") or ""
        if ";MSIE" in userAgent or "Trident/" in userAgent:
            # These take a payload for an attempt at cross-site scripting, and change it.
            headers["X-XSS-Protection"] = "0"
        respond(request, 200, headers, body)
