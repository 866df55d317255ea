"""
An echo server in a process of its own, for the tests that stop a server in its tracks.

usage: python server.py <options of the server, as JSON>

It prints the port it listens on as a JSON object, and serves until it is ended.
"""

import json
import sys

from twisted.internet import reactor

from engineio_twisted import listen

server = listen("tcp:0:interface=127.0.0.1", **json.loads(sys.argv[1]))


@server.on("connection")
def connected(socket):
    socket.on("message", socket.send)


@server.listening.addCallback
def listening(port):
    print(json.dumps({"event": "listening", "port": port.getHost().port}), flush=True)  # noqa: T201 (what it is for)
    return port


reactor.run()
