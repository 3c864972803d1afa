"""Which rows and values of a table are seen, by whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlglot import exp


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A condition that every row of `table` (database.table, lower case) must satisfy, but for the `exempt` roles.

    `where` is a parsed condition over the table's columns; a claim of the caller is `Dot(Placeholder("caller"), name)`.
    """

    name: str
    table: str
    where: exp.Expr
    exempt: frozenset[str]
    # The claims that it names.
    claims: tuple[str, ...]
    doc: str
    # Where it is written, for errors.
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Mask:
    """What is read instead of one column of `table`, but for the `exempt` roles. `value` is as `RowFilter.where`."""

    name: str
    table: str
    column: str
    value: exp.Expr
    exempt: frozenset[str]
    claims: tuple[str, ...]
    doc: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Policies:
    """All row filters and masks in force."""

    row_filters: tuple[RowFilter, ...] = ()
    masks: tuple[Mask, ...] = ()
    # Of the file: what was planned under another text is not served under this one.
    digest: str = ""

    @property
    def all(self) -> tuple[RowFilter | Mask, ...]:
        return (*self.row_filters, *self.masks)


@dataclass(frozen=True, slots=True)
class AppliedPolicy:
    """A policy that holds for one plan, and why. Carries no SQL: it may be shown to the caller."""

    name: str
    kind: Literal["row_filter", "mask"]
    table: str
    reason: str
