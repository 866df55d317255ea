"""Where a client connects to, and the addresses of its requests."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted import OptionError
from engineio_twisted.client.address import addressOf


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", "http://example.org/engine.io/"),
        ("https://example.org", "https://example.org/engine.io/"),
        ("ws://example.org", "http://example.org/engine.io/"),
        ("wss://example.org:443", "https://example.org/engine.io/"),
        ("http://example.org:443", "http://example.org:443/engine.io/"),
        ("HTTP://Example.org:80/", "http://example.org/engine.io/"),
        ("http://127.0.0.1:3000/chat/", "http://127.0.0.1:3000/chat/"),
        ("http://[::1]:3000/a%20b", "http://[::1]:3000/a%20b/"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    """The scheme decides about TLS, and a path of the URL takes the place of the ordinary one."""
    assert addressOf(url, None, True, {}).url({}) == f"{expected}?"


def test_path() -> None:
    """The path is an option too, and so is the slash behind it."""
    assert addressOf("ws://a", "/x", False, {}).url({"EIO": "4"}, isWebSocket=True) == "ws://a/x?EIO=4"


def test_query() -> None:
    """Parameters of the URL and of the option are sent with each request; the option replaces those of the URL."""
    address = addressOf("http://a?token=one&b=2&b=3&e=", None, True, {"token": "t w/ö&"})
    assert address.target({"EIO": "4"}) == "/engine.io/?b=2&b=3&e=&token=t%20w%2F%C3%B6%26&EIO=4"


def test_origin() -> None:
    """What upgrades are remembered by has the scheme and the port."""
    assert addressOf("wss://a:8443/x", None, True, {}).origin == "https://a:8443"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (5, "expected the URL of a server as text"),
        ("", "with its scheme"),
        ("example.org", "with its scheme"),
        ("localhost:3000", "with its scheme"),
        ("ftp://example.org", "not ftp:"),
        ("http://", "with the name of a host"),
        ("http:///path", "with the name of a host"),
        ("http://a:b", "a URL such as"),
        ("http://a:99999", "a URL such as"),
        ("http://a:0", "a port from 1 to 65535"),
        ("http://[::1", "a URL such as"),
        ("http://a/ b", "without spaces"),
        ("http://bücher.example", "IDNA"),
        ("http://a\n", "without spaces"),
        ("http://a#b", "without a fragment"),
        ("http://a?sid=1", "parameter sid is the protocol's own"),
        ("http://a?EIO=3", "parameter EIO"),
    ],
)
def test_wrongUrls(url: Any, said: str) -> None:
    """What is no URL of a server is refused with what was expected."""
    with pytest.raises(OptionError) as caught:
        addressOf(url, None, True, {})
    assert said in str(caught.value)


def test_passwords() -> None:
    """A password in a URL is refused, and isn't shown."""
    with pytest.raises(OptionError) as caught:
        addressOf("https://me:secret@example.org/", None, True, {})
    assert "extraHeaders" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://a/?token=secret#b", "http://a/?token=secret&sid=1", "ftp://a/?token=secret"])
def test_secrets(url: str) -> None:
    """A query may hold a secret: neither an error nor a representation shows it."""
    with pytest.raises(OptionError) as caught:
        addressOf(url, None, True, {})
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(addressOf("http://a/?token=secret", None, True, {"auth": "secret"}))


def test_twoPaths() -> None:
    """A path in the URL and another as option is a contradiction."""
    with pytest.raises(OptionError, match="the URL has a path already, /a: give one of the two"):
        addressOf("http://h/a", "/b", True, {})
