"""`check --against`: which changes break callers, in a git repository of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.authoring.against import breaking
from flight_server.errors import SetupError

Edit = Callable[..., Path]


@pytest.fixture
def committed(folder: Path, edit: Edit) -> Path:
    """`folder` in a repository, with limits and a choice to change, committed as `v1`."""
    edit(
        "closes.sql",
        ("-- ///\nSELECT", '--\n-- [limits]\n-- max_rows = 100\n-- timeout = "60s"\n-- ///\nSELECT'),
        (
            '-- most  = { type = "float64", optional = true }',
            '-- most  = { type = "float64", optional = true, max = 9 }',
        ),
    )
    _git(folder, "init", "-q")
    _commit(folder)
    _git(folder, "tag", "v1")
    return folder


def _git(folder: Path, *words: str) -> None:
    author = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True)


def _commit(folder: Path) -> None:
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "-m", "x")


def test_nothing_changed_breaks_nothing(committed: Path) -> None:
    assert breaking(committed, "v1") == []


LOOSER = [
    ("max_rows = 100", "max_rows = 101"),
    ('timeout = "60s"', 'timeout = "2m"'),
    ("optional = true, max = 9", "optional = true, max = 10"),
    ("optional = true, max = 9", "optional = true"),
    ('-- range = "first <= last"\n', ""),
    ('"string", max_length = 9', '"string", max_length = 10'),
    ('"Closes"', '"Other"'),
    ('-- shares = { type = "int64" }', '-- shares = { type = "int64" }\n-- more = { type = "int64" }'),
    ('-- shares = { type = "int64" }', '-- shares = { type = "int64", null = false }'),
]


@pytest.mark.parametrize(("old", "new"), LOOSER, ids=[new for _, new in LOOSER])
def test_additions_and_looser_limits_break_nothing(committed: Path, edit: Edit, old: str, new: str) -> None:
    extra = [("p.shares\n", "p.shares, p.shares AS more\n")] if "more" in new else []
    edit("closes.sql", (old, new), *extra)
    assert breaking(committed, "v1") == []


BREAKING = [
    ([("max_rows = 100", "max_rows = 99")], ":22:4", "max_rows is stricter"),
    ([('timeout = "60s"', 'timeout = "59s"')], ":23:4", "timeout is stricter"),
    ([("max_rows = 100", 'max_rows = 100\n-- max_scan = "1 GB"')], ":23:4", "max_scan is stricter"),
    ([("optional = true, max = 9", "optional = true, max = 8")], ":11:49", "'most' has a lower max: 8.0"),
    ([("optional = true, max = 9", "max = 9")], ":11:4", "'most' may no longer be left out"),
    (
        [("optional = true, max = 9", "default = 1, max = 9")],
        ":11:32",
        "'most' means something else when it is left out",
    ),
    ([('"float64", optional = true', '"float32", optional = true')], ":11:14", "'most' was float64 and is float32"),
    ([("max_length = 9", "max_length = 8")], ":8:31", "'stock' has a lower max_length: 8, not 9"),
    ([("max_length = 9", 'max_length = 9, pattern = "[A-Z]+"')], ":8:47", "'stock' has another pattern"),
    (
        [("stock = { type", "stok = { type"), (":stock", ":stok")],
        ":7:4",
        "'stock' was removed or renamed; did you mean 'stok'?",
    ),
    ([("stock = { type", "stok = { type"), (":stock", ":stok")], ":8:4", "the new parameter 'stok' is required"),
    ([('"first <= last"', '"first < last"')], ":14:4", "the rule 'first < last' is new"),
    (
        [('-- close  = { type = "float32" }\n', ""), ("p.close, p.shares", "p.shares")],
        ":16:4",
        "the column 'close' was removed",
    ),
    (
        [('close  = { type = "float32" }', 'close  = { type = "float64" }')],
        ":18:15",
        "'close' was float32 and is float64",
    ),
    ([('"date", null = false', '"date"')], ":17:4", "'day' was never null and may be now"),
    (
        [('close  = { type = "float32" }', 'close  = { type = "float32", unit = "USD" }')],
        ":18:33",
        "'close' had the unit None",
    ),
    (
        [
            (
                '-- close  = { type = "float32" }\n-- shares = { type = "int64" }',
                '-- shares = { type = "int64" }\n-- close = { type = "float32" }',
            ),
            ("p.close, p.shares", "p.shares, p.close"),
        ],
        ":16:4",
        "the columns have another order; it was day, close, shares",
    ),
    (
        [
            ("-- close  = { type", '-- more = { type = "int64" }\n-- close  = { type'),
            ("p.close, p.shares", "p.shares AS more, p.close, p.shares"),
        ],
        ":18:4",
        "the new column 'more' is not the last",
    ),
    ([('key     = ["day"]', 'key     = ["day", "close"]')], ":4:4", "key was day"),
    (
        [('sorted  = ["day"]', 'sorted  = ["day desc"]'), ("ORDER BY p.day", "ORDER BY p.day DESC")],
        ":5:4",
        "sorted was day",
    ),
    (
        [("-- ///\nSELECT", '-- [access]\n-- roles = ["pm"]\n-- ///\nSELECT')],
        ":25:4",
        "access is narrower: without everybody else",
    ),
]


@pytest.mark.parametrize(("replacements", "place", "message"), BREAKING, ids=[message for _, _, message in BREAKING])
def test_a_breaking_change_is_named_with_its_place(
    committed: Path, edit: Edit, replacements: list[tuple[str, str]], place: str, message: str
) -> None:
    path = edit("closes.sql", *replacements)
    found = [str(error) for error in breaking(committed, "v1")]
    mine = [error for error in found if message in error]
    assert len(mine) == 1, found
    assert mine[0].startswith(f"{path}{place}: since v1: ")
    assert "put the change into closes.v2.sql" in mine[0]


def test_a_new_version_beside_the_old_one_breaks_nothing(committed: Path) -> None:
    text = (committed / "closes.sql").read_text().replace("version = 1", "version = 2").replace("float32", "float64")
    (committed / "closes.v2.sql").write_text(text)
    assert breaking(committed, "v1") == []


def test_a_version_may_go_only_after_it_was_deprecated(committed: Path, edit: Edit) -> None:
    (committed / "closes.sql").rename(committed / "closes.v2.sql")
    edit("closes.v2.sql", ("version = 1", "version = 2"))
    assert ["closes version 1 is gone" in str(error) for error in breaking(committed, "v1")] == [True]
    (committed / "closes.v2.sql").rename(committed / "closes.sql")
    edit("closes.sql", ("version = 2", 'version = 1\n-- deprecated = "use closes.v2"'))
    _commit(committed)
    (committed / "closes.sql").unlink()
    assert breaking(committed, "HEAD") == []


@pytest.mark.parametrize("ref", ["nonsense", "--output=x", "-h"])
def test_an_unknown_commit_is_named(committed: Path, ref: str) -> None:
    with pytest.raises(SetupError) as caught:
        breaking(committed, ref)
    assert ref in str(caught.value)


def test_a_folder_outside_of_git_is_said(folder: Path) -> None:
    with pytest.raises(SetupError, match="not a git repository"):
        breaking(folder, "HEAD")
