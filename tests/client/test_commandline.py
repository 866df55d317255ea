"""The command line of the terminal tool: what it asks for, and the one line about what is wrong with it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.client.commandline import Plan, parse
from engineio_twisted.client.options import ClientOptions
from engineio_twisted.client.report import KINDS

URL = "http://127.0.0.1:3000"


def parsed(arguments: str) -> Plan:
    return parse([URL, *shlex.split(arguments)])


def test_nothing() -> None:
    """Without options the client has the defaults of clients, and lines are sent until there are no more."""
    plan = parsed("")
    assert (plan.url, plan.proxy, plan.isJSON, plan.isChecking, plan.isEcho, plan.count, plan.seconds) == (
        URL,
        None,
        False,
        False,
        False,
        None,
        20,
    )
    assert ClientOptions(**plan.options) == ClientOptions(upgradeTimeout=20000)


@pytest.mark.parametrize(
    ("arguments", "option", "expected"),
    [
        ("--path /chat/", "path", "/chat"),
        ("--query token=a=b --query room=", "query", {"token": "a=b", "room": ""}),
        ("--header 'X-Token: a: b' -H Cookie:c", "extraHeaders", {"X-Token": "a: b", "Cookie": "c"}),
        ("--transport websocket", "transports", ("websocket",)),
        ("--transport websocket,polling", "transports", ("websocket", "polling")),
        ("--no-upgrade", "upgrade", False),
        ("--eio 3", "EIO", 3),
        ("--resume", "resume", True),
        ("--cookies", "withCredentials", True),
        ("--timeout 0.5", "connectTimeout", 500),
        ("--timeout 0.5", "upgradeTimeout", 500),
    ],
)
def test_options(arguments: str, option: str, expected: Any) -> None:
    """Each flag sets an option of the client."""
    assert getattr(ClientOptions(**parsed(arguments).options), option) == expected


def test_plan() -> None:
    """The other flags say what to do, and how it is shown."""
    plan = parsed("--echo --count 3 --json --timeout 2.5")
    assert (plan.isEcho, plan.count, plan.isJSON, plan.seconds) == (True, 3, True, 2.5)
    assert parsed("--echo").count == 1
    assert parsed("--check").isChecking


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy:3128", ("proxy", 3128, {})),
        ("http://[::1]:3128/", ("::1", 3128, {})),
        ("http://ada:se%20c@ret@proxy:80", ("proxy", 80, {"Proxy-Authorization": "Basic YWRhOnNlIGNAcmV0"})),
    ],
)
def test_proxies(text: str, expected: tuple[str, int, dict[str, str]]) -> None:
    """A proxy has a host and a port, and may want to know who asks."""
    proxy = parsed(f"--proxy {text}").proxy
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.headers) == expected
    assert proxy.target == ("127.0.0.1", 3000)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("", "the following arguments are required: URL"),
        ("example.org", "URL example.org: expected a URL that begins with http:, https:, ws: or wss:"),
        (f"{URL} --eio 5", "--eio 5: expected a revision of the protocol, 3 or 4"),
        (f"{URL} --eio 3 --resume", "--resume True: revision 3 has no resuming"),
        (f"{URL} --transport quic", "--transport ('quic',): expected a list of one or more of polling, websocket"),
        (f"{URL} --query token", "--query token: expected NAME=VALUE"),
        (f"{URL} --query sid=1", "--query sid: the parameter sid is the protocol's own"),
        (f"{URL} --header token", "--header token: expected NAME:VALUE"),
        (f"{URL} --header upgrade:x", "--header upgrade: the transports set this header"),
        (f"{URL}/a --path /b", "--path /b: the URL has a path already, /a"),
        (f"{URL} --count 0", "argument --count: 0: expected a whole number, 1 or more"),
        (f"{URL} --timeout soon", "argument --timeout: soon: expected seconds"),
        (f"{URL} --timeout 0", "argument --timeout: 0: expected seconds"),
        (f"{URL} --check --echo", "argument --echo: not allowed with argument --check"),
        (f"{URL} --check --count 1", "--count: not together with --check"),
        (f"{URL} --ca nowhere.pem", "--ca nowhere.pem: No such file or directory"),
        (f"{URL} --ca README.md", "expected a file with certificates in PEM"),
        (f"{URL} --ca a --insecure", "argument --insecure: not allowed with argument --ca"),
        (f"{URL} --proxy proxy", "--proxy proxy: expected http://host:port"),
        (f"{URL} --proxy https://proxy:1", "--proxy https://proxy:1: expected http://host:port"),
        (f"{URL} --proxy proxy:http", "--proxy proxy:http: expected http://host:port"),
        (f"{URL} --pat /x", "unrecognized arguments: --pat"),
    ],
)
def test_wrong(arguments: str, problem: str, capsys: Any) -> None:
    """Whatever is wrong is said in one line, with the flag, and the exit code is 2."""
    with pytest.raises(SystemExit) as end:
        parse(shlex.split(arguments))
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("python -m engineio_twisted.client: ")
    assert problem in line
    assert line.endswith("(--help lists the options)")


def test_secretsAreNotPrinted(capsys: Any) -> None:
    """A password in the URL is refused, and isn't shown; nor is the value of a header."""
    for arguments in (
        ["https://ada:secret@example.org"],
        [URL, "--header", "Authorization: secret\x01"],
        [URL, "--proxy", "ada:secret@proxy"],
    ):
        with pytest.raises(SystemExit):
            parse(arguments)
        assert "secret" not in capsys.readouterr().err


def test_noTLS(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Without pyOpenSSL the flags of TLS say what to install."""
    monkeypatch.setitem(__import__("sys").modules, "engineio_twisted.client.trust", None)
    with pytest.raises(SystemExit):
        parsed("--insecure")
    assert "needs the extra `tls` of engineio_twisted" in capsys.readouterr().err


def test_help(capsys: Any) -> None:
    """The help names every exit code."""
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, kind in KINDS.items():
        assert f"{kind.exitCode} {name}" in text


def test_authorities(tmp_path: Path) -> None:
    """A file may have several certificates, and text between them; one that is broken is no certificate."""
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(SystemExit):
        parsed(f"--ca {broken}")
