"""What a polling client makes of responses, and of the packets that it sends."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

from ..protocol.errors import DecodeError
from ..protocol.packet import Packet
from .requests import ProtocolViolation, Response


class PollingFormat:
    """
    The payloads of one client.

    @param codec: of its revision of the protocol.
    @param isJSONP: whether it polls by scripts.
    """

    def __init__(self, codec: Any, isJSONP: bool) -> None:
        self._codec = codec
        self._isJSONP = isJSONP

    def read(self, response: Response) -> list[Packet]:
        """
        Return the packets in the response to a GET.

        @raise ProtocolViolation: it isn't what a server may send.
        """
        payload: str | bytes = response.body
        types = response.headers.getRawHeaders(b"content-type", [b""])
        try:
            if self._isJSONP:
                script = re.fullmatch(r"___eio\[0\]\((.*)\);", response.text, re.DOTALL)
                if script is None:
                    raise ProtocolViolation(f"the script {response.body[:64]!r}: expected a call of ___eio[0]")
                payload = json.loads(script[1])
            elif types != [b"application/octet-stream"]:
                payload = response.text
            return list(self._codec.decodePayload(payload))
        except (DecodeError, UnicodeDecodeError) as error:
            raise ProtocolViolation(f"the payload {payload[:64]!r}: {error}") from None

    def write(self, packets: list[Packet]) -> tuple[list[tuple[str, str]], bytes]:
        """Return the headers and the body of the POST that sends packets."""
        payload = self._codec.encodePayload(packets)
        if self._isJSONP:
            assert isinstance(payload, str)
            # A newline would be changed on its way through a form.
            form = urlencode({"d": payload.replace("\\n", "\\\\n").replace("\n", "\\n")}).encode()
            return [("Content-Type", "application/x-www-form-urlencoded")], form
        if isinstance(payload, bytes):
            return [("Content-Type", "application/octet-stream")], payload
        return [("Content-Type", "text/plain;charset=UTF-8")], payload.encode()
