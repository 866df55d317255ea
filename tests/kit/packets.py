"""Packets for tests that any packet will do for."""

from __future__ import annotations

from hypothesis import strategies as st

from engineio_twisted.protocol.packet import PacketType


def inLines(text: str, end: str = "\n") -> str:
    """Break text into lines, with a break at the end too, as Android's encoder does."""
    return "".join(text[start : start + 76] + end for start in range(0, len(text), 76))


anyType = st.sampled_from(PacketType)
