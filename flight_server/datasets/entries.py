"""TOML files that are lists of tables: policies, tokens, users, certificates. Errors name the place in the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flight_server.datasets.header import Header, Section
from flight_server.errors import DatasetError, nearest


def text_of(path: Path) -> str:
    """The text of a file. Raises DatasetError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(path, 0, 0, f"cannot be read: {reason}") from error


def read(path: Path, text: str, kinds: Sequence[str]) -> list[tuple[str, Section]]:
    """The entries `[[kind]]` in the text of the file at `path`, in the order of `kinds`, each with its kind.

    Raises DatasetError where the text is not TOML or has anything else in it.
    """
    found = _parse(path, text)
    for key in found:
        if key not in kinds:
            line = _line(text, rf"\s*\[*\s*[\"']?{re.escape(key)}\b")
            known = ", ".join(f"[[{kind}]]" for kind in kinds)
            raise DatasetError(path, line, 1, f"there is no [[{key}]]{nearest(key, kinds, end='.')} Known are {known}")
    return [(kind, entry) for kind in kinds for entry in _entries(path, text, kind, found.get(kind, []))]


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        # The parser's message may quote what stands there, which in these files can be a secret.
        raise DatasetError(path, line, column, "not TOML") from error


def _entries(path: Path, text: str, kind: str, tables: object) -> list[Section]:
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise DatasetError(path, _line(text, rf"\s*\[?\s*{kind}\b"), 1, f"write each {kind} as a table: [[{kind}]]")
    lines = text.split("\n")
    starts = [n for n, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{kind}\s*\]\]", line)]
    if len(starts) != len(tables):
        # Written inline, kind = [{…}]: the file is the best place there is.
        starts = [0] * len(tables)
    return [Section(_header(path, lines, start), (), values) for start, values in zip(starts, tables, strict=True)]


def _header(path: Path, lines: list[str], start: int) -> Header:
    """A header whose places are those of the entry that starts in line `start` (from 0)."""
    block = [""]
    for line in lines[start + 1 :]:
        if line.lstrip().startswith("[["):
            break
        block.append(line)
    return Header(path, {}, tuple(block), start + 1, "", 0, margin=0)


def _line(text: str, pattern: str) -> int:
    """The line (from 1) on which `pattern` first stands at a line's start; 1 without one."""
    return next((n for n, line in enumerate(text.split("\n"), 1) if re.match(pattern, line)), 1)
