"""The two clients of python-socketio against a Socket.IO server."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from typing import Any

import pytest
import pytest_twisted

from ..kit.clients import INTEROP, Run
from ..kit.socketio_story import PATH, Story, assertNothingLeft, assertNoticed, noticedByPython, pythonClients
from ..kit.tools import require
from ..kit.wire import eventually


@pytest.mark.slow
@pytest.mark.parametrize("serializer", ["default", "msgpack"])
@pytest_twisted.ensureDeferred
async def test_story(serve: Any, start: Run, serializer: str) -> None:
    """Both clients, over every transport, notice all that they should, and nothing of them is left."""
    for module in ("socketio", "requests", "websocket", "aiohttp"):
        require(importlib.util.find_spec(module) is not None, "python-socketio[asyncio-client,client]")
    story = Story(**({} if serializer == "default" else {"parser": serializer}))
    running = await serve(story, path=PATH)
    those = pythonClients()
    program = start([sys.executable, INTEROP / "python_socketio_client.py", running.url, serializer], those)
    await assertNoticed(program, those, noticedByPython)
    await eventually(lambda: len(story.ended) == 4 * len(those), "the end of all sockets")
    ended = Counter(story.ended)
    # Thrown out of one namespace, and the other's session ended.
    assert ended["/admin", "server namespace disconnect"] == ended["/", "server namespace disconnect"] == len(those)
    # The one of asyncio closes its session before it has said that it leaves.
    assert {reason for _, reason in ended} <= {
        "server namespace disconnect",
        "client namespace disconnect",
        "transport close",
    }
    await eventually(lambda: story.io.stats().clients == 0, "the end of all sessions")
    assertNothingLeft(story.io)
