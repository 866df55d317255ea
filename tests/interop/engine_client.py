"""python-engineio's clients without races of their own, which are none of the server's business."""

import queue
import ssl
import threading
from select import select

import engineio
import websocket


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
    """The client, whose WebSockets need no option."""

    def __init__(self, **options):
        super().__init__(**{"websocket_extra_options": {"class_": WebSocket}, **options})

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


class AsyncClient(engineio.AsyncClient):
    """The client of asyncio."""

    async def disconnect(self, abort=False, reason=None):
        # As above.
        if self.state == "connected" and not abort:
            await self.queue.join()
        await super().disconnect(abort, reason)
