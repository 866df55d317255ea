"""
Engine.IO beside Django, in one process: a session opens only for a user who is logged in to Django.

    pip install django
    python examples/embedding/django_app.py                              # port 3000, all interfaces
    python examples/embedding/django_app.py tcp:8080:interface=127.0.0.1 # any endpoint description of Twisted
"""

from __future__ import annotations

from typing import Any

from common import run
from django import setup
from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.web.wsgi import WSGIResource

from engineio_twisted import RequestRefused, Server, Site, Socket

# A project has these lines in settings.py, views.py and urls.py.
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only-for-this-example",  # noqa: S106
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
setup()


def login(request: HttpRequest) -> HttpResponse:
    request.session["name"] = request.GET["name"]
    return HttpResponse("logged in")


def sessions(_request: HttpRequest) -> HttpResponse:
    # A view runs in a thread. Reading this number needs none of the reactor's.
    return HttpResponse(f"{server.clientsCount} sessions are open")


urlpatterns = [path("login", login), path("sessions", sessions)]


def nameOf(key: str) -> str | None:
    """Return who is logged in with a session key of Django. It may ask a database, so it runs in a thread."""
    name: str | None = SessionStore(key).get("name")
    return name


async def allowRequest(request: Any) -> bool:
    cookie = request.getCookie(settings.SESSION_COOKIE_NAME.encode()) or b""
    request.user = await deferToThread(nameOf, cookie.decode("ascii", "replace"))
    if request.user is None:
        raise RequestRefused("log in first")
    return True


# "self": a browser sends the cookie of a visitor with WebSockets that pages of other origins open, too.
server = Server(allowRequest=allowRequest, allowedOrigins="self")


@server.on("connection")
def connected(socket: Socket) -> None:
    # What allowRequest has set, which twisted.web itself declares as bytes.
    user: Any = socket.request.user
    socket.on("message", lambda data: socket.send(f"{user}: {data!s}"))


async def start(reactor: Any, endpoint: str) -> Any:
    # The server gets the requests to /engine.io/, and Django all others.
    site = Site(WSGIResource(reactor, reactor.getThreadPool(), get_wsgi_application()))
    server.attach(site)
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    return await serverFromString(reactor, endpoint).listen(site)


if __name__ == "__main__":
    run(start)
