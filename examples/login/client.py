"""
A client with an agent and a cookie jar of its application: treq logs in, and the session has the cookie.

    python examples/login/client.py                                  # as Ada, at http://127.0.0.1:3000
    python examples/login/client.py http://127.0.0.1:8080 Grace
"""

from __future__ import annotations

import sys
from http.cookiejar import CookieJar
from typing import Any

from treq.client import HTTPClient
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool

from engineio_twisted.client import Client, ConnectionFailed

PASSWORD = "open sesame"  # noqa: S105 (no secret)


async def main(reactor: Any, url: str = "http://127.0.0.1:3000", name: str = "Ada") -> None:
    """Log in, open a session, and print the first message."""
    pool = HTTPConnectionPool(reactor)
    # A request of polling must not be sent twice: it would lose messages, or double them.
    pool.retryAutomatically = False
    agent = Agent(reactor, pool=pool)
    jar: Any = CookieJar()
    web = HTTPClient(agent, cookiejar=jar)
    response = await web.post(f"{url}/login", data={"name": name, "password": PASSWORD})
    if response.code != 200:
        sys.exit((await response.text()).strip())
    # The agent sends the requests of polling, and the jar has the cookie for WebSocket too.
    client = Client(url, reactor=reactor, agent=agent, withCredentials=jar)
    greeting: Deferred[str | bytes] = Deferred()
    client.once("message", greeting.callback)
    try:
        await client.connect()
        print("Client:", await greeting)
    except ConnectionFailed as failure:
        sys.exit(f"{failure.type}: {failure}")
    finally:
        await client.close()
        await pool.closeCachedConnections()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
