"""Make `twistd engineio` known; the code behind it is imported only when the command is used."""

from twisted.application.service import ServiceMaker

engineio = ServiceMaker(
    "Engine.IO server",
    "engineio_twisted.tap",
    "Serve Engine.IO sessions over HTTP long-polling and WebSocket.",
    "engineio",
)
