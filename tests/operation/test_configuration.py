"""Flags and the file: every option has both, and what is wrong is named."""

from __future__ import annotations

import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_type_hints

import attrs
import pytest
from twisted.internet.testing import MemoryReactorClock

import engineio_twisted.operation.settings as settings
from engineio_twisted import OptionError, ServerOptions
from engineio_twisted.operation.configuration import CommandLineSettings, ConfigurationError
from engineio_twisted.operation.service_options import ServiceOptions
from engineio_twisted.operation.settings import SETTINGS, Setting
from engineio_twisted.operation.tap import CommandService, Options
from engineio_twisted.protocol.validators import part


def allow(request: Any) -> bool:
    return True


class Engine:
    supportsPerMessageDeflate = True


PATTERN = re.compile("^https://")

NOT_CALLABLE = 1

# For each setting, what stands behind its flag, the same in the file, and what the option then is. A setting that has
# no line here has one of these by its kind.
OBJECT = "tests.operation.test_configuration:"
EXAMPLES: dict[str, tuple[str, str, Any]] = {
    "listen": ("tcp:1,a", '["tcp:1,a"]', ("tcp:1,a",)),
    "static": (".", '"."', "."),
    "app": (f"{OBJECT}allow", f'"{OBJECT}allow"', f"{OBJECT}allow"),
    "transports": ("websocket", '["websocket"]', ("websocket",)),
    "allowRequest": (f"{OBJECT}allow", f'"{OBJECT}allow"', allow),
    "allowedOrigins": (
        f"https://example.com, {OBJECT}PATTERN",
        f'["https://example.com", "{OBJECT}PATTERN"]',
        ("https://example.com", PATTERN),
    ),
    "wsEngine": (f"{OBJECT}Engine", f'"{OBJECT}Engine"', Engine),
    "trustedProxies": ("10.0.0.1,unix", '["10.0.0.1", "unix"]', ("10.0.0.1", "unix")),
    "path": ("/somewhere", '"/somewhere"', "/somewhere"),
    "cookie.path": ("/here", '"/here"', "/here"),
    "cookie.sameSite": ("strict", '"strict"', "strict"),
    "cookie.priority": ("high", '"high"', "high"),
    "cors.methods": ("GET,POST", '["GET", "POST"]', ("GET", "POST")),
    "cors.allowedHeaders": ("x-a,x-b", '["x-a", "x-b"]', ("x-a", "x-b")),
    "cors.exposedHeaders": ("x-a", '["x-a"]', ("x-a",)),
    "cors.origin": ("https://example.com", '"https://example.com"', "https://example.com"),
    "cookie.expires": (
        "2030-01-02T03:04:05+00:00",
        "2030-01-02T03:04:05+00:00",
        datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    ),
}


def example(setting: Setting) -> tuple[str, str, Any]:
    if setting.name in EXAMPLES:
        return EXAMPLES[setting.name]
    if int in setting.types:
        default = setting.field.default or 0
        number = default - 1 if default > 1 else default + 1
        return str(number), str(number), number
    if float in setting.types:
        return "0.5", "0.5", 0.5
    if str in setting.types:
        text = "abc"
        try:
            if setting.path[0] in attrs.fields_dict(ServerOptions) and not setting.path[1:]:
                ServerOptions(**{setting.name: text})  # type: ignore[misc]
        except OptionError as error:
            # One of some words, of which the first may be the default.
            text = error.problem.partition("one of ")[2].split(", ")[-1]
        return text, f'"{text}"', text
    raise AssertionError(f"{setting.name} needs a line in EXAMPLES")


def optionsOf(*flags: str) -> tuple[ServiceOptions, ServerOptions]:
    options = Options()
    options.parseOptions(list(flags))
    return options["serviceOptions"], options["serverOptions"]


def valueOf(options: tuple[ServiceOptions, ServerOptions], setting: Setting) -> Any:
    value: Any = options[0] if hasattr(options[0], setting.path[0]) else options[1]
    for name in setting.path:
        value = getattr(value, name)
    return value


def problem(*flags: str) -> str:
    with pytest.raises(SystemExit) as caught:
        optionsOf(*flags)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix("twistd engineio: ")


@pytest.fixture
def inFile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a file, and returns the flag that names it."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("server.toml").write_text(text)
        return "--config=server.toml"

    return write


