"""What is fuzzed (fuzz/): every input that was kept goes through its target, and some that are made of them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.client import client as own_client
from engineio_twisted.client import polling as own_polling
from engineio_twisted.protocol import frame_reader, headers, packet, payload, payload_v3, proxies
from engineio_twisted.session import socket
from engineio_twisted.socketio import client, recovery, sender, server
from engineio_twisted.socketio import socket as socketio_socket
from engineio_twisted.transports import engine_autobahn, engine_client, engine_opening
from engineio_twisted.web import fast, fast_exchange
from fuzz import runner, targets
from fuzz.runner import CORPUS, corpusOf, mutations, randomly
from fuzz.targets import TARGETS, run

from ..kit.engines import TwistedEngine

pytestmark = pytest.mark.no_cover

COUNTS = {
    "websocket": 300,
    "client_websocket": 300,
    "client": 200,
    "channel": 100,
    "server": 150,
    "socketio_sessions": 50,
}
"""How many inputs are made of a corpus; of others a thousand."""


def test_everyTargetHasACorpus() -> None:
    """And every corpus a target."""
    assert {each.name for each in CORPUS.iterdir()} == set(TARGETS)
    assert all(corpusOf(name) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name: str, loggedErrors: list[Any]) -> None:
    """Every input is served or refused, and nothing else comes of it."""
    failed = []
    for path in corpusOf(name):
        try:
            run(name, path.read_bytes())
        except Exception as error:
            failed.append(f"{path.name}: {error!r}")
    assert failed == []
    if name in targets.LOGS:
        loggedErrors.clear()


@pytest.mark.parametrize("name", TARGETS)
def test_atRandom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loggedErrors: list[Any]) -> None:
    """So it is with inputs that are made of them: the same each time."""
    monkeypatch.setattr(runner, "FOUND", tmp_path)
    count = COUNTS.get(name, 1000)
    assert randomly(name, run, random.Random(name), count) == count
    if name in targets.LOGS:
        loggedErrors.clear()


def test_mutations() -> None:
    """Inputs are made without an end, differ, and are bounded."""
    made = mutations([b"4hello", b"x" * 10_000], random.Random(1))
    inputs = [next(made) for _ in range(300)]
    assert len(set(inputs)) > 200
    assert max(map(len, inputs)) <= runner.LONGEST


def test_whatIsFound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An input that fails is kept, and named."""
    monkeypatch.setattr(runner, "FOUND", tmp_path / "found")

    def failing(name: str, data: bytes) -> None:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError):
        randomly("packets", failing, random.Random(1), 10)
    (path,) = (tmp_path / "found").iterdir()
    assert str(path) in capsys.readouterr().out
    run("packets", path.read_bytes())


def test_forATime() -> None:
    """It ends when the time is over."""
    assert randomly("packets", run, random.Random(1), seconds=0.05) > 0


def test_howLongItTakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that takes too long fails."""
    monkeypatch.setattr(targets, "SECONDS", 0)
    with pytest.raises(AssertionError, match="s for 6 bytes"):
        run("packets", b"4hello")


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.run(command, cwd=runner.HERE.parent, capture_output=True, text=True, timeout=300)


def test_theCommand() -> None:
    """It fuzzes the targets that it is told, and says what came of it."""
    done = fuzz("--at-random", "--seconds", "0", "packets", "payload_v4")
    assert done.returncode == 0, done.stderr
    assert "--- packets\n" in done.stdout
    assert "--- payload_v4\n" in done.stdout
    assert done.stdout.endswith("nothing was found\n")


def test_theCommandIsTold(tmp_path: Path) -> None:
    """A target that there isn't is refused; one input is tried alone, and what comes of it shown."""
    refused = fuzz("nonsense")
    assert refused.returncode == 2
    assert "nonsense: expected one of" in refused.stderr
    path = corpusOf("server")[0]
    assert fuzz("--try", str(path), "server").returncode == 0
    assert fuzz("--try", str(tmp_path / "missing"), "server").returncode != 0


