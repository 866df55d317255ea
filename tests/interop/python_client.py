"""
Drives python-engineio's client through one scenario, and prints what its application notices.

usage: python python_client.py <url> <scenario> <transports, as JSON> < <input, as JSON>

Every event is one JSON object on a line of its own; the tests assert on those.
"""

import faulthandler
import json
import os
import queue
import ssl
import sys
import threading
from base64 import b64decode, b64encode
from select import select

import engineio
import websocket

DEADLINE = 60


class Queue(queue.Queue):
    """What the client still has to send, which tells whether the thread that sends is waiting for more."""

    def __init__(self):
        super().__init__()
        self.waiting = threading.Event()

    def get(self, block=True, timeout=None):
        if not block:
            return super().get(block=False)
        self.waiting.set()
        try:
            return super().get(timeout=timeout)
        finally:
            self.waiting.clear()


class WebSocket(websocket.WebSocket):
    """A WebSocket on which, over TLS, one thread at a time reads or writes; while it waits, it is another's turn."""

    def __init__(self, **options):
        self.turn = threading.Lock()
        super().__init__(**options)

    def settimeout(self, timeout):
        super().settimeout(timeout)
        if self.is_ssl():
            self.sock.settimeout(0)

    def _recv(self, size):
        return self._inTurn(super()._recv, size)

    def _send(self, data):
        return self._inTurn(super()._send, data)

    def _inTurn(self, call, argument):
        if not self.is_ssl():
            return call(argument)
        # Python lets two threads into the state that OpenSSL has of a connection. The one that finds nothing to read
        # just when the other begins to write is then told that the connection has ended.
        sock = self.sock
        while True:
            try:
                with self.turn:
                    return call(argument)
            except ssl.SSLWantReadError:
                isReady = any(select([sock], [], [], self.timeout))
            except ssl.SSLWantWriteError:
                isReady = any(select([], [sock], [], self.timeout))
            if not isReady:
                raise websocket.WebSocketTimeoutException(f"waited {self.timeout} s for the server")


class Client(engineio.Client):
    """The client, without races of its own, which are none of the server's business."""

    def create_queue(self):
        return Queue()

    def disconnect(self, *args, **kwargs):
        # A close packet that is queued while the client still waits for the answer to a POST is never sent.
        if self.state == "connected" and threading.current_thread() is threading.main_thread():
            self.queue.join()
            self.queue.waiting.wait()
        super().disconnect(*args, **kwargs)

    def start_background_task(self, target, *args, **kwargs):
        # Each message is handled in a thread of its own, and they overtake each other.
        if target is self.handlers.get("message"):
            return target(*args, **kwargs)
        return super().start_background_task(target, *args, **kwargs)


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
    client = Client(websocket_extra_options={"class_": WebSocket})

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