def test_everyOptionIsThere() -> None:
    """Each field of the server's options, and of their own settings, can be set; no two have the same flag."""
    for field in attrs.fields(ServerOptions):
        setting = SETTINGS[(field.name,)]
        if setting.part is not None:
            assert {path[1] for path in SETTINGS if path[0] == field.name and path[1:]} == {
                each.name for each in attrs.fields(setting.part)
            }
    flags = [each.flag for each in SETTINGS.values()] + [f"no-{each.flag}" for each in SETTINGS.values()]
    assert len(set(flags)) == len(flags)
    names = {each.removeprefix("opt_") for each in vars(Options) if each.startswith("opt_")}
    of = {flag.replace("-", "_") for flag in flags}
    assert names <= of | {"version", "config", "h", "help", "help_all", "print_config"}
    for each in SETTINGS.values():
        flag = each.flag.replace("-", "_")
        assert flag in names or (each.part is not None and not each.canBeOn)
        assert each.help, f"{each.name}: no help"


@pytest.mark.parametrize(
    "setting", [each for each in SETTINGS.values() if not each.isSwitch], ids=lambda each: each.name
)
def test_aValue(setting: Setting, inFile: Any) -> None:
    """Each option reaches the server, from its flag and from the file."""
    text, written, value = example(setting)
    assert value != setting.field.default or setting.name == "app"
    assert valueOf(optionsOf(f"--{setting.flag}", text), setting) == value
    *above, name = setting.path
    table = "".join(f"[{each}]\n" for each in above)
    assert valueOf(optionsOf(inFile(f"{table}{name} = {written}\n")), setting) == value


@pytest.mark.parametrize("setting", [each for each in SETTINGS.values() if each.isSwitch], ids=lambda each: each.name)
def test_aSwitch(setting: Setting, inFile: Any) -> None:
    """Each switch can be on and off, from its flags and from the file."""
    *above, name = setting.path
    table = "".join(f"[{each}]\n" for each in above)
    for isOn in (True, False) if setting.canBeOn else (False,):
        expected: Any = isOn
        if setting.part is not None:
            expected = setting.field.converter(isOn)  # type: ignore[misc,operator]
        given = f"--{'' if isOn else 'no-'}{setting.flag}"
        assert valueOf(optionsOf(given), setting) == expected
        assert valueOf(optionsOf(inFile(f"{table}{name} = {str(isOn).lower()}\n")), setting) == expected


@pytest.mark.parametrize(
    "setting",
    [each for each in SETTINGS.values() if not each.isSwitch and each.off is None],
    ids=lambda each: each.name,
)
def test_nothing(setting: Setting, inFile: Any) -> None:
    """What may be None is so by --no-… , and by false in the file, which has no null."""
    *above, name = setting.path
    table = "".join(f"[{each}]\n" for each in above)
    assert valueOf(optionsOf(f"--no-{setting.flag}"), setting) is None
    assert valueOf(optionsOf(inFile(f"{table}{name} = false\n")), setting) is None


def test_flagsWin(inFile: Any) -> None:
    """What a flag says replaces what the file says; a table in the file keeps the rest of its settings."""
    file = inFile(
        'pingInterval = 1000\npingTimeout = 2000\nallowedOrigins = ["https://example.com"]\n'
        '[cookie]\nname = "file"\npath = "/file"\n[httpCompression]\nlevel = 3\n'
    )
    _, options = optionsOf(
        file, "--ping-interval=3000", "--no-allowed-origins", "--cookie", "--cookie-name=flag", "--no-http-compression"
    )
    assert (options.pingInterval, options.pingTimeout, options.allowedOrigins) == (3000, 2000, False)
    assert options.cookie is not None
    assert (options.cookie.name, options.cookie.path) == ("flag", "/file")
    assert options.httpCompression is None


def test_theOrderOfFlagsIsNothing(inFile: Any) -> None:
    """The file may be named behind the flags that win over it."""
    file = inFile("pingInterval = 1000\n")
    assert optionsOf("--ping-interval=2", file)[1].pingInterval == 2


def test_settingsOfWhatIsOff(inFile: Any) -> None:
    """A setting of an option switches it on, where the file has it off; beside a flag that has it off it is refused."""
    file = inFile("cookie = false\n")
    _, options = optionsOf(file, "--cookie-name=flag")
    assert options.cookie is not None
    assert options.cookie.name == "flag"
    assert problem("--no-cookie", "--cookie-name=x") == "--cookie-name x: not together with --no-cookie"


