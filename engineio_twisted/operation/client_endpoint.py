"""The description of a L{ClientSessionEndpoint}, as C{clientFromString} takes it. docs/protocols.md"""

from __future__ import annotations

from typing import Any

from ..client.endpoints import ClientSessionEndpoint
from ..client.options import ClientOptions
from .settings import describedSessions, optionsFromText


def parse(reactor: Any, *args: str, **keywords: str) -> ClientSessionEndpoint:
    r"""
    Return the endpoint of a description: C{engineio:https\://example.org/engine.io:transports=websocket}.

    @param args: the URL, with its colons escaped.
    @param keywords: options of the client, as text; entries of an option with a dot, such as C{query.token=secret}.
    @raise ValueError: there isn't one URL, or an option is wrong.
    """
    urls, isText, options = describedSessions(args, keywords)
    if len(urls) != 1:
        raise ValueError(r"expected engineio:https\://example.org, with the colons of the URL escaped")
    return ClientSessionEndpoint(urls[0], text=isText, reactor=reactor, **optionsFromText(options, ClientOptions))
