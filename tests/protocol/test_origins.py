"""Origins of rules: what may be written, what it means, and which requests it matches."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import OptionError
from engineio_twisted.protocol.headers import corsHeaders, originAllowed
from engineio_twisted.protocol.option_parts import Cors
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.origin_rules import originRule
from engineio_twisted.protocol.origins import normalOrigin, originMatches, readOrigin

NORMAL = [
    ("https://example.com", "https://example.com"),
    ("HTTPS://Example.COM", "https://example.com"),
    ("https://example.com:443", "https://example.com"),
    ("http://example.com:80", "http://example.com"),
    ("http://example.com:443", "http://example.com:443"),
    ("https://example.com:8443", "https://example.com:8443"),
    ("https://a_b.example.", "https://a_b.example."),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
    ("http://[::1]:80", "http://[::1]"),
    ("http://[2001:0DB8:0:0::1]", "http://[2001:db8::1]"),
    ("http://[::ffff:192.0.2.1]", "http://[::ffff:c000:201]"),
    ("https://*.Example.com", "https://*.example.com"),
    ("https://*.example.com:443", "https://*.example.com"),
    ("https://*.example.com:*", "https://*.example.com:*"),
    ("http://LOCALHOST:*", "http://localhost:*"),
    ("http://[::1]:*", "http://[::1]:*"),
    ("null", "null"),
    ("Null", "null"),
    ("file://", "file://"),
    ("app://.", "app://."),
    ("capacitor://localhost", "capacitor://localhost"),
    ("MOZ-extension://7D2e-11", "moz-extension://7D2e-11"),
]


@pytest.mark.parametrize(("text", "normal"), NORMAL)
def test_normalForm(text: str, normal: str) -> None:
    """Case and default ports say nothing: a rule holds what a browser would send."""
    assert readOrigin(text) == normal
    assert readOrigin(normal) == normal
    assert ServerOptions(allowedOrigins=text).allowedOrigins == normal
    assert ServerOptions(allowedOrigins=[text, "self"]).allowedOrigins == (normal, "self")
    assert Cors(origin=[text]).origin == (normal,)
    assert originRule(text) == normal
    if "*" not in normal:
        assert normalOrigin(text) == normal.lower() or "[" in text


IMPOSSIBLE = {
    "https://example.com/": "no path, no slash",
    "https://example.com/app": "no path, no slash",
    "https://example.com?x=1": "no path, no slash, no query",
    "https://example.com#top": "no path, no slash",
    "https:\\\\example.com": "begins with a scheme",
    "https://example.com\\": "no path, no slash",
    "example.com": "begins with a scheme",
    "*.example.com": "begins with a scheme",
    "//example.com": "begins with a scheme",
    "https:example.com": "begins with a scheme",
    "localhost:3000": "begins with a scheme",
    "": "begins with a scheme",
    "1http://example.com": "begins with a scheme",
    "*://example.com": "begins with a scheme",
    "wss://example.com": "write https://",
    "ws://example.com": "write http://",
    "https://user@example.com": "no user name",
    "https://user:secret@example.com": "no user name",
    "https://bücher.example": "punycode",
    "https://例え.example": "punycode",
    "https://exam\u212aple.com": "punycode",
    "https://xn--.example": "is no punycode",
    "https://xn--bcher-kv.example": "is no punycode",
    "https://*.xn--zzzzzzzzz": "is no punycode",
    "https://XN--8:*": "is no punycode",
    " https://example.com": "no spaces",
    "https://example.com ": "no spaces",
    "https://exa mple.com": "no spaces",
    "https://example.com\n": "no spaces and no control characters",
    "https://exa\tmple.com": "no spaces and no control characters",
    "https://a.example,https://b.example": "no path, no slash",
    "https://a.example https://b.example": "no spaces",
    "https://": "a host consists of",
    "https://*": "labels on the left",
    "https://*:443": "labels on the left",
    "https://*.": "a host consists of",
    "https://**.example.com": "labels on the left",
    "https://*.*.example.com": "labels on the left",
    "https://a*.example.com": "labels on the left",
    "https://*a.example.com": "labels on the left",
    "https://a.*.example.com": "labels on the left",
    "https://example.*": "labels on the left",
    "https://example.com:3*": "labels on the left",
    "https://example.com:**": "labels on the left",
    "https://*.127.0.0.1": "before the name of a domain",
    "https://*.[::1]": "before the name of a domain",
    "chrome-extension://*": "labels on the left",
    "https://a..example": "single dots",
    "https://.example": "single dots",
    "https://a%2eexample": "a host consists of",
    "https://(a).example": "a host consists of",
    "https://example.com:": "a host, and perhaps a port",
    "https://example.com:x": "a host, and perhaps a port",
    "https://example.com:0": "from 1 to 65535",
    "https://example.com:0443": "from 1 to 65535",
    "https://example.com:65536": "from 1 to 65535",
    "https://example.com:" + "9" * 5000: "from 1 to 65535",
    "https://example.com:80:80": "a host, and perhaps a port",
    "https://[::1": "a host, and perhaps a port",
    "https://[::1%eth0]": "a host, and perhaps a port",
    "https://[1.2.3.4]": "an IPv6 address",
    "https://::1": "a host, and perhaps a port",
    "http://127.1": "four decimal numbers",
    "http://2130706433": "four decimal numbers",
    "http://0x7f.0.0.1": "four decimal numbers",
    "http://127.0.0.01": "four decimal numbers",
    "http://256.0.0.1": "four decimal numbers",
}


@pytest.mark.parametrize("text", IMPOSSIBLE, ids=lambda text: ascii(text[:40]))
def test_whatMatchesNoBrowser(text: str) -> None:
    """A rule that could never allow a page isn't taken; the error says what was expected, and which part it was."""
    expected = re.escape(IMPOSSIBLE[text])
    with pytest.raises(ValueError, match=expected):
        readOrigin(text)
    for value in (text, ["https://good.example", text]):
        for options in ({"allowedOrigins": value}, {"cors": {"origin": value}}):
            with pytest.raises(OptionError, match=expected) as caught:
                ServerOptions(**options)
            assert "an origin such as 'https://example.com'" in caught.value.problem
            assert repr(text) in caught.value.problem
    with pytest.raises(TypeError, match=expected):
        originRule([text])


