"""
A server for tests of time, as a program: it prints its port, and then what happens to its sessions, a line each.

It takes the name of a reactor, and options with their values, as JSON. When a client says `sleep 2` the whole server
does. A line on standard input sets the system's clock by so many seconds, as far as the reactor goes, or is `stop`, and
stops the server in good order.
"""

from __future__ import annotations

import json
import sys
import time
from threading import Thread
from typing import Any


def main(reactorName: str, options: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    if reactorName == "asyncio":
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
    elif reactorName != "default":
        __import__(f"twisted.internet.{reactorName}reactor", fromlist=["install"]).install()
    from twisted.internet import reactor

    from engineio_twisted import listen

    running: Any = reactor
    setBy = 0.0
    running.seconds = lambda: time.time() + setBy

    def say(*words: object) -> None:
        sys.stdout.write(" ".join(map(str, words)) + "\n")
        sys.stdout.flush()

    engine = options.pop("wsEngine", None)
    if engine == "twisted":
        from engineio_twisted.transports.engine_twisted import TwistedEngine

        options["wsEngine"] = TwistedEngine
    server = listen(options.pop("endpoint", "tcp:0:interface=127.0.0.1"), **options)

    @server.on("connection")
    def connection(socket: Any) -> None:
        @socket.on("message")
        def message(data: str) -> None:
            if data[:5] == "sleep":
                say("sleeping")
                time.sleep(float(data[6:]))
            elif data == "close":
                socket.close()
            else:
                say("message", len(data))

        socket.on("heartbeat", lambda: say("heartbeat"))
        socket.on("close", lambda reason, description: say("close", reason))

    def command(line: str) -> None:
        nonlocal setBy
        if line == "stop":
            server.close(drain=True).addCallback(lambda _: running.stop())
        else:
            setBy = float(line)
        say("done")

    def read() -> None:
        for line in sys.stdin:
            # In another thread, as the reactor may have nothing to wake it.
            if line.strip() == "stop":
                running.callFromThread(command, "stop")
            else:
                command(line.strip())

    # Not one of the reactor's own, which it would wait for.
    Thread(target=read, daemon=True).start()
    server.listening.addCallback(lambda port: say(port.getHost().port))
    running.run()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
