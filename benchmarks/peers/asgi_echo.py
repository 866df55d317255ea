"""python-engineio as an ASGI application: `uvicorn asgi_echo:application`, `daphne asgi_echo:application`."""

from __future__ import annotations

import engineio
from application import echo

application = engineio.ASGIApp(echo("asgi"))
