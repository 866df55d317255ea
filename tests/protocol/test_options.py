"""Options: what is accepted, and that nothing else is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import attrs
import pytest

from engineio_twisted.protocol.errors import EngineIOError, OptionError
from engineio_twisted.protocol.option_names import ELSEWHERE, PAGE, cureOf
from engineio_twisted.protocol.option_parts import Cookie, Cors, HttpCompression, PerMessageDeflate
from engineio_twisted.protocol.options import OptionKeywords, ServerOptions
from engineio_twisted.protocol.origin_rules import originRule

from ..kit.packages import ROOT


def test_defaultsAreTheReferences() -> None:
    """Whoever knows the reference server finds its defaults."""
    options = ServerOptions()
    assert (options.pingInterval, options.pingTimeout, options.upgradeTimeout) == (25000, 20000, 10000)
    assert options.maxHttpBufferSize == 1_000_000
    assert (options.maxBufferedPackets, options.maxBufferedBytes) == (100_000, 32_000_000)
    assert options.bufferLimitAction == "close"
    assert options.transports == ("polling", "websocket")
    assert (options.allowUpgrades, options.perMessageDeflate, options.allowRequest) == (True, None, None)
    assert options.httpCompression == HttpCompression(threshold=1024)
    assert (options.cookie, options.cors, options.wsEngine, options.initialPacket) == (None, None, None, None)
    assert (options.allowEIO3, options.allowedOrigins, options.idPrefix) == (False, "*", "")
    assert options.trustedProxies is None
    assert (options.maxSessions, options.maxSessionsPerAddress) == (100_000, 10_000)
    assert (options.maxHandshakesPerSecondPerAddress, options.maxPacketsPerPayload) == (1000, None)
    assert (options.maxHeaderSize, options.maxUrlLength) == (16384, 8192)
    assert (options.headersTimeout, options.httpRequestBodyTimeout) == (20000, 30000)
    assert options.keepAliveTimeout == 75000
    assert (options.maxMessagesPerSecond, options.maxBytesPerSecond, options.firstPacketTimeout) == (None,) * 3
    assert (options.path, options.addTrailingSlash) == ("/engine.io", True)
    assert (options.destroyUpgrade, options.destroyUpgradeTimeout) == (True, 1000)


def test_typeCheckersKnowTheSameOptions() -> None:
    """What may be given by name is the same for a type checker and for the server."""
    assert list(OptionKeywords.__annotations__) == [field.name for field in attrs.fields(ServerOptions)]


def test_everyOptionSaysWhatItIs() -> None:
    """Each field has a text, from which help can be made."""
    for field in attrs.fields(ServerOptions):
        assert len(field.metadata["help"]) > 20, field.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pingInterval", 0),
        ("pingInterval", -1),
        ("pingInterval", 2.5),
        ("pingInterval", "25000"),
        ("pingInterval", True),
        ("pingInterval", None),
        ("pingTimeout", 0),
        ("upgradeTimeout", 0),
        ("maxHttpBufferSize", 0),
        ("maxHttpBufferSize", 1e6),
        ("maxBufferedPackets", 0),
        ("maxBufferedBytes", None),
        ("bufferLimitAction", "ignore"),
        ("bufferLimitAction", None),
        ("transports", []),
        ("transports", "polling"),
        ("transports", ["polling", "polling"]),
        ("transports", ["webtransport"]),
        ("transports", 7),
        ("allowUpgrades", 1),
        ("allowRequest", "yes"),
        ("allowEIO3", "yes"),
        ("allowedOrigins", None),
        ("allowedOrigins", ["https://a.example", 5]),
        ("allowedOrigins", [["https://a.example"]]),
        ("allowedOrigins", "a b"),
        ("allowedOrigins", ["*"]),
        ("allowedOrigins", "a.example"),
        ("allowedOrigins", "https://a.example/"),
        ("allowedOrigins", re.compile(b"a")),
        ("allowedOrigins", "own"),
        ("allowedOrigins", ["self", ["self"]]),
        ("maxSessions", 0),
        ("maxSessionsPerAddress", 1.5),
        ("maxHandshakesPerSecondPerAddress", "many"),
        ("maxPacketsPerPayload", 0),
        ("maxMessagesPerSecond", 0),
        ("maxBytesPerSecond", True),
        ("firstPacketTimeout", 0),
        ("maxHeaderSize", None),
        ("maxUrlLength", 0),
        ("headersTimeout", 0.5),
        ("httpRequestBodyTimeout", False),
        ("httpRequestBodyTimeout", None),
        ("httpRequestBodyTimeout", 0),
        ("trustedProxies", True),
        ("trustedProxies", 5),
        ("trustedProxies", [5]),
        ("trustedProxies", "localhost"),
        ("trustedProxies", ["10.0.0.1", "10.0.0.256"]),
        ("trustedProxies", ["10.0.0.1/8"]),
        ("trustedProxies", ["unix:/run/proxy"]),
        ("httpCompression", 1024),
        ("perMessageDeflate", "yes"),
        ("cookie", "io"),
        ("cors", True),
        ("cors", "*"),
        ("wsEngine", "autobahn"),
        ("wsEngine", str),
        ("idPrefix", None),
        ("idPrefix", 1),
        ("idPrefix", "a/b"),
        ("idPrefix", "ä-"),
        ("idPrefix", "a-\n"),
        ("idPrefix", "a" * 33),
        ("initialPacket", 5),
        ("initialPacket", "\ud800"),
        ("path", ""),
        ("path", "/"),
        ("path", "engine.io"),
        ("path", "/engine io"),
        ("path", "/a?b"),
        ("path", "/ä"),
        ("path", "//"),
        ("path", 3),
        ("addTrailingSlash", "no"),
        ("destroyUpgrade", 0),
        ("destroyUpgradeTimeout", -5),
    ],
)
def test_wrongValuesAreRefusedByName(name: str, value: Any) -> None:
    """The error names the option, the value and what was expected."""
    with pytest.raises(OptionError) as caught:
        ServerOptions(**{name: value})
    assert str(caught.value).startswith(f"{name}=")
    assert "expected" in str(caught.value)
    assert (caught.value.name, caught.value.problem) == (name, str(caught.value).partition(": ")[2])


@pytest.mark.parametrize(
    "given",
    ["10.0.0.0/8, ::1,unix", ["10.0.0.0/8", "::1", "unix"], (ip_network("10.0.0.0/8"), ip_address("::1"), "unix")],
)
def test_trustedProxies(given: Any) -> None:
    """As a list, of text or of what the module ipaddress makes, or as text with commas; kept as text."""
    assert ServerOptions(trustedProxies=given).trustedProxies == ("10.0.0.0/8", "::1", "unix")
    assert ServerOptions(trustedProxies=()).trustedProxies == ServerOptions(trustedProxies="").trustedProxies == ()


def test_theWrongProxyIsNamed() -> None:
    """In a long list, which one is wrong, and why."""
    with pytest.raises(OptionError, match=r"; not '10\.0\.0\.1/8' .*has host bits set"):
        ServerOptions(trustedProxies=["10.0.0.1", "10.0.0.1/8", "::1"])


def test_misspeltNamesAreRefused() -> None:
    """A misspelt option is not ignored; the error says what was probably meant."""
    with pytest.raises(OptionError, match="pingIntervall=5: there is no such option; did you mean pingInterval"):
        ServerOptions(pingIntervall=5)
    for name in ("bodyTimeout", "bodytimeout", "requestBodyTimeout", "httpRequestBodyTimeouts"):
        with pytest.raises(OptionError, match=f"{name}=1: .* did you mean httpRequestBodyTimeout"):
            ServerOptions(**{name: 1})
    with pytest.raises(OptionError) as caught:
        ServerOptions(xyzzy=1)
    assert str(caught.value) == "xyzzy=1: there is no such option; see docs/options.md"
    with pytest.raises(OptionError) as caught:
        ServerOptions(httpCompression={"xyzzy": 1})
    assert str(caught.value) == (
        "httpCompression.xyzzy=1: there is no such option; the options are threshold, level, memLevel"
    )


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("host", "an address is part of what is listened on, such as 'tcp:3000:interface=127.0.0.1'"),
        ("port", "a port is what is listened on, such as 3000 or 'tcp:3000'"),
        ("certfile", "TLS is part of what is listened on, such as 'tls:/etc/certificates:443'"),
        ("async_mode", "there is one, Twisted's reactor; see docs/asyncio-and-threads.md"),
        (
            "cors_allowed_origins",
            "allowedOrigins says whose pages may connect, cors whose pages may read responses; see docs/cors.md",
        ),
        ("cors_credentials", "write cors={'origin': origins, 'credentials': True}"),
        ("compression_threshold", "write httpCompression={'threshold': 1024}"),
        ("ping_interval", "did you mean pingInterval, in milliseconds?"),
        ("max_http_buffer_size", "did you mean maxHttpBufferSize?"),
        ("allow_upgrades", "did you mean allowUpgrades?"),
        ("maxPayload", "did you mean maxHttpBufferSize?"),
        ("logger", "the server logs to twisted.logger; see docs/logging.md"),
        ("connectTimeout", "it belongs to Socket.IO: pass it to SocketIO(server); see docs/socketio-options.md"),
        ("origins", "did you mean allowedOrigins?"),
        ("PINGTIMEOUT", "did you mean pingTimeout?"),
    ],
)
def test_optionsOfOtherServers(name: str, cure: str) -> None:
    """Of python-engineio, of Socket.IO, and of what else listens: the error says what is here in their place."""
    with pytest.raises(OptionError) as caught:
        ServerOptions(**{name: 1})
    assert str(caught.value) == f"{name}=1: there is no such option; {cure}"


def test_pagesAndOptionsThatErrorsName() -> None:
    """Are there: each page, and each option that was meant."""
    cures = [cureOf(name, [], isSetting=False) for name in ELSEWHERE]
    pages = {page for each in cures for page in re.findall(r"docs/[\w-]+\.md", each)} | {PAGE}
    assert len(pages) >= 4
    assert [page for page in pages if not (ROOT / page).is_file()] == []
    meant = {name for each in cures for name in re.findall(r"did you mean (\w+)", each)}
    assert len(meant) >= 4
    assert meant <= {each.name for each in attrs.fields(ServerOptions)}


def test_optionErrorIsAValueErrorOfOurs() -> None:
    """It can be caught by either name."""
    assert issubclass(OptionError, ValueError)
    assert issubclass(OptionError, EngineIOError)


def test_optionsDontChange() -> None:
    """What was validated stays as it is; a changed copy is validated again."""
    options = ServerOptions(transports=["websocket"])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        options.pingInterval = 3  # type: ignore[misc]
    assert attrs.evolve(options, pingInterval=3) == ServerOptions(transports=("websocket",), pingInterval=3)
    with pytest.raises(OptionError):
        attrs.evolve(options, pingInterval=0)


@pytest.mark.parametrize("path", ["/engine.io/", "/engine.io", "/engine.io//"])
def test_slashesAtTheEndOfThePathDontMatter(path: str) -> None:
    """The path is the same with and without a slash at its end."""
    if path.endswith("//"):
        assert ServerOptions(path=path).path == "/engine.io"
    assert ServerOptions(path=path).path == "/engine.io"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, HttpCompression()),
        (False, None),
        (None, None),
        ({}, HttpCompression()),
        ({"level": 9}, HttpCompression(threshold=1024, level=9, memLevel=8)),
        (HttpCompression(threshold=0), HttpCompression(threshold=0)),
    ],
)
def test_settingsOfTheirOwn(given: Any, expected: Any) -> None:
    """On, off, a mapping of what differs from the defaults, or the settings themselves."""
    assert ServerOptions(httpCompression=given).httpCompression == expected


def test_defaultsOfSettings() -> None:
    """As the reference has them."""
    assert ServerOptions(perMessageDeflate=True).perMessageDeflate == PerMessageDeflate(threshold=1024)
    cookie = ServerOptions(cookie=True).cookie
    assert cookie == Cookie(name="io", path="/", httpOnly=True, sameSite="lax", secure=False, maxAge=None)
    cors = ServerOptions(cors={}).cors
    assert cors == Cors(origin="*", methods=["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"])
    assert cors is not None
    assert (cors.preflightContinue, cors.optionsSuccessStatus, cors.credentials) == (False, 204, False)


@pytest.mark.parametrize(
    ("option", "setting", "value"),
    [
        ("httpCompression", "threshold", -1),
        ("httpCompression", "threshold", "1kb"),
        ("httpCompression", "level", 10),
        ("httpCompression", "memLevel", 0),
        ("perMessageDeflate", "serverMaxWindowBits", 8),
        ("perMessageDeflate", "clientMaxWindowBits", 16),
        ("perMessageDeflate", "serverNoContextTakeover", 1),
        ("perMessageDeflate", "memLevel", 10),
        ("cookie", "name", ""),
        ("cookie", "name", "a b"),
        ("cookie", "name", "a;b"),
        ("cookie", "name", "a=b"),
        ("cookie", "name", "ä"),
        ("cookie", "path", "/a;Secure"),
        ("cookie", "path", "/a\r\nX: y"),
        ("cookie", "path", "engine.io"),
        ("cookie", "domain", "a.example; Secure"),
        ("cookie", "domain", "a_b"),
        ("cookie", "domain", ""),
        ("cookie", "sameSite", "loose"),
        ("cookie", "httpOnly", "yes"),
        ("cookie", "maxAge", "60"),
        ("cookie", "maxAge", 1.5),
        ("cookie", "expires", "tomorrow"),
        ("cookie", "expires", datetime(2030, 1, 1)),
        ("cookie", "priority", "urgent"),
        ("cors", "origin", ""),
        ("cors", "origin", "https://a.example\r\nX: y"),
        ("cors", "origin", 5),
        ("cors", "origin", "self"),
        ("cors", "origin", ["*"]),
        ("cors", "origin", ["https://a.example", True]),
        ("cors", "methods", ["GET", "PO ST"]),
        ("cors", "allowedHeaders", ["X-A\r\n"]),
        ("cors", "exposedHeaders", 5),
        ("cors", "credentials", "include"),
        ("cors", "maxAge", "5"),
        ("cors", "optionsSuccessStatus", 404),
    ],
)
def test_wrongSettingsAreRefusedByName(option: str, setting: str, value: Any) -> None:
    """The error names option and setting, the value and what was expected."""
    with pytest.raises(OptionError) as caught:
        ServerOptions(**{option: {setting: value}})
    assert caught.value.name == f"{option}.{setting}"
    assert "expected" in caught.value.problem


def test_misspeltSettingsAreRefused() -> None:
    """A misspelt setting isn't ignored either."""
    with pytest.raises(OptionError, match=r"cookie\.httponly=True: there is no such option; did you mean httpOnly"):
        ServerOptions(cookie={"httponly": True})


