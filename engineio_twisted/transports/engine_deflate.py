"""Compression of WebSocket messages: what is agreed on with a client, and what then compresses. docs/protocol.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress import PerMessageDeflate as AutobahnDeflate
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

from ..protocol.frames import INVALID_PAYLOAD, TOO_LARGE, FrameError

if TYPE_CHECKING:
    from ..protocol.option_parts import PerMessageDeflate

LARGEST_WINDOW = 15
"""Bits of the largest window, which is what everybody has who isn't asked for another (RFC 7692, 7.1.2)."""


def agreeOn(extensions: Iterable[bytes], settings: PerMessageDeflate) -> PerMessageDeflateOfferAccept | None:
    """
    Return what is agreed on about compression: the first offer that can be accepted; or None (RFC 7692, 5.1).

    An offer with a parameter that is unknown, given twice or out of range is declined, as is one without a limit that
    the settings ask of the client.

    @param extensions: the values of the request's Sec-WebSocket-Extensions header.
    """
    for element in b",".join(extensions).decode("latin-1").split(","):
        parameters = _parametersOf(element)
        try:
            # Autobahn raises no other type if it doesn't like a parameter.
            offer = None if parameters is None else PerMessageDeflateOffer.parse(parameters)
        except Exception:
            offer = None
        if parameters is None or offer is None:
            continue
        clientBits = 0
        if settings.clientMaxWindowBits < LARGEST_WINDOW:
            if not offer.accept_max_window_bits:
                continue
            offered = parameters["client_max_window_bits"][0]
            clientBits = min(settings.clientMaxWindowBits, LARGEST_WINDOW if offered is True else int(offered))
        # A server may say these whether or not they are offered (RFC 7692, 7.1.1 and 7.1.2); Autobahn takes what it
        # says from the offer.
        offer.accept_no_context_takeover = True
        offer.request_no_context_takeover = offer.request_no_context_takeover or settings.serverNoContextTakeover
        serverBits = min(settings.serverMaxWindowBits, offer.request_max_window_bits or LARGEST_WINDOW)
        if serverBits < LARGEST_WINDOW:
            offer.request_max_window_bits = serverBits
        return PerMessageDeflateOfferAccept(
            offer,
            request_no_context_takeover=settings.clientNoContextTakeover,
            request_max_window_bits=clientBits,
            mem_level=settings.memLevel,
        )
    return None


_PARAMETER = re.compile(r"\s*([a-z_]+)\s*(?:=\s*(?:([1-9][0-9]*)|\"([1-9][0-9]*)\")\s*)?")


def _parametersOf(element: str) -> dict[str, list[Any]] | None:
    """Return the parameters of an offer to compress, each with all its values; None if it is no such offer."""
    name, *parameters = element.split(";")
    if name.strip() != PerMessageDeflateOffer.EXTENSION_NAME:
        return None
    values: dict[str, list[Any]] = {}
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None:
            return None
        values.setdefault(match[1], []).append(match[2] or match[3] or True)
    return values


class Deflate(AutobahnDeflate):
    """
    What compresses and inflates the messages of one connection: an L{Inflater} too.

    @ivar threshold: bytes from which messages are compressed.
    """

    threshold: int = 0
    _decompressor: Any

    def compress(self, payload: bytes) -> bytes:
        """Return a message compressed."""
        self.start_compress_message()
        compressed: bytes = self.compress_message_data(payload) + self.end_compress_message()
        return compressed

    # Inflater

    def begin(self) -> None:
        self.start_decompress_message()

    def inflate(self, data: bytes, limit: int) -> bytes:
        try:
            return self.decompress_message_data(data, limit)
        except PayloadExceededError as error:
            raise FrameError(TOO_LARGE, str(error)) from None
        except PayloadCorruptError as error:
            raise _corrupt(error) from None

    def end(self) -> None:
        try:
            self.end_decompress_message()
        except PayloadCorruptError as error:
            raise _corrupt(error) from None

    # Of Autobahn

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        # One byte more than there may be: if there is just as much, zlib may hold back what is behind it, and nobody
        # would know that the message goes on.
        limit = None if max_output_len is None else max_output_len + 1
        inflated: bytes = super().decompress_message_data(data, limit)
        # Behind the end there may be one byte (RFC 7692, 7.2.3.4). zlib would keep whatever is there.
        if len(self._decompressor.unused_data) > 1:
            raise PayloadCorruptError("data behind the end of the compressed stream")
        return inflated

    def end_decompress_message(self) -> None:
        # A client may end the compressed stream with a message.
        if self._decompressor.eof:
            self._decompressor = None
        else:
            super().end_decompress_message()


def _corrupt(error: PayloadCorruptError) -> FrameError:
    return FrameError(INVALID_PAYLOAD, f"received WebSocket message cannot be decompressed: {error}")
