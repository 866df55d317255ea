"""
What the workers of one parent tell each other at every moment: a page of memory with a row for each.

docs/architecture/workers.md, "The shared page".
"""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from typing import Any

ROW = 64
"""Bytes of a row: one line of the processor's cache, so that no worker's stores slow down another's."""

_FIELDS = 8

SPARE_DESCRIPTORS = 64
"""Descriptors that a worker has left when it takes no connections of others any more."""


class RowState(IntEnum):
    """What the worker of a row does. Only one that is ready is given anything."""

    FREE = 0
    STARTING = 1
    READY = 2
    DRAINING = 3


class _Field:
    """A number of a row: eight bytes, which are read and written at once."""

    def __init__(self, index: int, doc: str) -> None:
        self._index = index
        self.__doc__ = doc

    def __get__(self, row: Row, owner: type[Row]) -> int:
        return row.cells[self._index]

    def __set__(self, row: Row, value: int) -> None:
        row.cells[self._index] = value


class Row:
    """
    One worker's row.

    Each number has one writer: the worker, except C{number}, which the parent writes before the worker is there and
    after it is gone. What is read may be a moment old.

    @param cells: the eight numbers of the row.
    @param index: which row it is.
    """

    __slots__ = ("cells", "index")

    number = _Field(0, "The number of the worker; 0 if the row is free.")
    state = _Field(1, "A L{RowState}.")
    sessions = _Field(2, "Sessions of the worker.")
    pending = _Field(3, "Handshakes that it decides about.")
    takesConnections = _Field(4, "1 if connections may be moved to it.")
    lastTurn = _Field(5, "When its event loop ran last, in nanoseconds of the monotonic clock.")
    received = _Field(6, "Handshakes that other workers have passed on to workers of this row, and that have come.")

    def __init__(self, cells: memoryview, index: int) -> None:
        self.cells = cells
        self.index = index

    @property
    def slot(self) -> int:
        """The slot of its worker."""
        return self.index // 2

    @property
    def isReady(self) -> bool:
        """Whether its worker may be given sessions and connections."""
        return self.state == RowState.READY

    def clear(self) -> None:
        """Make the row a free one. Only the parent does, when the worker is gone."""
        # The number last: until then the row is the gone worker's, which takes nothing.
        for index in reversed(range(_FIELDS - 2)):
            self.cells[index] = 0


class SharedPage:
    """
    A page of memory that the parent makes and every worker has, with two rows for each slot: a reload has an old and
    a new worker in each.

    Behind the rows each worker counts how many handshakes it has passed on to each other one. These counts and
    C{received} only grow, also when a worker is replaced.

    @param buffer: writable memory, of L{sizeOf} bytes.
    @param rows: how many rows it has.
    @raise ValueError: the buffer is smaller than that.
    """

    def __init__(self, buffer: Any, rows: int) -> None:
        if rows < 1 or len(buffer) < self.sizeOf(rows):
            raise ValueError(f"{len(buffer)} bytes are no page of {rows} rows")
        self._buffer = buffer
        self._cells = memoryview(buffer).cast("B")[: self.sizeOf(rows)].cast("q")
        self._rows = [Row(self._cells[at * _FIELDS : (at + 1) * _FIELDS], at) for at in range(rows)]
        # For each row, what was passed on to it by each.
        ends = [rows * (_FIELDS + at) for at in range(rows + 1)]
        self._passed = [self._cells[begin:end] for begin, end in pairwise(ends)]

    @staticmethod
    def sizeOf(rows: int) -> int:
        """Return the bytes of a page with so many rows."""
        return rows * ROW + rows * rows * 8

    @classmethod
    def create(cls, rows: int) -> tuple[SharedPage, int]:
        """
        Make an empty page.

        @param rows: two for each slot.
        @return: the page, and a descriptor of its memory for workers to inherit, which is the caller's to close.
        """
        descriptor = os.memfd_create("engineio-workers", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, cls.sizeOf(rows))
            return cls.open(descriptor, rows), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def open(cls, descriptor: int, rows: int) -> SharedPage:
        """
        Return the page of an inherited descriptor, which may be closed after this.

        @param descriptor: as L{create} returned it.
        @param rows: the same as there.
        @raise ValueError: the memory is smaller than that.
        """
        return cls(mmap.mmap(descriptor, cls.sizeOf(rows)), rows)

    def close(self) -> None:
        """Give the memory back. No row may be used after this."""
        for cells in [*[row.cells for row in self._rows], *self._passed]:
            cells.release()
        self._cells.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def row(self, index: int) -> Row:
        """
        Return a row.

        @param index: from 0, as C{index} of the row.
        """
        return self._rows[index]

    def rowOf(self, number: int) -> Row | None:
        """
        Return the row of a worker; None if no row has its number.

        @param number: the worker's number.
        """
        return next((row for row in self._rows if row.number == number), None)

    def passOn(self, sender: Row, receiver: Row) -> None:
        """
        Count a handshake that is passed on.

        @param sender: the row of the worker that passes it on, which calls this.
        @param receiver: the row of the worker that gets it.
        """
        self._passed[receiver.index][sender.index] += 1

    def passedTo(self, receiver: Row) -> int:
        """Return how many handshakes were passed on to workers of a row."""
        return sum(self._passed[receiver.index])

    def claim(self, slot: int, number: int) -> Row:
        """
        Give one of the two rows of a slot to a worker that is about to start. Only the parent does.

        @param slot: the slot of the worker.
        @param number: the number of the worker.
        @raise LookupError: two workers of the slot have not ended yet.
        """
        for row in self._rows[2 * slot : 2 * slot + 2]:
            if not row.number:
                row.clear()
                row.number = number
                return row
        raise LookupError(f"slot {slot} has two workers that have not ended")


def isShortOfDescriptors() -> bool:
    """
    Return whether this process is within L{SPARE_DESCRIPTORS} of its limit of open file descriptors.

    A full table loses the descriptor of a connection that another worker moves here, and the connection with it.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    try:
        # The size is the count since Linux 6.2, and 0 before.
        count = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        # There is none left to read the folder by.
        return True
    return count > limit - SPARE_DESCRIPTORS
