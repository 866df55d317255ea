"""Addresses of connections, to what frames hold and back."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from .frames import Address


def asTuple(address: Any) -> Address:
    """Return an C{IAddress} as frames hold it; one of another kind is a UNIX address without a name."""
    if isinstance(address, IPv4Address):
        return "TCP", address.host, address.port
    if isinstance(address, IPv6Address):
        return "TCP6", address.host, address.port
    name = getattr(address, "name", None)
    return "UNIX", os.fsdecode(name) if name else None


@lru_cache(1024)
def asAddress(held: Address) -> Any:
    """
    Return the C{IAddress} that L{asTuple} was given.

    @raise ValueError: it is none.
    """
    try:
        kind, *rest = held
        if kind == "UNIX":
            (name,) = rest
            return UNIXAddress(None if name is None else os.fsencode(name))
        host, port = rest
        return (IPv6Address if kind == "TCP6" else IPv4Address)("TCP", host, port)
    except (TypeError, ValueError) as error:
        raise ValueError("an address that is none") from error