MATCHES: list[tuple[str, list[str], list[str]]] = [
    (
        "https://*.example.com",
        ["https://a.example.com", "https://a.b.example.com", "https://xn--a-_1.example.com"],
        [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://aexample.com",
            "https://a-example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.example",
            "https://evil.example/a.example.com",
            "https://evil.example#.example.com",
            "https://evil.example\\.example.com",
            "https://evil@a.example.com",
            "https://evil:1.example.com",
            "https://a.exampleXcom",
            "https://a.example.com\n",
            "https://*.example.com",
            "https://a.EXAMPLE.com",
            "https://a.example.com:443",
            "null",
            "",
        ],
    ),
    (
        "http://localhost:*",
        ["http://localhost", "http://localhost:3000", "http://localhost:80", "http://localhost:65535"],
        [
            "https://localhost",
            "https://localhost:3000",
            "http://localhost:",
            "http://localhost:*",
            "http://localhost:3000.evil.example",
            "http://localhost.evil.example:3000",
            "http://localhost:3000/",
            "http://localhost:123456",
            "http://a.localhost:3000",
            "http://xlocalhost",
        ],
    ),
    (
        "https://*.example.com:*",
        ["https://a.example.com", "https://a.example.com:8443", "https://a.b.example.com:1"],
        ["https://example.com:8443", "http://a.example.com:8443", "https://a.example.com:8443.evil.example"],
    ),
    ("http://[::1]:*", ["http://[::1]", "http://[::1]:3000"], ["http://[::2]:3000", "http://::1:3000"]),
    ("HTTPS://EXAMPLE.COM:443", ["https://example.com"], ["https://example.com:444", "HTTPS://EXAMPLE.COM"]),
    ("https://example.com", ["https://example.com"], ["http://example.com:443", "https://a.example.com"]),
    # Some clients name the address of the WebSocket.
    ("https://example.com", ["wss://example.com", "wss://example.com:443"], ["ws://example.com", "ws://example.com:443"]),
    ("http://*.example.com", ["ws://a.example.com", "ws://a.example.com:80"], ["wss://a.example.com"]),
    ("null", ["null"], ["https://null", ""]),
    ("APP://Abc", ["app://Abc"], ["app://abc"]),
    ("file://", ["file://"], ["file:///etc", "null"]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "allowed", "refused"), MATCHES, ids=[each[0] for each in MATCHES])
def test_matches(rule: str, allowed: list[str], refused: list[str]) -> None:
    """What a wildcard stands for, and what only looks like it."""
    for each in (originRule(rule), originRule([rule]), ServerOptions(allowedOrigins=[rule, "self"]).allowedOrigins):
        assert [origin for origin in allowed if not originAllowed(each, origin)] == []
        assert [origin for origin in refused if originAllowed(each, origin)] == []
        assert not originAllowed(each, None)


label = st.from_regex(r"[0-9a-z]([0-9a-z-]{0,8}[0-9a-z])?", fullmatch=True)


@pytest.mark.no_cover
@given(st.lists(label, min_size=1, max_size=4), st.integers(1, 65535))
def test_everySubdomainAndPort(labels: list[str], port: int) -> None:
    """Any labels before the domain, any port behind the host; never the domain itself."""
    below = "https://" + ".".join([*labels, "example.com"])
    assert originMatches("https://*.example.com", below)
    assert originMatches("https://*.example.com:*", f"{below}:{port}")
    assert originMatches("http://localhost:*", f"http://localhost:{port}")
    assert not originMatches("https://*.example.com", f"https://{'-'.join(labels)}example.com")


@given(st.text(max_size=60) | st.text("htps:/*.[]@#?x1-_ ", max_size=30).map(lambda text: "https://" + text))
def test_anythingIsReadOrRefused(text: str) -> None:
    """Whatever an operator writes: its normal form, that reads as itself, or an error."""
    try:
        normal = readOrigin(text)
    except ValueError:
        return
    assert readOrigin(normal) == normal
    assert normal.isascii()
    if "*" not in normal:
        assert originMatches(normal, normal)


@pytest.mark.parametrize(
    ("rule", "origin", "said"),
    [
        ("https://*.example.com", "https://a.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://example.com", None),
        ("https://*.example.com", None, None),
        ("http://localhost:*", "http://localhost:5173", "http://localhost:5173"),
        (["https://*.example.com", "https://b.example"], "https://b.example", "https://b.example"),
        ("https://Example.com:443", "https://example.com", "https://example.com"),
        ("https://Example.com:443", "https://other.example", "https://example.com"),
        ("https://Example.com:443", None, "https://example.com"),
        ("https://*.example.com", "https://a.example.com\r\nX: y", None),
    ],
)
def test_cors(rule: Any, origin: str | None, said: str | None) -> None:
    """A wildcard never comes back: the request's own origin does, and only if it matches."""
    cors = Cors(origin=rule, credentials=True)
    answer = corsHeaders(cors, cors.origin, origin, False, None)
    assert answer.headers.get("Access-Control-Allow-Origin") == said
    assert answer.headers.get("Access-Control-Allow-Credentials") == (None if said is None else "true")
    assert answer.vary == ["Origin"]
