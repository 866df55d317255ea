"""The headers of a request and its query, against those of twisted.web and the standard library."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from engineio_twisted.protocol.errors import ConnectionRefusal
from engineio_twisted.protocol.handshake import parseQuery
from engineio_twisted.web.fast import FastSite

from ..kit.stories import OPEN, Here, outcomeOf

# The pieces, against those of twisted.web and the standard library


_VALUE = st.binary(max_size=12).map(lambda value: value.translate(None, b"\0\r\n"))
_TOKEN = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=5).map(str.encode)
_COMMON = [b"Accept-Encoding", b"ORIGIN", b"cookie", b"Cookie", b"content-type", b"Connection", b"uSeR-aGeNt", b"ETag"]

lines = st.lists(st.tuples(st.one_of(st.sampled_from(_COMMON), _TOKEN), _VALUE), max_size=6)


def bothHeaders(given: list[tuple[bytes, bytes]], isOver: bool = False) -> list[Headers]:
    """
    The headers of a request as twisted.web's own class has them, and ours.

    Those are taken while the request is answered, or when it is over.
    """
    lines = b"".join(name + b":" + value + b"\r\n" for name, value in given)
    request = OPEN.replace(b"\r\n\r\n", b"\r\nZ: z\r\n" + lines + b"\r\n")
    stock = Headers()
    for line in request.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        stock.addRawHeader(name, value.strip(b" \t"))
    here = Here(FastSite, isDecided=True)
    requests: list[Any] = []
    headers: list[Headers] = []
    here.server.use(requests.append)
    here.server.use(lambda request: headers.append(request.requestHeaders))
    here.say(request)
    here.end()
    return [stock, requests[0].requestHeaders if isOver else headers[0]]


def everything(headers: Headers, names: Iterable[str | bytes]) -> Any:
    default = object()
    return [
        (
            outcomeOf(lambda name=name: headers.getRawHeaders(name)),
            outcomeOf(lambda name=name: headers.getRawHeaders(name, ["default"])),
            outcomeOf(lambda name=name: headers.getRawHeaders(name, default) is default),
            outcomeOf(lambda name=name: headers.hasHeader(name)),
        )
        for name in names
    ], [(name, list(values)) for name, values in headers.getAllRawHeaders()]


def variants(given: list[tuple[bytes, bytes]]) -> list[str | bytes]:
    names = {name for name, _ in given} | {*_COMMON, b"none", b"upgrade"}
    forms: list[str | bytes] = [b"", "", b"a b", "ä", b"\n"]
    for name in sorted(names):
        forms += [name, name.lower(), name.upper(), name.title(), name.decode(), name.decode().lower()]
    return forms


CHANGES: list[Callable[[Any], Any]] = [
    lambda headers: headers.removeHeader(b"Cookie"),
    lambda headers: headers.removeHeader("origin"),
    lambda headers: headers.removeHeader("none"),
    lambda headers: headers.setRawHeaders("cookie", ["a", b"b\r\nc"]),
    lambda headers: headers.setRawHeaders(b"origin", []),
    lambda headers: headers.addRawHeader(b"Content-Type", b"a"),
    lambda headers: headers.addRawHeader("X", "ä"),
    lambda headers: headers.setRawHeaders("a b", ["c"]),
    lambda headers: headers.getRawHeaders("Cookie"),
    lambda headers: headers.getRawHeaders(b"cookie"),
]


@settings(max_examples=50, deadline=None)
@given(lines, st.data())
def test_requestHeaders(given: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Whoever asks, however, and whatever was asked or changed before."""
    isOver = data.draw(st.booleans())
    stock, ours = bothHeaders(given, isOver)
    names = variants(given)
    assert everything(ours, names) == everything(stock, names)
    stock, ours = bothHeaders(given, isOver)
    for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=3)):
        assert outcomeOf(lambda change=change: change(ours)) == outcomeOf(lambda change=change: change(stock))
        assert ours == stock
        assert stock == ours
    copies = stock.copy(), ours.copy()
    assert everything(ours, names) == everything(stock, names)
    for each in (*copies, stock, ours):
        each.setRawHeaders("X-Later", ["own"])
        assert isinstance(each, Headers)
        if each is copies[1]:
            assert not ours.hasHeader("X-Later")
            assert not stock.hasHeader("X-Later")
    assert everything(copies[1], names) == everything(copies[0], names)
    assert (ours != stock, copies[0] == copies[1], ours == Headers(), ours == 1) == (False, True, False, False)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copiesOfRequestHeaders(copied: Callable[[Any], Any]) -> None:
    """Headers can be copied by the means of Python too, as those of twisted.web can."""
    stock, ours = bothHeaders([(b"Cookie", b"a=b")])
    assert copied(stock) == stock
    other = copied(ours)
    assert other == stock
    other.removeHeader("cookie")
    assert ours.getRawHeaders(b"Cookie") == [b"a=b"]


@given(st.one_of(st.binary(max_size=40), st.text("abj=&;%+?#12\xff€", max_size=30).map(str.encode)))
@example(b"j=1&j=2")
@example(b"a=b&a=c&=d&e&f=&%61=%ff&g+h=i+j&k=l=m&&")
def test_queries(query: bytes) -> None:
    """Parameters are those that the standard library finds."""
    for uri in (b"/engine.io/?" + query, query, b"?" + query):
        text = uri.partition(b"?")[2].decode("ascii", "replace")
        several = parse_qs(text, keep_blank_values=True)
        if any(len(several.get(name, ())) > 1 for name in ("transport", "EIO", "b64", "sid", "j")):
            with pytest.raises(ConnectionRefusal):
                parseQuery(uri)
        else:
            assert parseQuery(uri) == {name: values[-1] for name, values in several.items()}
