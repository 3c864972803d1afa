"""Two million ordered rows of eight interleaved parts: exact order, and memory that does not grow with the result.

The full size is in tests/soak.
"""

from __future__ import annotations

import pytest

from tests import large
from tests.fakes.aws import LocalAws
from tests.fix_served import Labs
from tests.large import LARGE, columns

ROWS = 2_000_000


@pytest.mark.timeout(240)
def test_two_million_rows_arrive_in_order(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"large": LARGE}, results={"read_bytes_max": 32 << 20})
    stored = large.store(aws, lab, ROWS, 8)
    assert (stored.rows, len(stored.parts)) == (ROWS, 8)
    answer = lab.start(lab.plan("large"))
    seen = 0
    for batch in answer.batches:
        expected = columns(large.numbers(seen, batch.num_rows))
        for found, want in zip(batch.columns, expected, strict=True):
            assert found.equals(want), f"rows from {seen} are not in their place"
        seen += batch.num_rows
    answer.execution.close()
    assert seen == ROWS
