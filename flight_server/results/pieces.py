"""What of a Parquet part is fetched together: ranges large enough for the latency of S3, small enough for the budget.

A decoder reads the columns of a row group side by side, each from front to back. Where the row group fits into what
there is, it is one range; else each column has a share of it by its size, so that all are used up about together.
Pure: positions in, positions out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flight_server.results.footer import Chunk

# Below this the latency of a request is most of what it costs.
PIECE_BYTES_MIN = 64 << 10


@dataclass(frozen=True, slots=True)
class Lane:
    """Bytes from `start` to `stop`, fetched `piece` bytes at a time. Several columns share it only if that is all."""

    start: int
    stop: int
    piece: int

    @property
    def whole(self) -> bool:
        return self.stop - self.start <= self.piece


@dataclass(frozen=True, slots=True)
class Group:
    """Row groups that are decoded in one go, and the lanes that hold their columns, in the order of the file."""

    row_groups: tuple[int, ...]
    lanes: tuple[Lane, ...]


def groups(row_groups: Sequence[Sequence[Chunk]], piece_bytes: int) -> list[Group]:
    """The whole part in groups, whose pieces take about `piece_bytes` together."""
    found: list[Group] = []
    numbers: list[int] = []
    together: list[Chunk] = []
    for number, more in enumerate(row_groups):
        if together and _extent([*together, *more]) > piece_bytes:
            found.append(Group(tuple(numbers), tuple(_lanes(together, piece_bytes))))
            numbers, together = [], []
        numbers.append(number)
        together += more
    if numbers:
        found.append(Group(tuple(numbers), tuple(_lanes(together, piece_bytes))))
    return found


def _lanes(together: Sequence[Chunk], piece_bytes: int) -> list[Lane]:
    total = sum(chunk.stop - chunk.start for chunk in together)
    # Where not all of it fits, neighbours are joined only as long as they are too small for a request of their own.
    joined_max = piece_bytes if _extent(together) <= piece_bytes else PIECE_BYTES_MIN
    lanes: list[Lane] = []
    for chunk in sorted(together, key=lambda each: each.start):
        start, stop = chunk.start, chunk.stop
        if lanes and stop - lanes[-1].start <= joined_max:
            first, stop = lanes[-1].start, max(stop, lanes[-1].stop)
            lanes[-1] = Lane(first, stop, stop - first)
        elif stop > start:
            lanes.append(Lane(start, stop, max(PIECE_BYTES_MIN, piece_bytes * (stop - start) // total)))
    return lanes


def _extent(together: Sequence[Chunk]) -> int:
    return max((chunk.stop for chunk in together), default=0) - min((chunk.start for chunk in together), default=0)
