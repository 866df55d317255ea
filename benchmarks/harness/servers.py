"""What can be measured: our server, also with other settings, and its peers; the clients, ours and its peers."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .processes import BENCHMARKS, BUILD, ROOT, BenchmarkError, Server

OURS = "engineio_twisted"
REFERENCE = "node"
OURS_SOCKETIO = "engineio_twisted.socketio"
REFERENCE_SOCKETIO = "node-socket.io"
PYTHON_CLIENT = "python-engineio"

PEERS = BENCHMARKS / "peers"
_PYTHON = BUILD / "python"
_NODE = BUILD / "node"
_PACKAGES = _NODE / "node_modules"

_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "arm64": "aarch64"}
"""What the packages with Bun's binaries call a processor, if they don't call it as Python does."""


def _bun() -> Path:
    """Return the program of Bun, which is in a package of its own for each kind of machine."""
    machine = platform.machine().lower()
    package = f"bun-{platform.system().lower()}-{_PROCESSORS.get(machine, machine)}"
    return _PACKAGES / "@oven" / package / "bin" / "bun"


def _ours(name: str, *arguments: str, isSocketIO: bool = False) -> Server:
    program = str(BENCHMARKS / ("socketio_echo.py" if isSocketIO else "echo.py"))
    command = (sys.executable, program, "{port}", "--ping-interval", "{interval}", *arguments)
    return Server(name, command, {"PYTHONPATH": str(ROOT)}, isSocketIO=isSocketIO)


def _npmPeer(name: str, *command: str, isSocketIO: bool = False) -> Server:
    environment = {"NODE_PATH": str(_PACKAGES)}
    return Server(name, (*command, "{port}", "{interval}"), environment, PEERS, "node", isSocketIO=isSocketIO)


def _peer(name: str, *command: str, cannot: tuple[str, ...] = (), isSocketIO: bool = False) -> Server:
    program = str(_PYTHON / "bin" / "python")
    return Server(name, (program, *command), None, PEERS, "python", cannot, isSocketIO)


COMPARED = [
    _ours(OURS),
    _npmPeer(REFERENCE, "node", "node_echo.mjs"),
    _npmPeer("bun", str(_bun()), "bun_echo.mjs"),
    _peer("aiohttp", "aiohttp_echo.py", "{port}"),
    _peer("uvicorn", "-m", "uvicorn", "asgi_echo:application", "--port", "{port}"),
    _peer(
        "daphne",
        "-m",
        "daphne",
        "--port",
        "{port}",
        "asgi_echo:application",
        cannot=("ws-echo --kind binary --size 0",),
    ),
]
"""Ours, the reference, its sibling for Bun, and python-engineio on three frameworks."""

SETTINGS = [
    *(_ours(f"{OURS}-{name}", "--reactor", name) for name in ("asyncio", "uvloop", "poll", "select")),
    *(_ours(f"{OURS}-gc-{name}", "--gc", name) for name in ("freeze", "rare", "off")),
    _ours(f"{OURS}-deflate", "--deflate"),
]
"""Ours, with another reactor or with other settings of the garbage collector."""

SOCKETIO = [
    _ours(OURS_SOCKETIO, isSocketIO=True),
    _npmPeer(REFERENCE_SOCKETIO, "node", "node_socketio.mjs", isSocketIO=True),
    _peer(
        "python-socketio",
        "-m",
        "uvicorn",
        "asgi_socketio:application",
        "--port",
        "{port}",
        cannot=(
            # It escapes what is beyond ASCII: the same text in other bytes.
            "sio-echo --kind utf8",
            "sio-ack --kind utf8",
            # It takes minutes.
            "sio-disconnect --connections 8000",
            "sio-disconnect --connections 19000",
        ),
        isSocketIO=True,
    ),
]
"""Ours, the reference, and python-socketio on uvicorn."""

CLIENTS = [
    Server(OURS, (sys.executable, "echo_client.py", "{port}"), {"PYTHONPATH": str(ROOT)}),
    _peer(PYTHON_CLIENT, "aiohttp_client.py", "{port}"),
    _npmPeer(REFERENCE, "node", "node_client.mjs"),
    Server(
        "agent",
        (sys.executable, "agent_client.py", "{port}"),
        cannot=("echo websocket", "renew", "idle", *(f"echo polling {each} 16" for each in (1, 3, 50))),
    ),
]
"""Ours, python-engineio's on aiohttp, the reference, and what Twisted's Agent alone costs; `clients.py`."""

BARE = {kind: Server(f"bare-{kind}", (sys.executable, "bare_echo.py", "{port}", kind)) for kind in ("tcp", "http")}
"""What Twisted alone does."""

ALL = {each.name: each for each in [*COMPARED, *SETTINGS, *SOCKETIO]}


def choose(names: Sequence[str], among: Sequence[Server] = tuple(ALL.values())) -> list[Server]:
    """Return the servers of these names."""
    known = {each.name: each for each in among}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BenchmarkError(f"no server is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]


# Installing peers


def install(servers: Sequence[Server]) -> None:
    """Install what these servers need, unless it is there."""
    needed = {server.peers for server in servers}
    if "python" in needed:
        requirements = PEERS / "requirements.txt"
        if _isNew(_PYTHON, [requirements]):
            print("installing the Python peers", file=sys.stderr)
            _run([sys.executable, "-m", "venv", "--clear", str(_PYTHON)], BUILD)
            pip = [str(_PYTHON / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "install", "--requirement", str(requirements)], BUILD)
            _remember(_PYTHON, [requirements])
    if "node" in needed:
        files = [PEERS / name for name in ("package.json", "package-lock.json", ".npmrc")]
        if _isNew(_NODE, files):
            print("installing the servers on Node.js and on Bun", file=sys.stderr)
            npm = shutil.which("npm")
            if npm is None or shutil.which("node") is None:
                raise BenchmarkError("the reference and the server on Bun need Node.js and npm")
            _NODE.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copy(file, _NODE)
            _run([npm, "ci", "--no-audit", "--no-fund"], _NODE)
            _remember(_NODE, files)


def _digest(files: Sequence[Path]) -> str:
    versions = sys.version.encode()
    return hashlib.sha256(b"".join([versions, *(file.read_bytes() for file in files)])).hexdigest()


def _isNew(folder: Path, files: Sequence[Path]) -> bool:
    stamp = folder / "installed"
    return not stamp.exists() or stamp.read_text() != _digest(files)


def _remember(folder: Path, files: Sequence[Path]) -> None:
    (folder / "installed").write_text(_digest(files))


def _run(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)  # noqa: S603
    if result.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)}: {(result.stdout + result.stderr)[-2000:]}")
