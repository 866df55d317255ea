"""The headers of a response, as handlers get them."""

from __future__ import annotations

import pytest
from twisted.web.http_headers import Headers

from engineio_twisted import ResponseHeaders


def test_responseHeaders() -> None:
    """A mapping by names in any case, of text, or of a list where a name comes more than once."""
    raw = Headers({"X-A": ["1"], "Set-Cookie": ["a=b", "c=d"]})
    headers = ResponseHeaders(raw)
    assert (headers["x-a"], headers["SET-COOKIE"], len(headers)) == ("1", ["a=b", "c=d"], 2)
    assert {name.lower() for name in headers} == {"x-a", "set-cookie"}
    headers["x-a"] = "2"
    headers["X-B"] = ["3", "4"]
    headers.setdefault("X-C", "5")
    del headers["Set-Cookie"]
    headers["X-C2"] = ["6"]
    headers["X-C2"] = []
    assert "X-C2" not in headers
    with pytest.raises(TypeError, match="header X-A: b'1': expected text"):
        headers["X-A"] = b"1"
    with pytest.raises(TypeError, match="header X-A: 5: expected text"):
        headers["X-A"] = 5
    assert "no name" not in headers
    assert "X-D" not in headers
    assert headers.get("X-D") is None
    with pytest.raises(KeyError):
        del headers["X-D"]
    assert {name: raw.getRawHeaders(name) for name in ("X-A", "X-B", "X-C")} == {
        "X-A": ["2"],
        "X-B": ["3", "4"],
        "X-C": ["5"],
    }
    assert eval(repr(headers), {"ResponseHeaders": dict}) == dict(headers)


def test_addedValues() -> None:
    """A second value of a name goes beside the first."""
    raw = Headers({"Vary": ["Origin"], "Set-Cookie": ["io=sid; Path=/"]})
    headers = ResponseHeaders(raw)
    headers.add("vary", "Accept-Encoding")
    headers.add("X-New", "1")
    headers.add("set-cookie", "io=other; Path=/below")
    assert headers["Vary"] == ["Origin", "Accept-Encoding"]
    assert headers["x-new"] == "1"
    assert headers["Set-Cookie"] == ["io=sid; Path=/", "io=other; Path=/below"]
    for value in (b"1", 1, ["a"]):
        with pytest.raises(TypeError, match=r"header X-New: .*: expected text"):
            headers.add("X-New", value)  # type: ignore[arg-type]
    headers.add("X-Split", "1\r\nX-B: 2")
    assert raw.getRawHeaders("X-Split") == ["1 X-B: 2"]


@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE"])
def test_cookiesThatAreSet(name: str) -> None:
    """To set a cookie replaces one of the same name, and leaves all others."""
    headers = ResponseHeaders(Headers({"Set-Cookie": ["io=sid; Path=/", "a=1"]}))
    headers[name] = "b=2"
    assert headers[name] == ["io=sid; Path=/", "a=1", "b=2"]
    headers[name] = ["a=3; HttpOnly", "c=4"]
    assert headers[name] == ["io=sid; Path=/", "b=2", "a=3; HttpOnly", "c=4"]
    headers[name] = [*headers[name], "d=5"]
    assert headers[name] == ["io=sid; Path=/", "b=2", "a=3; HttpOnly", "c=4", "d=5"]
    headers.update({name: " io = replaced"})
    assert headers[name] == ["b=2", "a=3; HttpOnly", "c=4", "d=5", " io = replaced"]
    del headers[name]
    assert name not in headers
    headers[name] = "alone"
    assert headers[name] == "alone"


def test_responseHeadersCanNotBeSplit() -> None:
    """A line break in a value makes no second header."""
    raw = Headers()
    ResponseHeaders(raw)["X-A"] = "1\r\nX-B: 2"
    assert raw.getRawHeaders("X-A") == ["1 X-B: 2"]