def test_lists(inFile: Any) -> None:
    """A list has commas, or its flag is given again; a description of an endpoint may have commas in it."""
    assert optionsOf("--transports=websocket, polling")[1].transports == ("websocket", "polling")
    assert optionsOf("--transports=websocket", "--transports=polling")[1].transports == ("websocket", "polling")
    service, _ = optionsOf("--listen=unix:/a,b", "--listen=tcp:1")
    assert service.listen == ("unix:/a,b", "tcp:1")
    assert optionsOf(inFile('listen = "tcp:5"\n'))[0].listen == ("tcp:5",)


def test_origins() -> None:
    """An origin, all, those that ask, none, and a function: each can be said."""
    cors = [
        optionsOf(f"--cors-origin={text}")[1].cors
        for text in ("*", "true", "false", "null", f"{OBJECT}allow", f"{OBJECT}PATTERN")
    ]
    assert [each.origin for each in cors if each is not None] == ["*", True, False, "null", allow, PATTERN]


def test_wildcards(inFile: Any) -> None:
    """Wildcards are said like other origins, by a flag or in a file; what no browser sends is an error there too."""
    expected = ("https://*.example.com", "http://localhost:*", "self")
    flag = "--allowed-origins=https://*.Example.com:443, http://localhost:*, self"
    assert optionsOf(flag)[1].allowedOrigins == expected
    text = 'allowedOrigins = ["https://*.example.com", "http://localhost:*", "self"]\n[cors]\norigin = "http://localhost:*"\n'
    options = optionsOf(inFile(text))[1]
    assert options.allowedOrigins == expected
    assert options.cors is not None
    assert options.cors.origin == "http://localhost:*"
    for wrong in ("https://example.com/", "https://*", "wss://example.com"):
        assert f"not '{wrong}': " in problem(f"--allowed-origins={wrong}")
        assert f"not '{wrong}': " in problem(inFile(f'[cors]\norigin = ["https://a.example", "{wrong}"]\n'))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--ping-interval=1.5"], "--ping-interval 1.5: expected a whole number of milliseconds, 1 or more"),
        (
            ["--transports=carrier"],
            "--transports carrier: expected a list of one or more of polling, websocket, each once",
        ),
        (["--cookie-max-age=long"], "--cookie-max-age long: expected a whole number"),
        (["--cookie-expires=never"], "--cookie-expires never: expected a datetime with a time zone"),
        (["--cookie-path=x"], "--cookie-path x: expected a path"),
        (["--allow-request=yes"], "--allow-request yes: expected module:attribute"),
        (["--allow-request=json:no"], "--allow-request json:no: cannot be imported (AttributeError"),
        (
            ["--allow-request=tests.operation.test_configuration:NOT_CALLABLE"],
            "--allow-request tests.operation.test_configuration:NOT_CALL",
        ),
        (["--allowed-origins=https://a, example.com"], "--allowed-origins https://a, example.com: expected "),
        (["--ws-engine=json:loads"], "--ws-engine json:loads: expected None for Autobahn, or a class"),
        (["--allow-upgrades=yes"], "option --allow-upgrades must not have an argument"),
        (
            ["--per-message-deflate-threshold=1", "--ws-engine=tests.operation.test_configuration:Incapable"],
            "perMessageDeflate = PerMessageDeflate(",
        ),
    ],
)
def test_wrongFlags(flags: list[str], expected: str) -> None:
    """One line that names the flag, the value, and what was expected."""
    assert problem(*flags).startswith(expected)