def test_whatMayBeGivenAsText() -> None:
    """Names of methods and headers, with commas between them, as in the header; words in any case."""
    cors = Cors(methods="GET, POST", allowedHeaders="X-A,X-B", exposedHeaders="")
    assert (cors.methods, cors.allowedHeaders, cors.exposedHeaders) == (("GET", "POST"), ("X-A", "X-B"), ())
    cookie = Cookie(sameSite="None", priority="HIGH", expires=datetime(2030, 1, 1, tzinfo=UTC))
    assert (cookie.sameSite, cookie.priority) == ("none", "high")


def test_whatMayBeGivenOtherwise() -> None:
    """Off is False as well as None; bytes may come in whatever holds them."""
    assert ServerOptions(cors=False).cors is None
    assert ServerOptions(initialPacket=bytearray(b"ab")).initialPacket == b"ab"
    assert ServerOptions(initialPacket=memoryview(b"ab")).initialPacket == b"ab"


def test_whatAFunctionMayReturnForAnOrigin() -> None:
    """The same as may be given for the option; None is no."""
    pattern = re.compile("a")
    origin = "https://a.example"
    assert [originRule(each) for each in (None, True, "*", [origin, pattern])] == [False, True, "*", (origin, pattern)]
    with pytest.raises(TypeError, match="expected an origin"):
        originRule(5)


def test_anEngineThatCanNotCompress() -> None:
    """What an engine can't do is refused when it is asked for together with it."""

    class Plain:
        supportsPerMessageDeflate = False

    assert ServerOptions(wsEngine=Plain).wsEngine is Plain
    with pytest.raises(OptionError, match="wsEngine Plain can't compress"):
        ServerOptions(wsEngine=Plain, perMessageDeflate=True)
