"""
Drives python-engineio's client through one scenario, and prints what its application notices.

usage: python python_client.py <url> <scenario> <transports, as JSON> < <input, as JSON>

Every event is one JSON object on a line of its own; the tests assert on those.
"""

import faulthandler
import json
import os
import sys
import threading
from base64 import b64decode, b64encode

from engine_client import Client

DEADLINE = 60


def report(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)  # noqa: T201 (what it is for)


def unpack(message):
    return b64decode(message["binary"]) if "binary" in message else message["text"]


def pack(data):
    return {"binary": b64encode(data).decode("ascii")} if isinstance(data, bytes) else {"text": data}


def main(url, scenario, transports):
    given = json.load(sys.stdin)
    messages = [unpack(message) for message in given.get("messages", ())]
    missing = len(messages)
    complete = threading.Event()
    gone = threading.Event()
    client = Client()

    @client.on("connect")
    def connected():
        report("connect", transport=client.transport())

    @client.on("message")
    def received(data):
        nonlocal missing
        report("message", **pack(data))
        missing -= 1
        if not missing:
            complete.set()

    @client.on("disconnect")
    def disconnected(reason):
        report("disconnect", reason=reason)
        if scenario == "echo" and reason != client.reason.CLIENT_DISCONNECT:
            # Not by an exception: this is not the main thread, which may wait for what can't come any more.
            sys.stderr.write(f"the connection was lost ({reason}), {missing} messages had not come\n")
            sys.stderr.flush()
            os._exit(1)
        gone.set()

    # Includes the upgrade, where there is one.
    client.connect(url, transports=transports)
    report("connected", sid=client.sid, transport=client.transport())
    for message in messages:
        client.send(message)
    if scenario == "echo":
        # Leaves when as many messages have come back. input: {messages}
        complete.wait()
        client.disconnect()
    elif scenario == "listen":
        # Stays until the server closes. input: {messages}
        # Not client.wait(): after a close by the server, that may wait for a thread that only a timeout ends.
        gone.wait()
    else:
        sys.exit(f"no such scenario: {scenario}")


# Shows where every thread is, and exits with 1.
faulthandler.dump_traceback_later(DEADLINE, exit=True)
main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
