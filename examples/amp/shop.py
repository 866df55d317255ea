"""
The service that sells: it asks the stock for a price, sells one, and hears of changes. It reconnects by itself.

    python examples/amp/shop.py                                      # sells tea of the stock at http://127.0.0.1:3000
    python examples/amp/shop.py coffee http://127.0.0.1:8080         # sells something else, of another one
"""

from __future__ import annotations

import sys
from typing import Any

from commands import GetPrice, Order, PriceChanged, UnknownItemError
from twisted.application.internet import ClientService
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP

from engineio_twisted import OptionError
from engineio_twisted.client import ClientSessionEndpoint, ConnectionFailed


class Shop(AMP):
    """The shop's end of the session with the stock."""

    @PriceChanged.responder
    def priceChanged(self, item: str, cents: int) -> dict[str, object]:
        print(f"Shop: {item} costs {cents} now", flush=True)
        return {}


async def main(reactor: Any, item: str = "tea", url: str = "http://127.0.0.1:3000") -> None:
    """Sell until Ctrl-C."""

    async def connected(stock: Any) -> None:
        # With each connection, also with one after a loss: it is another session.
        answer = await stock.callRemote(GetPrice, item=item)
        print(f"Shop: {item} costs {answer['cents']} at {url}", flush=True)
        await stock.callRemote(Order, item=item)

    try:
        endpoint = ClientSessionEndpoint(url, reactor=reactor)
    except OptionError as error:
        sys.exit(str(error))
    factory = Factory.forProtocol(Shop)
    factory.noisy = False
    service = ClientService(endpoint, factory, prepareConnection=lambda shop: Deferred.fromCoroutine(connected(shop)))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    try:
        # A stock that was never there is a mistake. One that goes away later is waited for.
        await service.whenConnected(failAfterFailures=1)
    except ConnectionFailed as failure:
        sys.exit(f"{url}: {failure.type}: {failure}")
    except UnknownItemError:
        sys.exit(f"{item}: the stock has no such item")
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
