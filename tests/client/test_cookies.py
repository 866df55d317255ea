"""The cookies of a client: which are kept, and which are sent where."""

from __future__ import annotations

import time
import warnings
from http.cookiejar import CookieJar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.cookies import MAX_COOKIES, MAX_SIZE, Cookies, cookiesFor
from engineio_twisted.client.options import ClientOptions

URL = "http://app.example.org:3000/engine.io/?EIO=4&transport=polling"


def sent(cookies: Cookies, url: str = URL) -> set[str]:
    """The cookies that go to a server."""
    header = cookies.header(url)
    return set() if header is None else {*header.decode("latin-1").split("; ")}


def stored(*values: bytes, url: str = URL) -> Cookies:
    cookies = Cookies()
    cookies.store(url, values)
    return cookies


@pytest.mark.parametrize(
    ("value", "url", "isSent"),
    [
        (b"a=1", URL, True),
        (b"a=1; Path=/; HttpOnly; SameSite=Lax", "http://app.example.org:3000/else", True),
        (b"a=1; Path=/engine.io", "http://app.example.org:3000/engine.io/?sid=1", True),
        (b"a=1; Path=/engine.io", "http://app.example.org:3000/engine.iox/", False),
        (b"a=1; Path=/other", URL, False),
        # To another port too, as cookies have always been; not to another host.
        (b"a=1; Path=/", "http://app.example.org/", True),
        (b"a=1; Path=/", "http://other.example.org/", False),
        (b"a=1; Path=/; Domain=example.org", "http://other.example.org/", True),
        (b"a=1; Path=/; Domain=.example.org", "http://app.example.org/", True),
        (b"a=1; Path=/; Domain=other.org", "http://other.org/", False),
        (b"a=1; Path=/; Domain=other.org", URL, False),
        (b"a=1; Path=/; Domain=org", URL, False),
        (b"a=1; Path=/; Secure", URL, False),
        (b"a=1; Path=/; Secure", "ws://app.example.org/", False),
        (b"a=1; Path=/; Secure", "https://app.example.org/", True),
        (b"a=1; Path=/; Secure", "wss://app.example.org/", True),
        (b"a=1; Path=/", "ws://app.example.org:3000/engine.io/", True),
        (b"a=1; Path=/; Max-Age=60", URL, True),
        (b"a=1; Path=/; Max-Age=0", URL, False),
        (b"a=1; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT", URL, False),
        (b"a=1; Path=/; Expires=Fri, 21 Oct 2095 07:28:00 GMT", URL, True),
        (b"a=1; Path=/; Max-Age=0; Expires=Fri, 21 Oct 2095 07:28:00 GMT", URL, False),
        (b"a=1; Path=/; Max-Age", URL, True),
        (b"=; ;", URL, False),
        (b"", URL, False),
    ],
)
def test_where(value: bytes, url: str, isSent: bool) -> None:
    """Path, domain, Secure, Max-Age and Expires, for either transport."""
    assert sent(stored(value), url) == ({"a=1"} if isSent else set())


@pytest.mark.parametrize(
    "url", ["http://localhost:3000/engine.io/", "http://127.0.0.1/x/", "https://[::1]:8/engine.io/"]
)
def test_hosts(url: str) -> None:
    """Names without dots and IP addresses have cookies as well."""
    cookies = stored(b"a=1; Path=/", b"b=2; Secure; Path=/", url=url)
    both = url.startswith("https")
    assert sent(cookies, url) == {"a=1", "b=2"} if both else {"a=1"}
    assert sent(cookies, url.replace("http", "ws")) == sent(cookies, url)


def test_changed() -> None:
    """A cookie is replaced, and taken away, by a later response."""
    cookies = stored(b"a=1; Path=/", b"b=2; Path=/")
    cookies.store(URL, [b"a=3; Path=/"])
    assert sent(cookies) == {"a=3", "b=2"}
    cookies.store(URL, [b"a=; Path=/; Max-Age=0"])
    assert sent(cookies) == {"b=2"}
    cookies.store(URL, [])
    assert sent(cookies) == {"b=2"}


def test_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie isn't sent when its time is over."""
    cookies = stored(b"a=1; Path=/; Max-Age=60", b"b=2; Path=/; Max-Age=6000")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert sent(cookies) == {"b=2"}


def test_oneBrokenAmongOthers() -> None:
    """What isn't a cookie takes no other with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sent(stored(b"a=1; Path=/", b"broken; Max-Age", b"\xff\x00", b"b=2; Path=/")) >= {"a=1", "b=2"}


@pytest.mark.parametrize(
    ("attribute", "isKept"),
    [
        (b"Max-Age=" + b"9" * 400, True),
        (b"max-age = " + b"9" * 4_000, True),
        (b"Max-Age=-" + b"9" * 400, False),
        (b"Expires=Wed, 99 Foo 2099 99:99:99 GMT", True),
        (b"Expires=Wed, 99 Foo 2099 99:99:99 GMT; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        (b"Expires=Wed, 21 Oct 2095 07:28:00 GMT", True),
    ],
)
def test_times(attribute: bytes, isKept: bool) -> None:
    """A time that can't be is no time, or as long as any; and the jar warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sent(stored(b"a=1; Path=/; " + attribute, b"b=2; Path=/")) == ({"a=1", "b=2"} if isKept else {"b=2"})


def test_bounds() -> None:
    """A server can't have more kept than so many cookies of so many bytes; those of others stay."""
    cookies = stored(b"mine=1; Path=/", url="http://other.test/")
    cookies.store(URL, [b"n%d=1; Path=/" % each for each in range(10 * MAX_COOKIES)])
    for each in range(10 * MAX_COOKIES):
        cookies.store(URL, [b"m%d=1; Path=/" % each])
    assert len(cookies.jar) == MAX_COOKIES + 1
    assert sent(cookies, "http://other.test/") == {"mine=1"}
    assert f"m{10 * MAX_COOKIES - 1}=1" in sent(cookies)
    assert sent(stored(b"a=" + b"x" * (MAX_SIZE - 2))) != set()
    assert sent(stored(b"a=" + b"x" * (MAX_SIZE - 1))) == set()


_NAMES = b"a=1 Max-Age Expires Path Domain Version Port Secure = ; , / app.example.org -1 1e5".split(b" ")
_PIECES = st.sampled_from([*_NAMES, b"Wed, 21 Oct 2095 07:28:00 GMT", b" ", b'"', b"9" * 30, b"\xff", b"\x00", b"\t"])


@given(st.lists(st.lists(_PIECES, max_size=12).map(b"".join), max_size=4))
def test_anything(values: list[bytes]) -> None:
    """Whatever a server says, no error comes of it, and no warning, and no line of a request ends in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = stored(*values).header(URL)
    assert header is None or not {*b"\r\n"} & {*header}


@pytest.mark.parametrize("given", [False, True, "a jar"])
def test_option(given: Any) -> None:
    """There are none, some of its own, or those of a jar of the application's, in which they are found."""
    jar = CookieJar()
    cookies = cookiesFor(jar if given == "a jar" else given)
    assert (cookies is None) == (given is False)
    if cookies is not None:
        cookies.store(URL, [b"a=1"])
        assert [each.name for each in jar] == (["a"] if given == "a jar" else [])
    connecting = Connecting("http://a.test", ClientOptions(withCredentials=jar), Clock())
    assert connecting.cookies is not None
    assert connecting.cookies.jar is jar
