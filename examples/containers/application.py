"""The application of the image: every message goes to every client."""

from engineio_twisted import Server, Socket


def application(server: Server) -> None:
    """Pass each message on to all clients."""

    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.on("message", server.broadcast)
