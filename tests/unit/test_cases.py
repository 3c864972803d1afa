"""Test files: what they may say, and where a mistake in one is said to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from flight_server.authoring import cases
from flight_server.errors import DatasetError

Edit = Callable[..., Path]


def test_a_file_is_read_with_the_lines_of_its_cases(folder: Path, edit: Edit) -> None:
    path = edit("closes.test.toml", ("[inputs", 'today = 2024-06-01\n[inputs."market.stocks"]\ncsv = "s.csv"\n[inputs'))
    found = cases.read(path)
    assert found.today == date(2024, 6, 1)
    assert found.inputs["market.stocks"].csv == folder / "s.csv"
    assert len(found.inputs["market.prices"].rows) == 3
    assert [(case.name, case.line, case.approx) for case in found.cases] == [("both days", 11, None)]
    assert found.cases[0].params == {"stock": "A", "first": date(2024, 1, 1)}


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        (
            "[[case]]",
            "[[cases]]",
            ":8:3",
            "there is no key 'cases'; did you mean 'case'? Known are inputs, case, today",
        ),
        ("params =", "parms =", ":10:1", "there is no key 'parms' of a case; did you mean 'params'?"),
        (
            "rows = [\n  {",
            "row = [\n  {",
            ":2:1",
            "there is no key 'row' of inputs.market.prices; did you mean 'rows'?",
        ),
        ('name   = "both days"\n', "", ":8:1", "the case has no name"),
        ("rows   =", "approx = ", ":11:1", "'approx' must be a number, not ["),
        ("rows   =", "error = 1\nrows =", ":11:1", "'error' must be a string, not 1"),
        ("rows   =", 'error = "range"\nrows =', ":11:1", "expects an error, so it has no rows"),
        (
            "[[case]]",
            "[[case]]\nname = 'x'\n[[case]]",
            ":8:1",
            "the case 'x' expects nothing: write rows, error or max_files",
        ),
        ("rows   = [\n  {", "rows = [\n  3, {", ":11:1", "'rows' must be a list of tables"),
        ("rows = [\n  {", 'csv = "x"\nrows = [\n  {', ":1:1", 'needs rows = [...] or csv = "file", and not both'),
        ("[inputs", "today = 3\n[inputs", ":1:1", "'today' must be a date, not 3"),
        ("[[case]]", "[case", ":8:6", "not TOML: Expected ']'"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    folder: Path, edit: Edit, old: str, new: str, place: str, message: str
) -> None:
    path = edit("closes.test.toml", (old, new))
    with pytest.raises(DatasetError) as caught:
        cases.read(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert message in str(caught.value)
