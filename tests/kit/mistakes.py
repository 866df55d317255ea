"""What somebody reads who has made a mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def messageOf(call: Callable[[], object], kind: type[Exception]) -> str:
    """Return the text of the exception that a call raises."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)