class Incapable:
    supportsPerMessageDeflate = False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pingInterval = 0", "pingInterval = 0: expected a whole number of milliseconds, 1 or more"),
        ('pingInterval = "25000"', "pingInterval = '25000': expected a whole number"),
        ("pingIntervall = 1", "pingIntervall = 1: there is no such option; did you mean pingInterval?"),
        ("bodyTimeout = 1", "bodyTimeout = 1: there is no such option; did you mean httpRequestBodyTimeout?"),
        ("listn = 1", "listn = 1: there is no such option; did you mean listen?"),
        ("ping-interval = 1", "ping-interval = 1: there is no such option; did you mean pingInterval?"),
        (
            "host = 'localhost'",
            "host = 'localhost': there is no such option; an address is part of what",
        ),
        ("port = 3000", "port = 3000: there is no such option; a port is what is listened on, such as 3000"),
        ("xyzzy = 1", "xyzzy = 1: there is no such option; see docs/options.md"),
        ("[cookie]\nnam = 'x'", "cookie.nam = 'x': there is no such option; did you mean name?"),
        ("[cookie]\nname = ';'", "cookie.name = ';': expected a token"),
        (
            "cookie = 5",
            "cookie = 5: expected Cookie or a mapping of its settings such as {'name': 'io'}, True, or False",
        ),
        ("cors = true", "cors = True: expected Cors or a mapping of its settings such as {'origin': '*'}, or False"),
        ('transports = [["polling"]]', "transports = (['polling'],): expected a list of one or more of polling"),
        ("transports = [{}]", "transports = ({},): expected a list of one or more of polling"),
        (f"listen = {'[' * 20_000}", "values are nested too deeply"),
        ("listen = []", "listen = (): expected a list of text"),
        ("listen = 5", "listen = 5: expected a list of text"),
        ("app = 5", "app = 5: expected text"),
        ('allowRequest = "x"', "allowRequest = 'x': expected module:attribute"),
        ("allowRequest = 5", "allowRequest = 5: expected something to call"),
        ("pingInterval = 1\npingTimeout = \n", "Invalid value (at line 2, column 15)"),
        ("[cookie\n", "Expected ']' at the end of a table declaration (at line 1, column 8)"),
        ("pingInterval = 1\npingInterval = 2\n", "Cannot overwrite a value (at line 2, column 17)"),
    ],
)
def test_wrongFiles(text: str, expected: str, inFile: Any) -> None:
    """One line that names the file, the option, or else the line, and what was expected."""
    assert problem(inFile(text)).startswith(f"--config server.toml: {expected}")


