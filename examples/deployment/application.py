"""The application of the units: an echo."""


def application(server):
    @server.on("connection")
    def connected(socket):
        socket.on("message", socket.send)
