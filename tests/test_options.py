"""Options: what is accepted, and that nothing else is."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from engineio_twisted.errors import EngineIOError, OptionError
from engineio_twisted.options import OptionKeywords, ServerOptions


def test_defaultsAreTheReferences() -> None:
    """Whoever knows the reference server finds its defaults."""
    options = ServerOptions()
    assert (options.pingInterval, options.pingTimeout, options.upgradeTimeout) == (25000, 20000, 10000)
    assert options.maxHttpBufferSize == 1_000_000
    assert options.transports == ("polling", "websocket")
    assert (options.allowUpgrades, options.perMessageDeflate, options.allowRequest) == (True, None, None)
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
        ("transports", []),
        ("transports", "polling"),
        ("transports", ["polling", "polling"]),
        ("transports", ["webtransport"]),
        ("transports", 7),
        ("allowUpgrades", 1),
        ("allowRequest", "yes"),
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


def test_misspeltNamesAreRefused() -> None:
    """A misspelt option is not ignored; the error says what was probably meant."""
    with pytest.raises(OptionError, match="pingIntervall=5: there is no such option; did you mean pingInterval"):
        ServerOptions(pingIntervall=5)
    with pytest.raises(OptionError, match="xyzzy=1: there is no such option; the options are pingInterval, "):
        ServerOptions(xyzzy=1)


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
