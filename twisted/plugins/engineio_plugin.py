"""
Make `twistd engineio` and the endpoints C{tls-files:}, C{engineio:} and, for workers, C{engineio-inherited:} known.

The code behind them is imported only when one is used.
"""

from typing import Any

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

engineio = ServiceMaker(
    "Engine.IO server",
    "engineio_twisted.operation.tap",
    "Serve Engine.IO sessions over HTTP long-polling and WebSocket.",
    "engineio",
)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _TLSFilesParser:
    prefix = "tls-files"

    def parseStreamServer(self, reactor: Any, *args: str, **keywords: str) -> Any:
        """Return the endpoint of a description."""
        try:
            from engineio_twisted.operation.tls import parse
        except ImportError as error:
            raise ValueError(f"needs the extra `tls` of engineio_twisted ({error})") from error
        return parse(reactor, *args, **keywords)


tlsFiles = _TLSFilesParser()


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class _SessionsParser:
    prefix = "engineio"

    def parseStreamServer(self, reactor: Any, *args: str, **keywords: str) -> Any:
        """Return the endpoint of a description."""
        from engineio_twisted.endpoints import parse

        return parse(reactor, *args, **keywords)

    def parseStreamClient(self, reactor: Any, *args: str, **keywords: str) -> Any:
        """Return the endpoint of a description for C{clientFromString}."""
        from engineio_twisted.operation.client_endpoint import parse

        return parse(reactor, *args, **keywords)


sessions = _SessionsParser()


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _InheritedParser:
    prefix = "engineio-inherited"

    def parseStreamServer(self, reactor: Any, *args: str, **keywords: str) -> Any:
        """Return the endpoint that a worker has in place of one of systemd's."""
        from engineio_twisted.workers.inherited import parse

        return parse(reactor, *args, **keywords)


inherited = _InheritedParser()
