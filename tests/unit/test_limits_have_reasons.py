"""A limit is a setting; what is a number in the code all the same has its reason in a comment beside it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "flight_server").rglob("*.py"))


def numbers(tree: ast.Module) -> list[ast.Assign]:
    """The constants of a module that are a number, or made from numbers."""
    return [each for each in tree.body if isinstance(each, ast.Assign) and _is_number(each.value)]


def _is_number(value: ast.expr) -> bool:
    kinds = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.operator, ast.unaryop, ast.expr_context)
    parts = list(ast.walk(value))
    constants = [part.value for part in parts if isinstance(part, ast.Constant)]
    numeric = all(type(each) in (int, float) for each in constants)
    return bool(constants) and numeric and all(isinstance(part, kinds) for part in parts)


def unexplained(text: str) -> list[str]:
    lines = text.splitlines()
    found: list[str] = []
    for each in numbers(ast.parse(text)):
        # One reason may be for constants that follow each other.
        above = each.lineno - 2
        while above >= 0 and lines[above].partition("=")[0].strip().strip("_").isupper():
            above -= 1
        if "  # " not in lines[each.lineno - 1] and not lines[above].startswith("#"):
            found.append(lines[each.lineno - 1])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_number_has_its_reason_beside_it(path: Path) -> None:
    assert unexplained(path.read_text(encoding="utf-8")) == []


def test_a_number_without_a_reason_is_seen() -> None:
    assert unexplained("import os\n\n_WAIT_S = 5.0\n") == ["_WAIT_S = 5.0"]
    assert unexplained("# Why.\n_WAIT_S = 5.0\n_QUEUE_MAX = 1 << 5\nNAME = 'x'\n") == []
