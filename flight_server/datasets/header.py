"""Reading the contract of a dataset file: the TOML in its leading comment block, with places for error messages.

`Section` hands out typed values and refuses what it was not asked for, so that a mistyped key is an error that names
the nearest known one. What the values mean is decided in `contract.py`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flight_server.errors import DatasetError, nearest

_OPEN = "-- /// dataset"
_CLOSE = "-- ///"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Header:
    """A file taken apart: the parsed TOML, its lines, and the SQL with the line it starts on (from 1)."""

    path: Path
    toml: dict[str, Any]
    lines: tuple[str, ...]
    first_line: int
    sql: str
    sql_line: int
    # Columns that stand before the TOML on each line of the file.
    margin: int = len("-- ")

    def root(self) -> Section:
        return Section(self, (), self.toml)

    def error(self, keys: tuple[str, ...], message: str) -> DatasetError:
        """An error at the place of `keys` in the TOML, or at the nearest enclosing one that is written out."""
        line, column = _locate(self.lines, keys)
        return DatasetError(self.path, line + self.first_line, column + self.margin, message)


class Section:
    """One TOML table. Every `take` names a known key; `done` refuses the keys that nobody took."""

    def __init__(self, header: Header, keys: tuple[str, ...], values: dict[str, Any]) -> None:
        self.header = header
        self.keys = keys
        self.values = values
        self._known: list[str] = []

    def take(self, key: str, kind: type[_T], default: _T | None = None) -> _T | None:
        """The value of `key` when it is a `kind` (a bool is no int, an int is a float), else an error at its place."""
        self._known.append(key)
        if key not in self.values:
            return default
        value = self.values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"{key!r} must be a {_TOML_NAMES.get(kind, kind.__name__)}, not {value!r}")
        return value

    def need(self, key: str, kind: type[_T]) -> _T:
        """Like `take`, for a key that must be there."""
        value = self.take(key, kind)
        if value is None:
            raise self.error("", f"{key!r} is missing{self._place()}")
        return value

    def raw(self, key: str) -> Any:
        """The value of `key` whatever its type, or None."""
        self._known.append(key)
        return self.values.get(key)

    def names(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty when absent."""
        value = self.take(key, list, [])
        if not all(isinstance(item, str) for item in value or []):
            raise self.error(key, f"{key!r} must be a list of strings, not {value!r}")
        return tuple(value or ())

    def section(self, key: str) -> Section:
        """The table under `key`, empty when absent."""
        return Section(self.header, (*self.keys, key), self.take(key, dict, {}) or {})

    def sections(self) -> list[tuple[str, Section]]:
        """All entries as tables, in the order written; for sections whose keys are names."""
        return [(name, self.section(name)) for name in self.values]

    def done(self) -> None:
        """Refuse the first key that was never asked for."""
        for key in self.values:
            if key not in self._known:
                known = ", ".join(dict.fromkeys(self._known))
                raise self.error(
                    key, f"there is no key {key!r}{self._place()}{nearest(key, self._known, end='.')} Known are {known}"
                )

    def error(self, key: str, message: str) -> DatasetError:
        return self.header.error((*self.keys, key) if key else self.keys, message)

    def _place(self) -> str:
        return f" in [{'.'.join(self.keys)}]" if self.keys else ""


_TOML_NAMES: dict[type, str] = {
    str: "string",
    int: "whole number",
    float: "number",
    bool: "true or false",
    list: "list",
    dict: "table",
}


_TOML_HINTS = {
    "Invalid value": "; a text stands in straight double quotes, a day is 2010-01-04, yes is true",
    "Invalid statement": "; write name = value, and a name of other signs than A-Z, a-z, 0-9, _ and - in double quotes",
}


def read(path: Path, text: str) -> Header:
    """Take a dataset file apart. Raises DatasetError where the block is missing, unclosed or not TOML."""
    # Editors of Windows put a byte order mark before the text, which nobody sees.
    lines = text.removeprefix("\ufeff").split("\n")
    start = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if not lines or lines[start].rstrip() != _OPEN:
        raise DatasetError(path, start + 1, 1, f"a dataset file starts with the line {_OPEN!r}")
    block: list[str] = []
    for number, line in enumerate(lines[start + 1 :], start + 1):
        stripped = line.rstrip()
        if stripped == _CLOSE:
            sql_line = number + 1
            return Header(
                path, _toml(path, block, start + 1), tuple(block), start + 2, "\n".join(lines[sql_line:]), sql_line + 1
            )
        if stripped != "--" and not stripped.startswith("-- "):
            raise DatasetError(
                path, number + 1, 1, f"a line of the contract starts with '-- '; the contract ends with {_CLOSE!r}"
            )
        block.append(stripped[3:])
    raise DatasetError(path, start + 1, 1, f"the contract is not closed: write the line {_CLOSE!r} under it")


def _toml(path: Path, block: list[str], lines_before: int) -> dict[str, Any]:
    try:
        return tomllib.loads("\n".join(block))
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (len(block), 1)
        message = re.sub(r" \(at .*\)$", "", str(error))
        hint = _TOML_HINTS.get(message, "")
        raise DatasetError(path, line + lines_before, column + len("-- "), f"not TOML: {message}{hint}") from error


def _locate(lines: tuple[str, ...], keys: tuple[str, ...]) -> tuple[int, int]:
    """Line (from 0) and column (from 1) at which `keys` is written, or the longest written part of it."""
    section: tuple[str, ...] = ()
    best = (0, 1, 0)
    for number, line in enumerate(lines):
        if found := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            section = tuple(part.strip().strip("\"'") for part in found[1].split("."))
            if section == keys[: len(section)] and len(section) > best[2]:
                best = (number, 1, len(section))
            continue
        found = re.match(r"\s*([\"']?)([\w.-]+)\1\s*=", line)
        if not found or section != keys[: len(section)]:
            continue
        path = (*section, *found[2].split("."))
        if path == keys[: len(path)] and len(path) > best[2]:
            column = found.start(2) + 1
            depth = len(path)
            for key in keys[depth:]:
                inner = re.search(rf"(?<![\w\"'-]){re.escape(key)}\s*=", line[column:])
                if not inner:
                    break
                column, depth = column + inner.start() + 1, depth + 1
            best = (number, column, depth)
    return best[0], best[1]
