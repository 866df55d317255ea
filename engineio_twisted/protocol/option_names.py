"""The names of options: which was meant by one that no option has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

FEW = 12
"""Names that an error lists; of more it says where they are described."""

PAGE = "docs/options.md"
"""Where all options are described."""

_LISTEN = "part of what is listened on, such as 'tcp:3000:interface=127.0.0.1'"
_TLS = "TLS is part of what is listened on, such as 'tls:/etc/certificates:443'"
_LOGGER = "the server logs to twisted.logger; see docs/logging.md"
_SOCKET_IO = "it belongs to Socket.IO: pass it to SocketIO(server); see docs/socketio-options.md"
_MANY_NAMESPACES = "it belongs to Socket.IO: SocketIO(server) has what it is for; see docs/socketio.md"
_MILLISECONDS = "did you mean {}, in milliseconds?"

ELSEWHERE: Mapping[str, str] = {
    "host": f"an address is {_LISTEN}",
    "hostname": f"an address is {_LISTEN}",
    "address": f"an address is {_LISTEN}",
    "interface": f"an address is {_LISTEN}",
    "port": "a port is what is listened on, such as 3000 or 'tcp:3000'",
    "ssl": _TLS,
    "ssl_context": _TLS,
    "certfile": _TLS,
    "keyfile": _TLS,
    "async_mode": "there is one, Twisted's reactor; see docs/asyncio-and-threads.md",
    "async_handlers": "handlers are called and never waited for",
    "monitor_clients": "it is always so: each session has a deadline of its own",
    "cors_allowed_origins": (
        "allowedOrigins says whose pages may connect, cors whose pages may read responses; see docs/cors.md"
    ),
    "cors_credentials": "write cors={'origin': origins, 'credentials': True}",
    "compression_threshold": "write httpCompression={'threshold': 1024}",
    "ping_interval": "did you mean pingInterval, in milliseconds?",
    "ping_timeout": "did you mean pingTimeout, in milliseconds?",
    "maxPayload": "did you mean maxHttpBufferSize?",
    "engineio_path": "did you mean path?",
    "socketio_path": "did you mean path?",
    "json": "send text, such as json.dumps(data)",
    "logger": _LOGGER,
    "engineio_logger": _LOGGER,
    "debug": "set DEBUG=engine* in the environment; see docs/logging.md",
    "static_files": "attach the server to a site of files, or run twistd engineio --static",
    "namespaces": _MANY_NAMESPACES,
    "always_connect": _MANY_NAMESPACES,
    "client_manager": _MANY_NAMESPACES,
    "serveClient": _SOCKET_IO,
    "adapter": _SOCKET_IO,
    "connectTimeout": _SOCKET_IO,
    "connectionStateRecovery": _SOCKET_IO,
}
"""What to do here in place of options of other servers."""


def cureOf(name: str, known: Sequence[str], isSetting: bool = False) -> str:
    """
    Return what to write in place of a name that isn't among those known.

    @param isSetting: whether it is the name of a setting of an option, as no other server's option is.
    """
    if name in ELSEWHERE and not isSetting:
        return ELSEWHERE[name]
    near = _nearest(name, known)
    if near is not None:
        return f"did you mean {near}?"
    return f"the options are {', '.join(known)}" if len(known) <= FEW else f"see {PAGE}"


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _nearest(given: str, known: Iterable[str]) -> str | None:
    """Return which of the known names was meant: the only one that holds what was given, or the most similar one."""
    plain = {_plain(each): each for each in known}
    name = _plain(given)
    if name in plain:
        return plain[name]
    longer = [plain[each] for each in plain if name and name in each]
    if len(longer) == 1:
        return longer[0]
    near = difflib.get_close_matches(name, plain, n=1)
    return plain[near[0]] if near else None
