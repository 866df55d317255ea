"""URLs of Redis servers: what they say, and that nothing shows a password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted import OptionError
from engineio_twisted.redis import RedisAddress, RedisConnection

SECRET = "s3cret/with@every:sign?#and more"


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        ("redis://localhost", {"host": "localhost"}, "redis://localhost:6379"),
        ("redis://127.0.0.1:7000/3", {"host": "127.0.0.1", "port": 7000, "database": 3}, "redis://127.0.0.1:7000"),
        ("redis://[::1]:7000/", {"host": "::1", "port": 7000}, "redis://[::1]:7000"),
        ("REDIS://LOCALHOST", {"host": "localhost"}, "redis://localhost:6379"),
        ("rediss://db.example", {"host": "db.example", "isEncrypted": True}, "rediss://db.example:6379"),
        ("redis://:pass@host", {"host": "host", "password": "pass"}, "redis://host:6379"),
        ("redis://me:p%40ss@host", {"host": "host", "user": "me", "password": "p@ss"}, "redis://host:6379"),
        ("redis://me:@host", {"host": "host", "user": "me", "password": ""}, "redis://host:6379"),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}, "unix:///run/redis.sock"),
        (
            "unix://me:pass@/run/redis.sock?db=2",
            {"path": "/run/redis.sock", "database": 2, "user": "me", "password": "pass"},
            "unix:///run/redis.sock",
        ),
    ],
)
def test_urls(url: str, expected: dict[str, object], shown: str) -> None:
    """Each part of a URL means what it means to other clients of Redis."""
    address = RedisAddress.fromURL(url)
    assert address == RedisAddress(**expected)  # type: ignore[arg-type]
    assert str(address) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://host/x",
        "redis://host/-1",
        "redis://host/1/2",
        "redis://host/9999999999",
        "redis://host:0",
        "redis://host:port",
        "redis://host:70000",
        "redis://host?db=1",
        "redis://user@host",
        "redis://pass#word@host",
        "redis://host#part",
        "redis://:%ff@host",
        "unix://",
        "unix:///",
        "unix://host/path",
        "unix:///path?other=1",
        "unix:///path?db=x",
        "unix:///path?nonsense",
        None,
        7,
        b"redis://host",
    ],
)
def test_wrongURLs(url: object) -> None:
    """A wrong URL is refused with the forms that there are."""
    with pytest.raises(OptionError, match="expected redis://"):
        RedisAddress.fromURL(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@host",
        f"redis://:{SECRET}@host:port",
        f"redis://host/x?password={SECRET}",
        f"redis:me:{SECRET}@host",
        f"http://me:{SECRET}@host",
        f"redis://me:{quote('s3cret', safe='')}@host:port",
    ],
)
def test_wrongURLsDontShowPasswords(url: str) -> None:
    """The error of a wrong URL, which goes into a log, doesn't have the password."""
    with pytest.raises(OptionError) as caught:
        RedisAddress.fromURL(url)
    assert "s3cret" not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"


def test_nothingShowsThePassword() -> None:
    """What an application logs of a connection or of an address doesn't have the password."""
    url = f"redis://me:{quote(SECRET, safe='')}@host"
    connection = RedisConnection(url)
    shown = f"{connection!r} {connection} {connection.address!r} {connection.address} {connection.stats()!r}"
    assert connection.address.password == SECRET
    assert "s3cret" not in shown
    assert "redis://host:6379" in shown


@given(st.text(), st.text())
def test_anyPassword(user: str, password: str) -> None:
    """User and password may have any sign, percent-encoded."""
    url = f"redis://{quote(user, safe='')}:{quote(password, safe='')}@host"
    address = RedisAddress.fromURL(url)
    assert (address.user, address.password) == (user or None, password)


@given(st.text())
def test_anyText(text: str) -> None:
    """Any text is a URL, or is refused with the one error."""
    try:
        RedisAddress.fromURL(text)
    except OptionError:
        pass
