"""
The way in through twisted.web: a resource, and the capture of a path on a site.

docs/architecture/requests.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.web import resource
from twisted.web.server import NOT_DONE_YET, Request

from ..interfaces import IEngineServer
from ..logs import SocketIONotice
from ..protocol.handshake import asksForWebSocket
from .exchange import RequestExchange
from .mounting import engineServerOf


def isUpgrade(request: Request) -> bool:
    """Return whether a request asks for a WebSocket."""
    headers = request.requestHeaders
    upgrade = headers.getRawHeaders(b"upgrade")
    if upgrade is None or request.clientproto == b"HTTP/1.0":
        return False
    return asksForWebSocket(upgrade, headers.getRawHeaders(b"connection", ()))


class EngineIOResource(resource.Resource):
    """
    Engine.IO as a resource: C{root.putChild(b"engine.io", EngineIOResource(server))}.

    It serves the path it is put at with and without a slash at its end, and everything below.

    @param server: the L{Server} that opens and holds the sessions, or a layer on one that adapts to what it provides.
    @raise TypeError: it isn't a server.
    """

    isLeaf = True

    def __init__(self, server: Any) -> None:
        super().__init__()
        self.engineServer: IEngineServer = engineServerOf(server)

    def render(self, request: Request) -> int:
        """Hand a request to the server, which answers it now or later."""
        exchange = RequestExchange(request)
        # A stream of HTTP/2 may be over, which its request is about to be told.
        if not exchange.isAnswered:
            self.engineServer.handle(exchange, isUpgrade(request))
        return NOT_DONE_YET


class CapturedPath(resource.Resource):
    """
    The root of a site on which a server was attached: one path is the server's, the rest is what the site had.

    @param server: the server.
    @param path: the path, without a slash at its end.
    @param below: whether what is below the path is the server's too.
    @param rest: the resource that was the site's root before.
    @param foreignUpgrade: called with each request for a WebSocket that is for no server attached.
    @param socketIONotice: what notes requests to C{/socket.io/} that are for none.
    """

    def __init__(
        self,
        server: IEngineServer,
        path: str,
        below: bool,
        rest: resource.IResource,
        foreignUpgrade: Callable[[Request], None],
        socketIONotice: SocketIONotice,
    ) -> None:
        super().__init__()
        self.engineServer = server
        self.rest = rest
        whole = self._path = path.encode("ascii")
        self._exactly = {whole, whole + b"/"}
        # What the paths below it begin with; nothing begins with a blank.
        self._below = whole + b"/" if below else b" "
        self._foreignUpgrade = foreignUpgrade
        self._socketIONotice = socketIONotice
        self._engineIO = EngineIOResource(server)

    def getChildWithDefault(self, name: bytes, request: Request) -> resource.IResource:
        last, isCaptured = follow(self, request.path)
        if isCaptured:
            return last._engineIO
        if isUpgrade(request):
            last._foreignUpgrade(request)
        if name == b"socket.io":
            self._noteSocketIO(request)
        if last.rest.isLeaf:
            # It is to see the whole path, as if it were asked itself.
            path: Any = request
            path.prepath.pop()
            path.postpath.insert(0, name)
            return last.rest
        child: resource.IResource = last.rest.getChildWithDefault(name, request)
        return child

    def _noteSocketIO(self, request: Request) -> None:
        bound = None
        each: Any = self
        while isinstance(each, CapturedPath):
            if each._socketIONotice.isBound:
                bound = each._path.decode("ascii")
            each = each.rest
        if bound != "/socket.io":
            self._socketIONotice.requested(request, bound)

    def hides(self) -> str | None:
        """Return the path of another server that gets no request any more because of this one, unless it is closed."""
        each = self.rest
        while isinstance(each, CapturedPath):
            isHidden = each._path in self._exactly or each._path.startswith(self._below)
            if isHidden and each.engineServer is not self.engineServer and not each.engineServer.isClosing:
                return each._path.decode("ascii")
            each = each.rest
        return None

    def putChild(self, path: bytes, child: resource.IResource) -> None:
        """Add a resource to what the site had."""
        self.rest.putChild(path, child)


def follow(root: CapturedPath, path: bytes) -> tuple[CapturedPath, bool]:
    """
    Follow the captured paths of a site, of which the last one attached comes first.

    @return: the one that captures a path, and True; the last one and False if none does.
    """
    while path not in root._exactly and not path.startswith(root._below):
        if not isinstance(root.rest, CapturedPath):
            return root, False
        root = root.rest
    return root, True


def serverAt(root: object, path: bytes) -> IEngineServer | None:
    """
    Return the server that will get the requests for a path, if that can be told without asking any resource.

    Only captured paths and resources that were put are followed; those that a resource would make on demand aren't.
    """
    segments = [unquote_to_bytes(each) for each in path.split(b"/")[1:]]
    while True:
        if isinstance(root, EngineIOResource):
            return root.engineServer
        if isinstance(root, CapturedPath):
            last, isCaptured = follow(root, path)
            if isCaptured:
                return last.engineServer
            root = last.rest
        elif isinstance(root, resource.Resource) and segments:
            root = root.children.get(segments.pop(0))
        else:
            return None
