"""Reading a `.test.toml`: the rows that the tables hold, and the cases. The format is described in docs/datasets.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from flight_server.errors import DatasetError, nearest

_KINDS: dict[type, str] = {str: "string", int: "whole number", float: "number", list: "list", dict: "table"}


@dataclass(frozen=True, slots=True)
class Input:
    """What one table holds: rows as written, or a CSV file. Columns that they lack are null."""

    rows: tuple[Mapping[str, Any], ...] = ()
    csv: Path | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what must come of it. `line` is where it stands in the file."""

    name: str
    line: int
    params: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] | None = None
    approx: float | None = None
    error: str | None = None
    max_files: int | None = None


@dataclass(frozen=True, slots=True)
class TestFile:
    """A parsed test file. `today` is the day on which relative defaults are resolved; None = the real one."""

    # Not a test class, whatever pytest thinks of the name.
    __test__ = False

    path: Path
    inputs: Mapping[str, Input]
    cases: tuple[Case, ...]
    today: date | None = None


def read(path: Path) -> TestFile:
    """The test file at `path`. Raises DatasetError with line and, for an unknown key, the nearest known one."""
    try:
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
        found = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise DatasetError(path, 0, 0, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        message = re.sub(r" \(at .*\)$", "", str(error))
        raise DatasetError(path, line, column, f"not TOML: {message}") from error
    return _File(path, text.split("\n")).parse(found)


class _File:
    """A test file while it is read: the path and the lines, so that every error can say where."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.path = path
        self.lines = lines

    def parse(self, found: dict[str, Any]) -> TestFile:
        self._known(found, ("inputs", "case", "today"), 0, "")
        inputs = self._take(found, "inputs", dict, 0) or {}
        cases = self._take(found, "case", list, 0) or []
        today = found.get("today")
        if today is not None and type(today) is not date:
            raise self._error("today", 0, f"'today' must be a date, not {today!r}")
        starts = [n for n, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*case\s*\]\]", line)]
        return TestFile(
            self.path,
            {name: self._input(name, given) for name, given in inputs.items()},
            tuple(self._case(case, starts[n] if n < len(starts) else 0) for n, case in enumerate(cases)),
            today,
        )

    def _input(self, name: str, given: Any) -> Input:
        start = next((n for n, line in enumerate(self.lines) if re.match(r"\s*\[inputs\b", line) and name in line), 0)
        if not isinstance(given, dict):
            raise self._error(name, start, f'{name!r} must be a table: write [inputs."database.table"]')
        self._known(given, ("rows", "csv"), start, f" of inputs.{name}")
        csv = self._take(given, "csv", str, start)
        if (csv is None) == ("rows" not in given):
            raise self._error("", start, f'{name!r} needs rows = [...] or csv = "file", and not both')
        return Input(self._rows(given, start) or (), None if csv is None else self.path.parent / csv)

    def _case(self, given: Any, start: int) -> Case:
        if not isinstance(given, dict):
            raise self._error("case", start, "write a case as [[case]]")
        self._known(given, ("name", "params", "rows", "approx", "error", "max_files"), start, " of a case")
        name = self._take(given, "name", str, start)
        if name is None:
            raise self._error("", start, "the case has no name")
        case = Case(
            name=name,
            line=start + 1,
            params=self._take(given, "params", dict, start) or {},
            rows=self._rows(given, start),
            approx=self._take(given, "approx", float, start),
            error=self._take(given, "error", str, start),
            max_files=self._take(given, "max_files", int, start),
        )
        if case.rows is None and case.error is None and case.max_files is None:
            raise self._error("", start, f"the case {name!r} expects nothing: write rows, error or max_files")
        if case.error is not None and (case.rows is not None or case.max_files is not None):
            raise self._error("error", start, f"the case {name!r} expects an error, so it has no rows and no max_files")
        return case

    def _rows(self, given: dict[str, Any], start: int) -> tuple[Mapping[str, Any], ...] | None:
        rows = self._take(given, "rows", list, start)
        if rows is not None and not all(isinstance(row, dict) for row in rows):
            raise self._error("rows", start, "'rows' must be a list of tables: rows = [{ column = value }]")
        return None if rows is None else tuple(rows)

    def _take(self, given: dict[str, Any], key: str, kind: type, start: int) -> Any:
        value = given.get(key)
        if kind is float and type(value) is int:
            value = float(value)
        if value is not None and type(value) is not kind:
            raise self._error(key, start, f"{key!r} must be a {_KINDS[kind]}, not {value!r}")
        return value

    def _known(self, given: Iterable[str], known: tuple[str, ...], start: int, where: str) -> None:
        for key in given:
            if key not in known:
                raise self._error(
                    key,
                    start,
                    f"there is no key {key!r}{where}{nearest(key, known, end='.')} Known are {', '.join(known)}",
                )

    def _error(self, key: str, start: int, message: str) -> DatasetError:
        """An error at the first place of `key` from line `start` (from 0) on, or at that line."""
        for number, line in enumerate(self.lines[start:] if key else [], start):
            if found := re.match(rf"\s*(?:\[+\s*)?[\"']?({re.escape(key)})\b", line):
                return DatasetError(self.path, number + 1, found.start(1) + 1, message)
        return DatasetError(self.path, start + 1, 1, message)
