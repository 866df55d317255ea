"""JSONP: scripts out, forms in."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import urlencode

import pytest

from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.fakes import FakeRequest
from ..kit.polling import polling, post


def answered(packets: list[Packet], revision: int = 4, **given: Any) -> FakeRequest:
    transport, _ = polling(revision=revision, index="7", **given)
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send(packets)
    return request


@pytest.mark.parametrize(
    ("data", "script"),
    [
        ("hello", '___eio[7]("4hello");'),
        ("é😀", '___eio[7]("4é😀");'),
        ('"\\', '___eio[7]("4\\"\\\\");'),
        ("\u2028\u2029", '___eio[7]("4\\u2028\\u2029");'),
        ("</script>\n", '___eio[7]("4</script>\\n");'),
        (b"\x01\x02\x03\x04", '___eio[7]("bAQIDBA==");'),
    ],
)
def test_jsonpAnswers(data: str | bytes, script: str) -> None:
    """They are scripts that call the client's function with the payload as a string."""
    request = answered([Packet(PacketType.MESSAGE, data)])
    assert request.written.decode() == script
    assert request.header("content-type") == "text/javascript; charset=UTF-8"
    assert request.header("x-content-type-options") == "nosniff"
    assert request.header("cache-control") == "no-store"


def test_jsonpInRevision3() -> None:
    """Bytes are base64 there too, and lengths those of the text in the string."""
    request = answered([Packet(PacketType.MESSAGE, '"\u2028😀'), Packet(PacketType.MESSAGE, b"\x01")], revision=3)
    assert request.written.decode() == '___eio[7]("5:4\\"\\u2028😀6:b4AQ==");'


def test_jsonpIsCompressedToo() -> None:
    """By the size of the script."""
    request = answered([Packet(PacketType.MESSAGE, "x" * 2000)])
    assert request.header("content-encoding") == "gzip"
    assert gzip.decompress(request.written) == b'___eio[7]("4' + b"x" * 2000 + b'");'


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("4hello", "hello"),
        ("4a\\nb", "a\nb"),
        ("4a\\\\nb", "a\\nb"),
        ("4a\\\\\\nb", "a\\\\nb"),
        ("4a\\n\\nb", "a\n\nb"),
        ("4a\\tb\\", "a\\tb\\"),
        # As browsers write a carriage return in a form.
        ("4a\r\n\\nb\r\n\r\n", "a\r\nb\r\r"),
        ("4é😀+&=%\u2028", "é😀+&=%\u2028"),
        ("bAQID+w==", b"\x01\x02\x03\xfb"),
    ],
)
def test_jsonpPosts(field: str, data: str | bytes) -> None:
    """A form with the payload in its field d, in which newlines are escaped, and what looks like one twice."""
    transport, owner = polling(index="0")
    request = post(urlencode({"d": field}).encode(), content_type="application/x-www-form-urlencoded")
    transport.push(request.exchange)
    assert [packet.data for packet in owner.packets] == [data]
    assert (request.status, request.written, request.header("content-type")) == (200, b"ok", "text/html")


@pytest.mark.parametrize(
    "body", [b"", b"4a", b"e=4a", b"d=4a&d=4b", b"d", b"d=", b"d=%ff", b"\xff", b"a&" * 1000 + b"d=4a"]
)
def test_jsonpPostsThatAreNone(body: bytes) -> None:
    """Without exactly one field d, and text in it, there is nothing to deliver: 400, and the session ends."""
    transport, owner = polling(limit=10_000, index="0")
    request = post(body)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (400, [])
    assert [reason for reason, _ in owner.closes] == ["parse error"]
