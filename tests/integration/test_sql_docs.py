"""Every SQL block of docs/sql.md gives rows, and every Python block prints what the page says."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fix_sql import Counted

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STATEMENTS = [text for kind, text in BLOCKS if kind == "sql"]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_sql_gives_rows(cursor: Any, sql: str) -> None:
    cursor.execute(sql)
    assert cursor.fetch_arrow_table().num_rows > 0


def test_python_prints_what_the_page_says(sql_server: Counted) -> None:
    names: dict[str, Any] = {}
    printed = 0
    for (kind, code), (_, expected) in itertools.pairwise(BLOCKS):
        if kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code.replace("grpc://localhost:8815", sql_server.url), "docs/sql.md", "exec"), names)
            assert out.getvalue() == expected
            printed += 1
    names["client"].close()
    assert printed == 1
    assert len(STATEMENTS) == 5
