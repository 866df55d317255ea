"""The application of the units: an echo."""

from engineio_twisted import Server, Socket


def application(server: Server) -> None:
    @server.on("connection")
    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)
