"""The options of a client: what they take, and how they refuse."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

import attrs
import pytest
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.http_headers import Headers

from engineio_twisted import OptionError
from engineio_twisted.client import (
    Client,
    ClientKeywords,
    ClientOptions,
    ClientSessionEndpoint,
    FailedResponse,
    Handshake,
)


def test_defaults() -> None:
    """Without options a client does as the reference's: polling, then WebSocket."""
    options = ClientOptions()
    assert (options.transports, options.upgrade, options.tryAllTransports) == (("polling", "websocket"), True, False)
    assert (options.EIO, options.perMessageDeflate, options.withCredentials, options.resume) == (4, None, False, False)


def test_keywords() -> None:
    """Type checkers know every option."""
    assert sorted(ClientKeywords.__annotations__) == sorted(each.name for each in attrs.fields(ClientOptions))


def test_described() -> None:
    """Each option has a sentence that stands alone, and a group."""
    for each in attrs.fields(ClientOptions):
        assert each.metadata["help"].endswith("."), each.name
        assert each.metadata["group"], each.name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"query": {"a": 1, "b": 2.5, "c": "x"}}, {"a": "1", "b": "2.5", "c": "x"}),
        ({"transports": ["websocket"]}, ("websocket",)),
        ({"path": "/chat/"}, "/chat"),
        ({"protocols": ["a", "b"]}, ("a", "b")),
        ({"extraHeaders": {"Authorization": "Bearer x"}}, {"Authorization": "Bearer x"}),
        ({"requestTimeout": 5}, 5),
        ({"timestampRequests": False}, False),
        ({"withCredentials": True}, True),
    ],
)
def test_taken(given: Any, expected: object) -> None:
    """Options are taken in the forms in which a person writes them."""
    ((name, _),) = given.items()
    assert getattr(ClientOptions(**given), name) == expected


def test_compression() -> None:
    """Compression is an option with settings, as on a server."""
    deflate = ClientOptions(perMessageDeflate={"threshold": 5}).perMessageDeflate
    assert deflate is not None
    assert deflate.threshold == 5


def test_objects() -> None:
    """Objects of Twisted and of Python are taken as they are."""
    jar, policy = CookieJar(), BrowserLikePolicyForHTTPS()
    options = ClientOptions(withCredentials=jar, contextFactory=policy)
    assert options.withCredentials is jar
    assert options.contextFactory is policy


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"transport": "polling"}, "did you mean transports?"),
        ({"host": "a"}, "the host is part of the URL"),
        ({"headers": {}}, "did you mean extraHeaders?"),
        ({"pingTimeout": 5}, "the server says in its handshake"),
        ({"reconnection": True}, "ClientService"),
        ({"resumeTimeout": 5}, "resume=True"),
        ({"rejectUnauthorized": False}, "contextFactory"),
        ({"transports": "polling"}, "each once"),
        ({"transports": []}, "each once"),
        ({"transports": ["polling", "polling"]}, "each once"),
        ({"transports": ["webtransport"]}, "each once"),
        ({"path": "chat"}, "the path of a URL"),
        ({"path": "/a?b"}, "the path of a URL"),
        ({"upgrade": 1}, "True or False"),
        ({"EIO": 5}, "3 or 4"),
        ({"EIO": "4"}, "3 or 4"),
        ({"EIO": True}, "3 or 4"),
        ({"query": "a=b"}, "a mapping"),
        ({"query": {"sid": "x"}}, "the protocol's own"),
        ({"query": {"a": True}}, "expected text"),
        ({"query": {"a": None}}, "expected text"),
        ({"query": {"": "x"}}, "expected text"),
        ({"query": {"a": "\ud800"}}, "UTF-8"),
        ({"extraHeaders": [("a", "b")]}, "a mapping"),
        ({"extraHeaders": {"a b": "c"}}, "the name of a header"),
        ({"extraHeaders": {"A": "b\r\nc: d"}}, "one line"),
        ({"extraHeaders": {"A": 5}}, "one line"),
        ({"extraHeaders": {"Upgrade": "h2c"}}, "the transports set this header"),
        ({"extraHeaders": {"sec-websocket-key": "x"}}, "the transports set this header"),
        ({"withCredentials": "yes"}, "CookieJar"),
        ({"connectTimeout": 0}, "a whole number of milliseconds, 1 or more"),
        ({"connectTimeout": None}, "a whole number of milliseconds, 1 or more"),
        ({"requestTimeout": 1.5}, "a whole number of milliseconds, 1 or more"),
        ({"timestampParam": "a b"}, "a token"),
        ({"bufferLimitAction": "ignore"}, "one of close, drop, raise"),
        ({"perMessageDeflate": {"level": 1}}, "perMessageDeflate.level"),
        ({"agent": object()}, "an IAgent"),
        ({"endpoint": "tcp:a:80"}, "an IStreamClientEndpoint"),
        ({"contextFactory": True}, "an IPolicyForHTTPS"),
        ({"resume": True, "EIO": 3}, "revision 3 has no resuming"),
    ],
)
def test_refused(given: Any, said: str) -> None:
    """A wrong option is refused at once, with its name and what was expected."""
    with pytest.raises(OptionError) as caught:
        ClientOptions(**given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"extraHeaders": {"Authorization": "Bearer secret\n"}},
        {"extraHeaders": ["Authorization: secret"]},
        {"query": {"token": "secret", "sid": "x"}},
        {"query": {"token": "secret", "a": None}},
        {"query": {"token": "secret", "a": "\ud800"}},
        {"query": "token=secret"},
        {"headers": {"Authorization": "secret"}},
        {"passphrase": "secret"},
        {"cookie": "io=secret"},
    ],
)
def test_secrets(given: Any) -> None:
    """What a header, a parameter or a cookie says may be a secret: an error doesn't show it."""
    with pytest.raises(OptionError) as caught:
        ClientOptions(**given)
    assert "secret" not in str(caught.value)


def test_secretsInRepresentations() -> None:
    """Nor does a representation, which may stand in a log."""
    headers, query = {"Authorization": "secret"}, {"token": "secret"}
    options: dict[str, Any] = {"extraHeaders": headers, "query": query}
    made = ClientOptions(**options)
    assert "connectTimeout=20000" in repr(made)
    response = FailedResponse(401, Headers({"Set-Cookie": ["io=secret"]}))
    handshake = Handshake("secret", (), 1, 1, None, {})
    endpoint = ClientSessionEndpoint("http://a/?token=secret", **options)
    assert repr(endpoint) == "<ClientSessionEndpoint http://a/engine.io/>"
    for each in (made, response, handshake, Client("http://a/?token=secret", **options)):
        assert "secret" not in repr(each)
