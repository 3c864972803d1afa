"""A Parquet part as its decoder reads it: from pieces that are fetched ahead of it by other threads.

What is asked for outside of them is read directly, so a plan that does not fit costs time and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import TracebackType

import pyarrow as pa

from flight_server.results.ahead import result
from flight_server.results.pieces import Group, Lane

# What Parquet's own readers fetch first. Most footers fit, and small parts do as a whole.
_TAIL_BYTES = 64 << 10


@dataclass(eq=False, slots=True)
class _Fetched:
    """A lane and its pieces that are there or on their way, by number."""

    lane: Lane
    pieces: dict[int, Future[pa.Buffer]] = field(default_factory=dict)
    used: int = 0

    def at(self, number: int) -> tuple[int, int]:
        start = self.lane.start + number * self.lane.piece
        return start, min(start + self.lane.piece, self.lane.stop)


class Source:
    """A readable file for Parquet, over `file`. One thread at a time."""

    def __init__(self, file: pa.NativeFile, fetchers: Executor, cancelled: threading.Event) -> None:
        self._file = file
        self._fetchers = fetchers
        self._cancelled = cancelled
        self.size = int(file.size())
        self._tail_at = max(0, self.size - _TAIL_BYTES)
        self._tail: pa.Buffer | None = self._read(self._tail_at, self.size)
        self._at = 0
        self._closed = False
        self._lanes: list[_Fetched] = []
        self._coming: list[_Fetched] = []
        self._held = 0
        self._held_max = 0

    def enter(self, groups: Sequence[Group], held_max: int) -> Iterator[Group]:
        """The groups one after the other, each with its first pieces on their way; `held_max` bounds what is ahead."""
        self._held_max = held_max
        if self._tail_at == 0:
            groups = [Group(group.row_groups, ()) for group in groups]
        lanes = [[_Fetched(lane) for lane in group.lanes] for group in groups]
        for group, now, then in zip(groups, lanes, [*lanes[1:], []], strict=True):
            self._drop(self._lanes)
            self._lanes, self._coming = now, list(then)
            for lane in now:
                self._fetch(lane, 0)
            self._fetch_coming()
            yield group

    def footer(self) -> bytes:
        """The bytes of the footer, once Arrow has opened the part. Lets go of the end of a large part."""
        self.seek(self.size - 8)
        start = self.size - 8 - int.from_bytes(self.read(4), "little")
        self.seek(start)
        found = bytes(self.read(self.size - 8 - start))
        if self._tail_at > 0:
            self._tail = None
        return found

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What follows is what Arrow asks of a Python file.

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Fetch no more. The file goes with its last user: a fetch may be under way in another thread."""
        self._drop(self._lanes + self._coming)
        self._tail = None
        self._closed = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        self._at = position + (0, self._at, self.size)[whence]
        return self._at

    def read(self, size: int = -1) -> pa.Buffer | bytes:
        start = self._at
        stop = self.size if size < 0 else min(start + size, self.size)
        self._at = max(start, stop)
        if stop <= start:
            return b""
        if self._tail is not None and start >= self._tail_at:
            return self._tail.slice(start - self._tail_at, stop - start)
        for lane in self._lanes:
            if lane.lane.start <= start and stop <= lane.lane.stop:
                return self._from(lane, start, stop)
        return self._read(start, stop)

    def _from(self, lane: _Fetched, start: int, stop: int) -> pa.Buffer | bytes:
        first, last = ((at - lane.lane.start) // lane.lane.piece for at in (start, stop - 1))
        found = []
        for number in range(first, last + 1):
            if number and number not in lane.pieces:
                # Read twice, or out of its turn.
                return self._read(start, stop)
            self._fetch(lane, number)
            if (number + 1) * lane.lane.piece < lane.lane.stop - lane.lane.start:
                self._fetch(lane, number + 1)
            piece_start, piece_stop = lane.at(number)
            piece = result(lane.pieces[number], self._cancelled)
            begin, end = max(start, piece_start), min(stop, piece_stop)
            found.append(piece.slice(begin - piece_start, end - begin))
            if end == piece_stop and not lane.lane.whole:
                self._release(lane, number)
        lane.used += stop - start
        if lane.lane.whole and lane.used >= lane.lane.stop - lane.lane.start:
            self._release(lane, 0)
        self._fetch_coming()
        return found[0] if len(found) == 1 else b"".join(found)

    def _fetch(self, lane: _Fetched, number: int) -> None:
        if number not in lane.pieces:
            start, stop = lane.at(number)
            self._held += stop - start
            lane.pieces[number] = self._fetchers.submit(self._read, start, stop)

    def _fetch_coming(self) -> None:
        """Begin with the next group as soon as there is room for it."""
        while self._coming:
            start, stop = self._coming[0].at(0)
            if self._held + stop - start > self._held_max:
                return
            self._fetch(self._coming.pop(0), 0)

    def _release(self, lane: _Fetched, number: int) -> None:
        piece = lane.pieces.pop(number, None)
        if piece is not None:
            piece.cancel()
            start, stop = lane.at(number)
            self._held -= stop - start

    def _drop(self, lanes: Sequence[_Fetched]) -> None:
        for lane in lanes:
            for number in list(lane.pieces):
                self._release(lane, number)

    def _read(self, start: int, stop: int) -> pa.Buffer:
        found = self._file.read_at(stop - start, start)
        if len(found) != stop - start:
            raise OSError(f"{len(found)} bytes came of {stop - start} from {start} on")
        return pa.py_buffer(found)
