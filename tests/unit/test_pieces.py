"""What of a part is fetched together: everything once, little requests joined, large row groups in shares."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.results.footer import Chunk
from flight_server.results.pieces import PIECE_BYTES_MIN, Group, groups

MIB = 1 << 20


def laid_out(*row_groups: list[int]) -> list[list[Chunk]]:
    """Chunks of these sizes, one after the other from byte 4 on."""
    ends = itertools.accumulate(itertools.chain.from_iterable(row_groups), initial=4)
    starts = itertools.pairwise(ends)
    return [[Chunk(*next(starts), 0) for _ in sizes] for sizes in row_groups]


def shape(found: list[Group]) -> list[tuple[tuple[int, ...], list[tuple[int, int]]]]:
    return [(g.row_groups, [(lane.stop - lane.start, lane.piece) for lane in g.lanes]) for g in found]


def test_row_groups_that_fit_are_one_request() -> None:
    found = groups(laid_out([10_000, 20_000], [30_000, 5_000], [MIB, MIB], [10_000]), 100_000)
    assert shape(found[:1]) == [((0, 1), [(65_000, 65_000)])]
    assert [g.row_groups for g in found] == [(0, 1), (2,), (3,)]


def test_columns_of_a_large_row_group_share_the_bytes_by_their_size() -> None:
    found = groups(laid_out([30 * MIB, 10 * MIB]), 4 * MIB)
    assert shape(found) == [((0,), [(30 * MIB, 3 * MIB), (10 * MIB, MIB)])]


def test_small_neighbours_in_a_large_row_group_are_joined() -> None:
    found = groups(laid_out([1000, 2000, 30 * MIB, 500, 500]), 4 * MIB)
    sizes = [lane.stop - lane.start for lane in found[0].lanes]
    assert sizes == [3000, 30 * MIB, 1000]


SIZES = st.lists(st.lists(st.integers(0, 300_000), min_size=1, max_size=8), min_size=1, max_size=12)


@given(SIZES, st.integers(PIECE_BYTES_MIN, 2 * MIB))
def test_every_byte_lies_in_one_lane_and_pieces_are_bounded(sizes: list[list[int]], piece_bytes: int) -> None:
    laid = laid_out(*sizes)
    found = groups(laid, piece_bytes)
    assert [n for group in found for n in group.row_groups] == list(range(len(laid)))
    lanes = [lane for group in found for lane in group.lanes]
    assert sum(lane.stop - lane.start for lane in lanes) == sum(sum(each) for each in sizes)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(lanes))
    for chunk in itertools.chain.from_iterable(laid):
        assert chunk.start == chunk.stop or any(n.start <= chunk.start and chunk.stop <= n.stop for n in lanes)
    for group in found:
        # A column shares its lane only where all of the lane is one piece.
        for lane in group.lanes:
            inside = [c for i in group.row_groups for c in laid[i] if lane.start <= c.start < c.stop <= lane.stop]
            assert lane.whole or len(inside) == 1
        at_once = sum(min(lane.piece, lane.stop - lane.start) for lane in group.lanes)
        assert at_once <= piece_bytes + len(group.lanes) * PIECE_BYTES_MIN


def test_a_part_without_row_groups_has_no_groups() -> None:
    assert groups([], MIB) == []


@pytest.mark.parametrize("piece_bytes", [PIECE_BYTES_MIN, MIB])
def test_columns_without_bytes_have_no_lane(piece_bytes: int) -> None:
    assert shape(groups(laid_out([0, 0]), piece_bytes)) == [((0,), [])]
