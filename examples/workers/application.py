"""A server in several processes, whose sessions talk to each other."""

from engineio_twisted import Server, Socket


def application(server: Server) -> None:
    slot = server.workers.slot if server.workers else 0
    print(f"set up in slot {slot}")

    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.send(f"you are {socket.id}, in slot {slot}")

        @socket.on("message")
        async def message(text: str | bytes) -> None:
            if isinstance(text, str) and text.startswith("to "):
                _, sid, rest = text.split(" ", 2)
                isSent = await server.sendTo(sid, rest)
                socket.send("sent" if isSent else "there is no such session")
            else:
                server.broadcast(text)  # to the sessions of all workers
