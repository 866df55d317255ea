"""A Socket.IO server and its clients in memory, for the tests of an application (docs/socketio-testing.md)."""

from .client import MemorySocket
from .events import Event, NothingReceived, Question, Refused
from .server import MemorySocketIO

__all__ = ["Event", "MemorySocket", "MemorySocketIO", "NothingReceived", "Question", "Refused"]
