"""How much of a result is read at a time, so that all of it together stays within a number of bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flight_server.model import Part
from flight_server.results.footer import Chunk
from flight_server.results.pieces import PIECE_BYTES_MIN

# Beyond this a request gets no faster: at 50 ms of latency and 100 MB/s of a connection, most of its time is transfer.
_PIECE_BYTES_MAX = 8 << 20
# Batches below this cost more in calls than in work.
_BATCH_ROWS_MIN = 1024
# Writers cut pages at 1 MiB, Trino's and Hive's among them; one of each column is held unpacked.
_PAGE_BYTES = 1 << 20
# What Arrow reads at once to see the header of a page; the page itself is read past this buffer.
BUFFER_BYTES = 16 << 10
# One piece in use and one on its way; a batch being made, one ready and one in use.
PIECES, _BATCHES = 2, 3


@dataclass(frozen=True, slots=True)
class Fit:
    """Bytes of a piece (all columns), rows of a batch, and what reading all open parts that way takes."""

    piece_bytes: int
    batch_rows: int
    bytes: int


def fitting(
    parts: Sequence[Part], shapes: Sequence[Sequence[Sequence[Chunk]]], together: int, batch_rows: int
) -> Callable[[int], Fit]:
    """What fits `together` of `parts` into a share of bytes. `shapes` are the chunks of some of them.

    Where even the smallest pieces and batches do not fit, they take more than the share.
    """
    columns = max(len(row_group) for shape in shapes for row_group in shape)
    packed = max(sum(chunk.stop - chunk.start for row_group in shape for chunk in row_group) for shape in shapes)
    pages = max(sum(_page(column) for column in zip(*shape, strict=True)) for shape in shapes)
    row_bytes = sum(part.bytes for part in parts) // sum(part.rows for part in parts) + 8 * columns
    rows_most = max(part.rows for part in parts)

    def fit(share: int) -> Fit:
        each = share // together - pages - columns * BUFFER_BYTES
        # Half for what is fetched, half for what is decoded.
        piece = max(PIECE_BYTES_MIN, min(_PIECE_BYTES_MAX, packed, each // (2 * PIECES)))
        rows = max(_BATCH_ROWS_MIN, min(batch_rows, each // (2 * _BATCHES * row_bytes)))
        pieces = min(packed, PIECES * (piece if packed <= piece else piece + columns * PIECE_BYTES_MIN))
        batches = _BATCHES * row_bytes * min(rows, rows_most)
        return Fit(piece, rows, together * (pages + columns * BUFFER_BYTES + pieces + batches))

    return fit


def _page(column: Sequence[Chunk]) -> int:
    """The largest page of a column, unpacked; what is smaller as a whole takes no more than that."""
    return min(_PAGE_BYTES, max(chunk.unpacked for chunk in column))
