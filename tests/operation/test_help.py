"""What `--help` and `--help-all` print, and which flag is meant by one that there isn't."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import pytest

from engineio_twisted.operation.commandline import Options
from engineio_twisted.operation.help import COMMANDS
from engineio_twisted.operation.settings import GROUPS, SETTINGS

from ..kit.commandline import failure


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns what a flag prints in a terminal of so many columns."""

    def show(flag: str, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions([flag])
        assert caught.value.code == 0
        return capsys.readouterr().out

    return show


def sections(text: str) -> dict[str, list[str]]:
    """What stands below each heading, by the heading; what is above the first by empty text."""
    found: dict[str, list[str]] = {"": []}
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z][a-z ]+:", line):
            found[line[:-1]] = []
        else:
            found[[*found][-1]].append(line)
    return found


def flags(lines: list[str]) -> list[str]:
    """The flags that lines explain, each with what stands behind it."""
    return [each.strip().partition("  ")[0] for each in lines if each.startswith("  --")]


def words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def test_oneScreen(shown: Any) -> None:
    """What the command does, three examples, thirteen options, where the others are: all in 40 lines of 80."""
    text = shown("--help", 80)
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    found = sections(text)
    assert lines[0] == "Usage: twistd [options of twistd] engineio [options]"
    assert "Serve Engine.IO or Socket.IO over HTTP long-polling and WebSocket." in words(found[""])
    assert [each for each in found["Examples"] if each] == [
        "  twistd -n engineio --listen 3000",
        "  twistd -n engineio --app chat:application --static public",
        "  twistd -n engineio --config server.toml --health listen",
    ]
    assert [each.split()[0] for each in flags(found["Options"])] == [
        *("--listen", "--app", "--socketio", "--static", "--config", "--path", "--allowed-origins", "--cors-origin"),
        *("--trusted-proxies", "--access-log", "--log-sessions", "--metrics", "--health"),
    ]
    options = words(found["Options"])
    assert "their names; flags override it. --path PATH" in options
    assert "are served. [default: /engine.io]" in options
    # CORS is off: no origin is the default.
    assert "--cors-origin ORIGINS Origins whose pages may read responses. --trusted-proxies" in options
    assert "--help-all lists every option" in lines[-1]
    assert shown("-h", 80) == text


def test_everyOption(shown: Any) -> None:
    """Each option is there once, in its group, with a whole sentence and the default, in lines of the terminal."""
    lengths = []
    for columns in (80, 200):
        text = shown("--help-all", columns)
        lines = text.splitlines()
        lengths.append(len(lines))
        assert columns * 3 // 4 < max(map(len, lines)) <= columns
        found = sections(text)
        assert [*found] == ["", *GROUPS.values()]
        for group, title in GROUPS.items():
            settings = [each for each in SETTINGS.values() if each.group == group]
            others = [each for each in COMMANDS if each.group == group]
            assert flags(found[title]) == [each.usage for each in (*settings, *others)]
            for entry in (*settings, *others):
                assert f"{entry.usage} {entry.help}" in words(found[title])
        limits = words(found["Limits and timeouts"])
        assert "--[no-]keep-alive-timeout MS Milliseconds after which" in limits
        assert "refused with 503. [default: 100000] --" in limits
        # No line ends between the two.
        assert not [each for each in lines if each.endswith("[default:")]
        compression = words(found["Compression"])
        assert "polling requests are compressed. [default: on]" in compression
        assert "for each client. [default: off]" in compression
    assert lengths[1] < lengths[0]


def test_aReaderThatHasSeenEnough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as `head` ends the command without a traceback, also when Python flushes what it has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        for flag in ("--help-all", "--print-config"):
            with pytest.raises(SystemExit) as caught:
                Options().parseOptions([flag])
            assert caught.value.code == 0


def test_aNarrowTerminal(shown: Any) -> None:
    """However narrow a terminal is, or says that it is, help has room for words."""
    assert "\n  --listen ENDPOINT\n" in shown("--help", 1)


def test_theSentences() -> None:
    """Each text is one sentence that stands alone, and what takes a value says of what kind."""
    for setting in SETTINGS.values():
        text = setting.help
        assert re.fullmatch(r"[A-Z].*[^.]\.", text), text
        assert ". " not in text, text
        assert len(text.split()) <= 25, text
        assert bool(setting.metavar) is not setting.isSwitch, setting.name
        assert text.startswith("Whether ") is setting.isSwitch, text
        unit = {"milliseconds": "MS", "seconds": "SECONDS", "bytes": "BYTES"}
        for word, metavar in unit.items():
            if re.match(rf"(Maximum )?{word}\b", text, re.IGNORECASE):
                assert setting.metavar == metavar, text
    assert len({each.help for each in SETTINGS.values()}) == len(SETTINGS)


@pytest.mark.parametrize(
    ("program", "usage", "example"),
    [
        ("/usr/bin/twistd", "twistd [options of twistd] engineio", "twistd -n engineio"),
        ("/usr/bin/twist", "twist engineio", "twist engineio"),
        ("/usr/bin/engineio-twisted", "engineio-twisted", "engineio-twisted"),
        ("/x/engineio_twisted/__main__.py", "python -m engineio_twisted", "python -m engineio_twisted"),
    ],
)
def test_theCommandThatWasTyped(
    program: str, usage: str, example: str, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Help shows the command by which it was asked for."""
    monkeypatch.setattr(sys, "argv", [program])
    text = shown("--help", 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"Usage: {usage} [options]\n")
    assert f"\n  {example} --listen 3000\n" in text
    assert shown("--help-all", 80).startswith(f"Usage: {usage} [options]\n")
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(["--bogus"])
    command = usage.replace(" [options of twistd]", "")
    assert str(caught.value).startswith(f"{command}: --bogus: there is no such option (--help-all lists them")
    assert ("those of twistd" in str(caught.value)) is (command == "twistd engineio")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ping-intervall=5"], "--ping-intervall: there is no such option; did you mean --ping-interval?"),
        (["--pingInterval", "5"], "--pingInterval: there is no such option; did you mean --ping-interval?"),
        (["--listn", "5"], "--listn: there is no such option; did you mean --listen?"),
        (["--no-cookies"], "--no-cookies: there is no such option; did you mean --no-cookie?"),
        (["--cookie_name=x"], "--cookie_name: there is no such option; did you mean --cookie-name?"),
        (["--port", "3000"], "--port: there is no such option; did you mean --listen?"),
        (
            ["--listen", "--bogus", "--static=x", "--lisen=x"],
            "--lisen: there is no such option; did you mean --listen?",
        ),
        (["--co=x"], "--co: which one is meant: --config, --cookie, --cookie-name, "),
        (["-n"], "-n: there is no such option (--help-all lists them; those of twistd stand before `engineio`)"),
        (["--bogus"], "--bogus: there is no such option (--help-all lists them; those of twistd stand before"),
    ],
)
def test_misspelt(arguments: list[str], expected: str) -> None:
    """A flag that there isn't is named, with the one that was meant."""
    assert expected in failure(*arguments)


def test_anAbbreviation() -> None:
    """A flag may be cut as long as it is no other's beginning; what is wrong with the next is said of that."""
    assert "--bogus: there is no such option" in failure("--ping-i=5", "--static", "--help", "--bogus")
