"""The page of memory that workers share."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest import mock

import pytest

from engineio_twisted.workers.page import ROW, SPARE_DESCRIPTORS, RowState, SharedPage, isShortOfDescriptors


def aPage(rows: int = 4) -> SharedPage:
    return SharedPage(bytearray(SharedPage.sizeOf(rows)), rows)


def test_eachNumberHasAPlaceOfItsOwn() -> None:
    """What is written to one number of one row changes no other."""
    page = aPage()
    names = ["number", "state", "sessions", "pending", "takesConnections", "lastTurn", "received"]
    values = {}
    for row in page:
        for at, name in enumerate(names):
            values[row.index, name] = 10**18 + 100 * row.index + at
            setattr(row, name, values[row.index, name])
    assert {(row.index, name): getattr(row, name) for row in page for name in names} == values
    assert [row.slot for row in page] == [0, 0, 1, 1]


def test_rowsAreLinesOfTheCache() -> None:
    """A row takes 64 bytes, and begins at a multiple of that."""
    buffer = bytearray(SharedPage.sizeOf(2))
    page = SharedPage(buffer, 2)
    page.row(1).number = 7
    assert buffer.index((7).to_bytes(8, sys.byteorder)) == ROW == 64


@pytest.mark.parametrize(("size", "rows"), [(0, 0), (64, 0), (63, 1), (71, 1), (159, 2)])
def test_noPage(size: int, rows: int) -> None:
    """A page has at least one row, and memory for each."""
    with pytest.raises(ValueError, match="no page"):
        SharedPage(bytearray(size), rows)


def test_aSlotHasAnOldAndANewWorker() -> None:
    """During a reload both workers of a slot have a row; the row of one that is gone is free again."""
    page = aPage()
    old, new = page.claim(1, 2), page.claim(1, 3)
    assert {old.index, new.index} == {2, 3}
    assert (page.rowOf(2), page.rowOf(3), page.rowOf(4)) == (old, new, None)
    with pytest.raises(LookupError, match="slot 1"):
        page.claim(1, 4)
    old.sessions, old.state = 5, RowState.DRAINING
    old.clear()
    assert page.rowOf(2) is None
    again = page.claim(1, 4)
    assert (again.index, again.number, again.sessions, again.state) == (old.index, 4, 0, RowState.FREE)


def test_whoIsReady() -> None:
    """A worker that starts or drains is given nothing."""
    row = aPage().claim(0, 1)
    ready = {}
    for state in RowState:
        row.state = state
        ready[state] = row.isReady
    assert ready == {state: state is RowState.READY for state in RowState}


def test_anotherProcessSeesIt() -> None:
    """A worker writes to its row of the inherited page, and the parent reads it."""
    page, descriptor = SharedPage.create(2)
    try:
        assert not os.get_inheritable(descriptor)
        page.row(0).number = 1
        child = (
            "import sys\n"
            "from engineio_twisted.workers.page import SharedPage\n"
            f"page = SharedPage.open({descriptor}, 2)\n"
            "row = page.rowOf(1)\n"
            "row.sessions, row.lastTurn = 12, 2**62\n"
        )
        subprocess.run([sys.executable, "-c", child], pass_fds=[descriptor], check=True, timeout=60)
        assert (page.row(0).sessions, page.row(0).lastTurn) == (12, 2**62)
    finally:
        page.close()
        os.close(descriptor)


def test_aPageIsClosed() -> None:
    """Neither making a page nor opening it leaves a descriptor behind once it is closed."""
    before = os.listdir("/proc/self/fd")
    page, descriptor = SharedPage.create(2)
    second = SharedPage.open(descriptor, 2)
    with pytest.raises(ValueError, match="mmap"):
        SharedPage.open(descriptor, 200)
    second.row(1).pending = 3
    assert page.row(1).pending == 3
    page.close()
    second.close()
    os.close(descriptor)
    assert os.listdir("/proc/self/fd") == before


@contextmanager
def limitOfDescriptors(limit: int) -> Iterator[None]:
    """Let this process have so many descriptors."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.mark.parametrize("isCounted", [True, False])
def test_shortOfDescriptors(isCounted: bool) -> None:
    """A worker that has opened nearly as many files as it may says so, whether or not the system counts them."""
    opened = []
    size = mock.patch("os.stat", return_value=mock.Mock(st_size=0))
    with limitOfDescriptors(300):
        if not isCounted:
            size.start()
        try:
            while not isShortOfDescriptors():
                opened.append(os.dup(0))
            assert 0 <= SPARE_DESCRIPTORS - spare() <= 1
            os.close(opened.pop())
            os.close(opened.pop())
            assert not isShortOfDescriptors()
        finally:
            if not isCounted:
                size.stop()
            for each in opened:
                os.close(each)


def test_noDescriptorToCountThem() -> None:
    """On a system that doesn't say the count, a full table leaves none to count them by: no connection is taken."""
    with (
        mock.patch("os.stat", return_value=mock.Mock(st_size=0)),
        mock.patch("os.listdir", side_effect=OSError(24, "Too many open files")),
    ):
        assert isShortOfDescriptors()


def spare() -> int:
    """Return how many more descriptors this process gets."""
    more = []
    with suppress(OSError):
        while True:
            more.append(os.dup(0))
    for each in more:
        os.close(each)
    return len(more)


def test_noLimitOfDescriptors() -> None:
    """Without a limit there is always room."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with mock.patch("resource.getrlimit", return_value=unlimited):
        assert not isShortOfDescriptors()


def test_handshakesUnderWay() -> None:
    """What each worker has passed on to each other one is counted apart; a worker that is gone leaves the counts."""
    page = aPage()
    for sender in (0, 1, 1, 3):
        page.passOn(page.row(sender), page.row(2))
    page.passOn(page.row(2), page.row(0))
    assert [page.passedTo(row) for row in page] == [1, 0, 4, 0]
    page.row(2).received = 3
    page.row(2).clear()
    page.row(1).clear()
    assert (page.passedTo(page.row(2)), page.row(2).received) == (4, 3)
