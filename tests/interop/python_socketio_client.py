"""
Goes through a story with clients of python-socketio, and prints what their applications notice.

usage: python python_socketio_client.py <url> <serializer> < <clients, as JSON>

Each client is {name, client: Client or AsyncClient, transports}. What one notices is one JSON object on a line of its
own. The application is that of tests/kit/socketio_story.py.
"""

import asyncio
import faulthandler
import json
import queue
import sys
import threading
from functools import partial

import engine_client
import socketio

DEADLINE = 60


def pack(value):
    """Tell binary data as {"binary": its bytes}, as in socketio_story.mjs."""
    if isinstance(value, bytes):
        return {"binary": [*value]}
    if isinstance(value, list | tuple):
        return [pack(each) for each in value]
    return {key: pack(each) for key, each in value.items()} if isinstance(value, dict) else value


class EngineClient(engine_client.Client):
    """
    One that delivers messages in order, and lets their handlers wait for more.

    Otherwise each is delivered in a thread of its own, and attachments overtake their packets.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.messages = queue.Queue()
        # The program ends without it: when the server has closed a session, the client may wait half a minute.
        threading.Thread(target=self.deliver, daemon=True).start()

    def deliver(self):
        while True:
            handler, message = self.messages.get()
            handler(message)

    def start_background_task(self, target, *args, **kwargs):
        if target is self.handlers.get("message"):
            return self.messages.put((target, *args))
        return super().start_background_task(target, *args, **kwargs)


class Client(socketio.Client):
    """The client of threads."""

    def _engineio_client_class(self):
        return EngineClient


class AsyncClient(socketio.AsyncClient):
    """The client of asyncio."""

    def _engineio_client_class(self):
        return engine_client.AsyncClient


class Threaded:
    """What the story does with the client that blocks: its coroutines never wait."""

    def __init__(self, **options):
        self.client = Client(**options)
        self.queues = {}

    def queue(self):
        return queue.Queue()

    def hear(self, *events):
        """Remember events: `(name, namespace)`."""
        for event, namespace in events:
            came = self.queues[event, namespace] = self.queue()
            self.client.on(event, self.putter(came), namespace=namespace)

    def putter(self, came):
        return lambda *args: came.put(args)

    def answer(self, event, answer):
        self.client.on(event, answer)

    async def next(self, event, namespace="/"):
        return self.queues[event, namespace].get(timeout=DEADLINE)

    async def connect(self, url, **options):
        self.client.connect(url, wait_timeout=DEADLINE, **options)

    async def emit(self, *args, **options):
        self.client.emit(*args, **options)

    async def call(self, event, *args, namespace="/"):
        return self.client.call(event, args, namespace=namespace)

    async def disconnect(self):
        self.client.disconnect()


class Asynchronous(Threaded):
    """What the story does with the client of asyncio."""

    def __init__(self, **options):
        self.client = AsyncClient(**options)
        self.queues = {}

    def queue(self):
        return asyncio.Queue()

    def putter(self, came):
        return lambda *args: came.put_nowait(args)

    async def next(self, event, namespace="/"):
        return await self.queues[event, namespace].get()

    async def connect(self, url, **options):
        await self.client.connect(url, wait_timeout=DEADLINE, **options)

    async def emit(self, *args, **options):
        await self.client.emit(*args, **options)

    async def call(self, event, *args, namespace="/"):
        return await self.client.call(event, args, namespace=namespace)

    async def disconnect(self):
        await self.client.disconnect()


async def story(make, url, name, transports):
    """Return what the application noticed, by the name of what it did."""
    noticed = {}
    one = make()
    one.hear(*((event, "/") for event in ("echoed", "said", "disconnect")))
    one.hear(*(("hello", namespace) for namespace in ("/", "/admin", "/rooms/7")), ("disconnect", "/admin"))
    one.answer("question", lambda text, binary: (f"{text} yes", binary))
    await one.connect(url, transports=transports, auth={"token": "secret"}, namespaces=["/", "/admin", "/rooms/7"])
    noticed["transport"] = one.client.transport()
    hellos = [(await one.next("hello", each), each) for each in ("/", "/admin", "/rooms/7")]
    noticed["hello"] = [[sid == one.client.get_sid(each), *rest] for (sid, *rest), each in hellos]

    await one.emit("echo", (None, True, 0, -1.5, 'é € 😀 \u2028 \\ " \x00', "", {"a": [1, {"b": None}], "ä": {}}, []))
    noticed["values"] = pack(await one.next("echoed"))
    await one.emit("echo", (b"\x00\xff", {"deep": [b"", "text", {"er": b"\x01"}]}))
    noticed["binary"] = pack(await one.next("echoed"))
    noticed["answer"] = pack(await one.call("ask", 1, b"\x02", "three"))
    noticed["answerOfNothing"] = await one.call("nothing")
    noticed["answered"] = pack(await one.call("ask me", b"\x07\x08"))
    noticed["elsewhere"] = [await one.call("ask", each, namespace=each) for each in ("/admin", "/rooms/7")]

    for number in range(14):
        await one.emit("ask", (number if number % 3 else bytes([number]), number))
    noticed["heard"] = await one.call("heard")

    other = make()
    other.hear(("hello", "/"), ("said", "/"), ("disconnect", "/"))
    await other.connect(url, transports=transports)
    for each in (one, other):
        await each.call("join", name)
    await one.emit("say", (name, "hi", b"\x01\x02"))
    noticed["said"] = pack(await other.next("said"))
    await one.call("ask")
    noticed["saidToSpeaker"] = one.queues["said", "/"].qsize()
    await other.emit("end my session")
    # One thread is told that the namespace has ended, and another that the connection has.
    noticed["ended"] = (await other.next("disconnect"))[0] in ("server disconnect", "transport error")

    refused = make()
    refused.hear(("connect_error", "/admin"))
    try:
        await refused.connect(url, transports=transports, auth={"token": "wrong"}, namespaces=["/admin"])
    except socketio.exceptions.ConnectionError:
        noticed["refused"] = await refused.next("connect_error", "/admin")

    await one.emit("throw me out", namespace="/admin")
    noticed["thrownOut"] = [*await one.next("disconnect", "/admin"), await one.call("ask", "still here")]
    await one.disconnect()
    noticed["left"] = await one.next("disconnect")
    return noticed


def tell(name, noticed):
    print(json.dumps({"event": "noticed", "name": name, "noticed": noticed}), flush=True)  # noqa: T201 (what it is for)


def withoutLoop(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


async def together(url, clients, make):
    async def run(name, transports):
        tell(name, await story(make, url, name, transports))

    await asyncio.gather(*(run(each["name"], each["transports"]) for each in clients))


def main(url, serializer):
    clients = json.load(sys.stdin)
    asynchronous, threaded = (
        partial(kind, serializer=serializer, reconnection=False) for kind in (Asynchronous, Threaded)
    )
    asyncio.run(together(url, [each for each in clients if each["client"] == "AsyncClient"], asynchronous))
    for each in clients:
        if each["client"] == "Client":
            tell(each["name"], withoutLoop(story(threaded, url, each["name"], each["transports"])))


# Shows where every thread is, and exits with 1.
faulthandler.dump_traceback_later(DEADLINE, exit=True)
main(sys.argv[1], sys.argv[2])
