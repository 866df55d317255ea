r"""
The service that knows the prices: AMP over sessions. The shop is its client.

    python examples/amp/stock.py                              # sessions on port 3000
    python examples/amp/stock.py 'engineio:tcp\:8080'         # any endpoint description of Twisted
"""

from __future__ import annotations

import sys
from typing import Any

from commands import GetPrice, Order, PriceChanged, UnknownItemError
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP


class Stock(AMP):
    """The stock's end of the session with one shop."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.shops.append(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.shops.remove(self)
        super().connectionLost(reason)

    @GetPrice.responder
    def getPrice(self, item: str) -> dict[str, int]:
        return {"cents": self.priceOf(item)}

    @Order.responder
    def order(self, item: str) -> dict[str, object]:
        """Sell one: the next one is dearer, for every shop."""
        cents = self.factory.prices[item] = self.priceOf(item) + 1
        for shop in self.factory.shops:
            told = shop.callRemote(PriceChanged, item=item, cents=cents)
            # A shop that is leaving does not answer, which matters to nobody.
            told.addErrback(lambda _: None)
        return {}

    def priceOf(self, item: str) -> int:
        if item not in self.factory.prices:
            raise UnknownItemError(item)
        cents: int = self.factory.prices[item]
        return cents


class StockFactory(Factory):
    """One stock for all shops."""

    protocol: Any = Stock
    noisy = False

    def __init__(self) -> None:
        self.prices = {"tea": 250, "coffee": 380}
        self.shops: list[Stock] = []


async def main(reactor: Any, endpoint: str = r"engineio:tcp\:3000") -> None:
    """Serve until Ctrl-C."""
    try:
        port = await serverFromString(reactor, endpoint).listen(StockFactory())
    except (ValueError, CannotListenError) as error:
        sys.exit(f"{endpoint}: {error}")
    reactor.addSystemEventTrigger("before", "shutdown", port.stopListening)
    address = port.getHost()
    print(f"Stock: http://127.0.0.1:{address.port}" if hasattr(address, "port") else endpoint, flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
