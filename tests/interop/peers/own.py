"""Our server, for the tests of our client beside those of others: `python own.py PORT`. It does what node.mjs does."""

import json
import sys

from twisted.internet import reactor

from engineio_twisted import PacketType, RequestRefused, listen


def report(event, **details):
    print(json.dumps({"event": event, **details}), flush=True)  # noqa: T201 (what it is for)


def queryOf(request):
    return {name.decode(): values[0].decode() for name, values in request.args.items()}


def allowRequest(request):
    if "refuse" in queryOf(request):
        raise RequestRefused("not today")
    return True


server = listen(
    f"tcp:{sys.argv[1]}:interface=127.0.0.1",
    pingInterval=1000,
    pingTimeout=20_000,
    cookie={"name": "peer"},
    perMessageDeflate={"threshold": 0},
    allowEIO3=True,
    allowRequest=allowRequest,
)


def close(socket):
    socket.send("goodbye")
    socket.close()


def count(socket, number):
    for each in range(int(number)):
        text = f"server {each}"
        socket.send(text if each % 3 else text.encode())


def transport(socket):
    socket.send(socket.transport.name)


COMMANDS = {"close": close, "count": count, "transport": transport}


def isMessage(packet):
    return packet.type == PacketType.MESSAGE


@server.on("connection")
def connected(socket):
    sid = socket.id
    report("open", sid=sid, transport=socket.transport.name, query=queryOf(socket.request))
    socket.on("upgrade", lambda transport: report("upgrade", sid=sid, transport=transport.name))
    socket.on("packet", lambda packet: isMessage(packet) or report("packet", sid=sid, type=packet.type.name.lower()))
    socket.on("close", lambda reason, description: report("close", sid=sid, reason=reason))

    @socket.on("message")
    def message(data):
        if isinstance(data, str) and data.startswith("!"):
            name, *given = data[1:].split(" ")
            COMMANDS[name](socket, *given)
        else:
            socket.send(data)


@server.use
def seen(request):
    headers = {name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
    report("request", method=request.method.decode(), headers=headers, query=queryOf(request))


@server.listening.addCallback
def listening(port):
    report("listening", port=port.getHost().port)
    return port


reactor.run()