def test_aFileThatIsNoText(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert problem(f"--config={tmp_path}/x").startswith(f"--config {tmp_path}/x: 'utf-8' codec can't decode")


def test_aNewOption(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is added becomes a flag and a key by itself, of whatever kind."""

    @attrs.frozen
    class Parts:
        deep: float = attrs.field(default=1.0, metadata={"help": "How deep.", "metavar": "METRES"})

    @attrs.frozen
    class New:
        share: float | None = attrs.field(default=None, metadata={"help": "A share."})
        policy: Literal["close", "drop"] = attrs.field(default="close", metadata={"help": "What to do."})
        parts: Parts | None = attrs.field(
            default=None, converter=part("parts", Parts), metadata={"help": "Parts.", "group": "limits"}
        )

    monkeypatch.setattr(settings, "get_type_hints", lambda of: get_type_hints(of, localns={"Parts": Parts}))
    share, policy, parts, deep = settings._settingsOf(New)
    assert (share.flag, share.fromText("0.25"), share.fromText("2"), share.fromText("x"), share.fromFile(False)) == (
        "share",
        0.25,
        2,
        "x",
        None,
    )
    assert (policy.flag, policy.fromText("drop"), policy.off) == ("policy", "drop", policy)
    assert (parts.part, deep.flag, deep.help) == (Parts, "parts-deep", "How deep.")
    assert (parts.usage, deep.usage) == ("--[no-]parts", "--parts-deep METRES")
    assert (deep.group, deep.default, parts.default) == ("limits", 1.0, None)


def test_theServiceHasThem(inFile: Any) -> None:
    """What the file says reaches the server that runs."""
    options = Options()
    options.parseOptions([inFile('path = "/elsewhere"\nlisten = ["tcp:1", "tcp:2"]\n[cookie]\nname = "route"\n')])
    reactor = MemoryReactorClock()
    service = CommandService(options, reactor)
    service.startService()
    assert [each[0] for each in reactor.tcpServers] == [1, 2]
    assert service.server.opts.path == "/elsewhere"
    assert service.server.opts.cookie is not None
    assert service.server.opts.cookie.name == "route"


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([*flags, "--print-config"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_settingsInForce(inFile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`--print-config` writes every setting as TOML, in groups, and says what has set one."""
    file = inFile('pingTimeout = 7\ncookie = true\n[cors]\norigin = "https://a.example"\nmaxAge = 5\n')
    given = ["--ping-interval=5", "--no-max-sessions", "--no-http-compression", "--cors-max-age=6", file]
    text = printed(capsys, *given, "--per-message-deflate-mem-level=3")
    lines = text.splitlines()
    for line in (
        "# Heartbeat",
        "pingInterval = 5  # --ping-interval",
        "pingTimeout = 7  # --config",
        "firstPacketTimeout = false",
        "maxSessions = false  # --no-max-sessions",
        "httpCompression = false  # --no-http-compression",
        "[cookie]  # --config",
        'origin = "https://a.example"  # --config',
        "maxAge = 6  # --cors-max-age",
        "[perMessageDeflate]",
        "memLevel = 3  # --per-message-deflate-mem-level",
        'listen = ["tcp:3000"]',
    ):
        assert line in lines, line
    told = tomllib.loads(text)
    on = {name for (name, *below) in SETTINGS if below and name != "httpCompression"}
    for path in SETTINGS:
        if len(path) == 1 or path[0] in on:
            found: Any = told
            for name in path:
                found = found[name]
    expected = optionsOf(*given, "--per-message-deflate-mem-level=3")
    assert optionsOf(inFile(text)) == expected
    # What the file then sets comes from there.
    again = printed(capsys, inFile(text))
    assert tomllib.loads(again) == told
    assert "pingInterval = 5  # --config" in again


def test_socketIO(inFile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`--socketio` stands for the path of Socket.IO's clients, unless a path is set, wherever that is."""
    for flags, file, path, source in (
        (["--socketio"], "", "/socket.io", "--socketio"),
        ([], "socketio = true\n", "/socket.io", "--config"),
        (["--socketio", "--path=/chat"], "", "/chat", "--path"),
        (["--socketio"], 'path = "/chat"\n', "/chat", "--config"),
        (["--no-socketio"], "socketio = true\n", "/engine.io", ""),
        ([], "", "/engine.io", ""),
    ):
        given = [*flags, inFile(file)]
        assert optionsOf(*given)[1].path == path
        comment = f"  # {source}" if source else ""
        text, expected = printed(capsys, *given), optionsOf(*given)
        assert f'path = "{path}"{comment}' in text.splitlines()
        assert optionsOf(inFile(text)) == expected


def test_everySettingIsPrintedAsItIsRead(inFile: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a setting is set to, the file that `--print-config` writes sets it to the same."""
    for setting in SETTINGS.values():
        if setting.isSwitch:
            flags = [f"--{setting.flag}"] * setting.canBeOn + [f"--no-{setting.flag}"]
        else:
            flags = [f"--{setting.flag}={example(setting)[0]}"] + [f"--no-{setting.flag}"] * (setting.off is None)
        for flag in flags:
            assert optionsOf(inFile(printed(capsys, flag))) == optionsOf(flag), flag


def test_textThatTomlCannotHold(capsys: pytest.CaptureFixture[str]) -> None:
    """Text is escaped as TOML has it; what is no UTF-8 can't be written, which one line says."""
    for text in ('quoted "text" with \\ and \t', "two\nlines\r", "\x00\x1f\x7f", "später ☕"):
        assert tomllib.loads(printed(capsys, f"--initial-packet={text}"))["initialPacket"] == text
    with pytest.raises(SystemExit, match=r"^twistd engineio: --access-log '/tmp/.*': can't be written as TOML"):
        Options().parseOptions(["--access-log=/tmp/\udcff", "--print-config"])


def test_aFileThatIsAPipe(tmp_path: Path) -> None:
    """The file is read once."""
    reading, writing = os.pipe()
    os.write(writing, b"pingInterval = 5\n")
    os.close(writing)
    try:
        given = CommandLineSettings()
        given.file = f"/dev/fd/{reading}"
        assert given.options()[1].pingInterval == 5
        assert {each.name: source for each, _, source in given.inForce()}["pingInterval"] == "--config"
    finally:
        os.close(reading)


def test_givenAlone() -> None:
    """The settings can be made without a command line."""
    given = CommandLineSettings()
    given.flag(("pingInterval",), "5")
    given.switch(("allowUpgrades",), False)
    _, options = given.options()
    assert (options.pingInterval, options.allowUpgrades) == (5, False)
    given.flag(("pingInterval",), "no")
    with pytest.raises(ConfigurationError, match=r"^--ping-interval no: expected a whole number"):
        given.options()