def _raise(*args: object, **options: object) -> Any:
    raise ZeroDivisionError


def _nothing(*_: object) -> None:
    pass


def _wrongDigit(frame: str | bytes) -> packet.Packet:
    return packet.Packet(packet.PacketType.MESSAGE, frame)


BREAKS: dict[str, list[tuple[Any, str, Any]]] = {
    # Where the package is broken so, the target has to notice.
    "payload_v4": [
        (payload.packets, "decodeBase64", lambda text: b"x" * 1000),
        (payload.CodecV4, "decodePacket", _raise),
    ],
    "payload_v3_text": [(payload_v3, "_utf16Length", len), (payload_v3, "_framesOfText", _raise)],
    "payload_v3_binary": [(payload_v3, "_framesOfBinary", lambda _: iter([b"\x04x"] * 99))],
    "packets": [(packet, "b64decode", lambda *_, **__: b"wrong"), (payload.CodecV4, "decodePacket", _wrongDigit)],
    "query": [(targets, "classify", _raise), (targets, "parseQuery", lambda uri: {})],
    "headers": [(headers, "quote", lambda text, safe: text), (targets, "contentCoding", lambda _: "br")],
    "proxies": [
        (targets, "addressOf", lambda _: None),
        (proxies, "_forwardedElements", lambda text: iter([{"for": text[4:]}])),
        (proxies.TrustedProxies, "trust", lambda *_: True),
    ],
    "websocket": [
        (frame_reader, "unmask", lambda mask, payload: payload),
        (engine_autobahn.AutobahnWebSocket, "_release", _raise),
        # What the other engine finds.
        *([(frame_reader, "LEAST", {126: 0, 127: 0})] if TwistedEngine is not None else []),
    ],
    "client_websocket": [
        (frame_reader, "MASKED", 256),
        (engine_client.ClientWebSocket, "connectionEnded", _nothing),
        (engine_opening.Opening, "abort", _nothing),
    ],
    "client": [
        (own_client, "readHandshake", _raise),
        (own_client.Client, "_tellIfGone", _nothing),
        (own_polling.PollingTransport, "_giveUp", _nothing),
        (own_polling.PollingTransport, "_left", _nothing),
    ],
    "channel": [
        (fast_exchange.FastExchange, "respond", _raise),
        (fast.FastChannel, "requestDone", lambda *_: None),
    ],
    "socketio_sessions": [
        (socketio_socket.Socket, "_leaveOwnRooms", _nothing),
        (client.Client, "closed", _nothing),
        (server.SocketIO, "gone", _nothing),
        (recovery.Recovery, "_expire", _nothing),
        (sender.Sender, "_acknowledged", _raise),
    ],
    "server": [
        (socket.Socket, "_end", _raise),
        (fast.FastChannel, "connectionLost", lambda *_: None),
        (targets.Memory, "_opened", lambda *_: None),
    ],
}


@pytest.mark.parametrize(
    ("name", "where", "attribute", "broken"),
    [(name, *each) for name, breaks in BREAKS.items() for each in breaks],
    ids=[f"{name}-{attribute}" for name, breaks in BREAKS.items() for _, attribute, _ in breaks],
)
def test_aFaultIsFound(
    name: str, where: Any, attribute: str, broken: Any, monkeypatch: pytest.MonkeyPatch, loggedErrors: list[Any]
) -> None:
    """A target fails, on an input of its corpus, where the package does what it may not."""
    monkeypatch.setattr(where, attribute, broken)
    targets._engineOf.cache_clear()

    def fails(data: bytes) -> bool:
        try:
            run(name, data)
        except Exception:
            return True
        return False

    assert any(fails(path.read_bytes()) for path in corpusOf(name))
    monkeypatch.undo()
    targets._engineOf.cache_clear()
    loggedErrors.clear()
