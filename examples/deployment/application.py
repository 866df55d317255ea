"""The application that the units start: every message comes back."""


def application(server):
    @server.on("connection")
    def connected(socket):
        socket.on("message", socket.send)
