"""The command line of `python -m engineio_twisted.client`."""

from __future__ import annotations

import argparse
import math
import textwrap
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import attrs

from ..protocol.errors import OptionError
from .address import addressOf
from .options import ClientKeywords, ClientOptions
from .report import FAILED, INTERRUPTED, KINDS, WRONG_USAGE

PROGRAM = "python -m engineio_twisted.client"

SECONDS = 20.0
"""Seconds of C{--timeout} if it isn't given."""

_FLAGS = {
    "url": "URL",
    "transports": "--transport",
    "extraHeaders": "--header",
    "EIO": "--eio",
    "contextFactory": "--ca",
    "endpoint": "--proxy",
}


@attrs.frozen
class Proxy:
    """
    An HTTP proxy, and the server that it connects to.

    @ivar host: the name or IP address of the proxy.
    @ivar port: its port.
    @ivar headers: those of the request for a tunnel.
    @ivar target: the host and the port of the server.
    """

    host: str
    port: int
    headers: Mapping[str, str]
    target: tuple[str, int]


@attrs.frozen
class Plan:
    """
    What the command line asks for.

    @ivar url: the URL of the server.
    @ivar options: those of the client, without what needs a reactor.
    @ivar proxy: the proxy; None if there is none.
    @ivar isJSON: whether events are printed as JSON.
    @ivar isChecking: whether the session is closed as soon as it is open, and upgraded.
    @ivar isEcho: whether round trips of a message are measured.
    @ivar count: after how many messages or round trips the session is closed; None if it isn't for that.
    @ivar seconds: how long each wait may take.
    """

    url: str
    options: ClientKeywords
    proxy: Proxy | None
    isJSON: bool
    isChecking: bool
    isEcho: bool
    count: int | None
    seconds: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, f"{PROGRAM}: {message} (--help lists the options)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Connect to an Engine.IO server, send the lines of standard input, and print the messages that"
        " come. The end of the input, and Ctrl-C, close the session when everything was sent.",
        epilog=_exitCodes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "url", metavar="URL", help="the server, such as http://127.0.0.1:3000 or wss://example.org/path"
    )
    what = parser.add_argument_group("what to do")
    modes = what.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="connect, upgrade, and close; read no input")
    modes.add_argument(
        "--echo",
        action="store_true",
        help="measure the round trip of a message to a server that sends each back; read no input",
    )
    what.add_argument(
        "--count", metavar="N", type=_whole, help="close after N messages came; with --echo after N round trips (1)"
    )
    what.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=SECONDS,
        help="how long to wait for the connection, for the upgrade, and for each awaited message (%(default)g)",
    )
    what.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    session = parser.add_argument_group("session")
    session.add_argument(
        "--transport", metavar="NAMES", help="polling, websocket, or both in their order (polling,websocket)"
    )
    session.add_argument("--no-upgrade", action="store_true", help="stay on polling")
    session.add_argument("--eio", metavar="N", type=int, default=4, help="revision of the protocol, 3 or 4 (4)")
    session.add_argument("--resume", action="store_true", help="ask for a session that survives a lost connection")
    requests = parser.add_argument_group("requests")
    requests.add_argument("--path", help="path of the server (that of the URL, or /engine.io)")
    requests.add_argument("--query", metavar="NAME=VALUE", action="append", default=[], help="a parameter; repeatable")
    requests.add_argument(
        "--header", "-H", metavar="'NAME: VALUE'", action="append", default=[], help="a header; repeatable"
    )
    requests.add_argument("--cookies", action="store_true", help="keep cookies and send them back")
    network = parser.add_argument_group("network")
    trust = network.add_mutually_exclusive_group()
    trust.add_argument("--ca", metavar="FILE", help="trust the authorities in a PEM file, and no other")
    trust.add_argument("--insecure", action="store_true", help="accept any certificate")
    network.add_argument(
        "--proxy", metavar="URL", help="connect through an HTTP proxy, such as http://user:password@host:3128"
    )
    return parser


def _whole(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, 0.001 to 86400")
    return seconds


def _exitCodes() -> str:
    codes = [
        "0 closed as asked",
        f"{FAILED} the tool failed",
        f"{WRONG_USAGE} wrong usage",
        *(f"{kind.exitCode} {name}" for name, kind in KINDS.items()),
        f"{INTERRUPTED} interrupted while connecting",
    ]
    return textwrap.fill(f"exit codes: {', '.join(codes)}", 78)


def parse(arguments: Sequence[str]) -> Plan:
    """
    Return what a command line asks for.

    @raise SystemExit: something is wrong with it, and the one line that says what was printed; or there is nothing more
        to do, for it asked for help.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    query = _pairs(parser, "--query", given.query, "=")
    headers = {name: value.strip() for name, value in _pairs(parser, "--header", given.header, ":").items()}
    if given.check and given.count is not None:
        parser.error("--count: not together with --check")
    count = 1 if given.echo and given.count is None else given.count
    milliseconds = max(1, round(given.timeout * 1000))
    options: ClientKeywords = {
        "path": given.path,
        "query": query,
        "extraHeaders": headers,
        "upgrade": not given.no_upgrade,
        "EIO": given.eio,
        "resume": given.resume,
        "withCredentials": given.cookies,
        "connectTimeout": milliseconds,
        "upgradeTimeout": milliseconds,
    }
    if given.transport is not None:
        options["transports"] = given.transport.split(",")
    try:
        if given.ca is not None or given.insecure:
            options["contextFactory"] = _policy(given.ca)
        known = ClientOptions(**options)
        address = addressOf(given.url, known.path, known.addTrailingSlash, known.query)
        proxy = None if given.proxy is None else _proxy(given.proxy, (address.host, address.port))
    except OptionError as error:
        flag = _FLAGS.get(error.name, f"--{error.name}")
        parser.error(f"{flag} {error.value}: {error.problem}")
    return Plan(given.url, options, proxy, given.json, given.check, given.echo, count, given.timeout)


def _proxy(text: str, target: tuple[str, int]) -> Proxy:
    """
    Return the proxy that is meant.

    @raise OptionError: there is no such one. It has no password in it.
    """
    before, isWithUser, where = text.removeprefix("http://").rpartition("@")
    try:
        parts = urlsplit(f"//{where}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.path.rstrip("/") or parts.query or "://" in text.removeprefix("http://"):
        raise OptionError("proxy", where, "expected http://host:port, with user:password@ before the host if it asks")
    headers = {}
    if isWithUser:
        credentials = b64encode(unquote(before).encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {credentials}"
    return Proxy(host, port, headers, target)


def _pairs(parser: argparse.ArgumentParser, flag: str, texts: Sequence[str], separator: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, isThere, value = text.partition(separator)
        if not name or not isThere:
            parser.error(f"{flag} {text}: expected NAME{separator}VALUE")
        pairs[name] = value
    return pairs


def _policy(authorities: str | None) -> Any:
    """
    Return the policy of TLS.

    @param authorities: the name of a file with certificates to trust; None to trust any certificate.
    @raise OptionError: the file can't be used, or there is no TLS.
    """
    try:
        from .trust import AnyCertificate, trusting
    except ImportError as error:
        raise OptionError(
            "contextFactory", authorities, f"needs the extra `tls` of engineio_twisted ({error})"
        ) from None
    return AnyCertificate() if authorities is None else trusting(authorities)
