"""
A server whose sessions are for those who have logged in, by a cookie.

    python examples/login/server.py                           # port 3000
    python examples/login/server.py tcp:8080                  # any endpoint description of Twisted
"""

from __future__ import annotations

import secrets
import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.resource import Resource

from engineio_twisted import RequestRefused, Site, Socket, attach


class Login(Resource):
    """Takes a name and a password, and answers with a cookie."""

    PASSWORD = b"open sesame"

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[bytes, str] = {}

    def render_POST(self, request: Any) -> bytes:
        (name,), (password,) = request.args.get(b"name", [b""]), request.args.get(b"password", [b""])
        if not name or not secrets.compare_digest(password, self.PASSWORD):
            request.setResponseCode(403)
            return b"wrong name or password\n"
        token = secrets.token_urlsafe(16).encode()
        self.users[token] = name.decode("utf-8", "replace")
        request.addCookie(b"login", token, path=b"/", httpOnly=True, sameSite=b"lax")
        return b"welcome\n"

    def allowRequest(self, request: Any) -> bool:
        """Return whether a session may be opened."""
        request.user = self.users.get(request.getCookie(b"login") or b"")
        if request.user is None:
            raise RequestRefused("log in first")
        return True


async def main(reactor: Any, endpoint: str = "tcp:3000") -> None:
    """Serve until Ctrl-C."""
    root, login = Resource(), Login()
    root.putChild(b"login", login)
    # The form of the login is read as one.
    site = Site(root, parsePOSTFormSubmission=True)
    server = attach(site, reactor=reactor, allowRequest=login.allowRequest, allowedOrigins="self")

    @server.on("connection")
    def connected(socket: Socket) -> None:
        user: Any = socket.request
        socket.send(f"hello, {user.user}")

    try:
        port = await serverFromString(reactor, endpoint).listen(site)
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    address = port.getHost()
    print(f"Login: http://127.0.0.1:{address.port}" if hasattr(address, "port") else endpoint, flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
