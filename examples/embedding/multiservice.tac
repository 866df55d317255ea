"""
Engine.IO as one of the services of an application, which twistd starts and stops.

    cd examples/embedding
    twistd --nodaemon --python multiservice.tac                         # port 3000, all interfaces
    LISTEN=tcp:8080:interface=127.0.0.1 twistd --nodaemon --python multiservice.tac
"""

import os

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService

from engineio_twisted.service import EngineIOService

application = Application("embedding")
services = MultiService()
services.setServiceParent(application)

engine = EngineIOService(os.environ.get("LISTEN", "tcp:3000"))
engine.setServiceParent(services)


@engine.server.on("connection")
def connected(socket):
    socket.on("message", socket.send)


# It starts and stops with the other services.
TimerService(0.5, engine.server.broadcast, "tick").setServiceParent(services)
