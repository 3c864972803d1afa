"""Breaking changes: what callers of a dataset would notice, between a git commit and the files as they are now.

A dataset's name and version are a promise. What is compared is the contract, not the SQL: whether a query still means
the same is for its tests to say.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from flight_server.datasets import contract, header
from flight_server.datasets.types import type_text
from flight_server.errors import DatasetError, SetupError, nearest
from flight_server.model import Column, Dataset, Parameter

# What a change is, and where in the file it is: keys of the contract.
Change = tuple[tuple[str, ...], str]
_WAY_OUT = "; keep this file as it was and put the change into {name}.v{version}.sql"


def breaking(directory: Path, ref: str, name: str | None = None) -> list[DatasetError]:
    """The breaking changes of the datasets in `directory` (or those called `name`) since the git commit `ref`.

    Files that are wrong, now or then, are left to `check`. A version that was deprecated then may be gone now.
    Raises SetupError (bad-reference) when git does not know the commit, or the folder is in no repository.
    """
    if ref.startswith("-"):
        raise SetupError("bad-reference", f"{ref!r} is no git commit")
    errors: list[DatasetError] = []
    for path in _files(directory, ref):
        if name not in (None, path.name.split(".")[0]):
            continue
        try:
            before = contract.parse(path, _git(directory, "show", f"{ref}:./{path.name}"))
        except DatasetError:
            continue
        if not path.exists():
            if before.deprecated is None:
                what = f"{before.name} version {before.version} is gone; keep it, or set deprecated first"
                errors.append(DatasetError(path, 0, 0, what))
            continue
        text = path.read_text(encoding="utf-8")
        try:
            now = contract.parse(path, text)
        except DatasetError:
            continue
        head = header.read(path, text)
        way_out = _WAY_OUT.format(name=now.name, version=now.version + 1)
        errors += [
            head.error(tuple(filter(None, keys)), f"since {ref}: {what}{way_out}")
            for keys, what in changes(before, now)
        ]
    return errors


def changes(before: Dataset, now: Dataset) -> Iterator[Change]:
    """What breaks callers of `before` when they are given `now`; looser limits and additions do not."""
    yield from _params(before, now)
    yield from _rules(before, now)
    yield from _columns(before, now)
    for key, was, new in (
        ("max_rows", before.limits.max_rows, now.limits.max_rows),
        ("max_bytes", before.limits.max_bytes, now.limits.max_bytes),
        ("max_scan", before.limits.max_scan_bytes, now.limits.max_scan_bytes),
        ("timeout", before.limits.timeout_s, now.limits.timeout_s),
        ("max_cost", before.limits.max_cost_usd, now.limits.max_cost_usd),
    ):
        if _lower(was, new):
            yield ("limits", key), f"{key} is stricter"
    if now.roles and (not before.roles or before.roles - now.roles):
        lost = ", ".join(sorted(before.roles - now.roles)) or "everybody else"
        yield ("access", "roles"), f"access is narrower: without {lost}"
    if before.key != now.key:
        yield ("key",), f"key was {', '.join(before.key) or 'not declared'}"
    if before.sorted != now.sorted[: len(before.sorted)]:
        yield ("sorted",), f"sorted was {', '.join(map(str, before.sorted))}"


def _params(before: Dataset, now: Dataset) -> Iterator[Change]:
    added = [name for name in now.params if name not in before.params]
    for name, was in before.params.items():
        new = now.params.get(name)
        if new is None:
            yield ("params",), f"the parameter {name!r} was removed or renamed{nearest(name, added)}"
        else:
            for key, what in _param(was, new):
                yield ("params", name, key), f"the parameter {name!r} {what}"
    for name in added:
        if now.params[name].required:
            yield ("params", name), f"the new parameter {name!r} is required; give it a default, or optional = true"


def _param(was: Parameter, new: Parameter) -> Iterator[tuple[str, str]]:
    if was.type != new.type:
        yield "type", f"was {was.type} and is {new.type}"
        return
    if new.required and not was.required:
        yield "", "may no longer be left out"
    elif was.optional != new.optional and not was.required:
        yield "optional" if new.optional else "default", "means something else when it is left out"
    elif was.default != new.default and not was.required:
        yield "default", f"had the default {was.default}"
    if new.min is not None and (was.min is None or new.min > was.min):  # type: ignore[operator]
        yield "min", f"has a greater min: {new.min}"
    if _lower(was.max, new.max):
        yield "max", f"has a lower max: {new.max}"
    for key, before, now in (
        ("max_items", was.max_items, new.max_items),
        ("max_length", was.max_length, new.max_length),
    ):
        if now < before:
            yield key, f"has a lower {key}: {now}, not {before}"
    if new.min_items > was.min_items:
        yield "min_items", f"has a greater min_items: {new.min_items}, not {was.min_items}"
    if new.pattern is not None and new.pattern != was.pattern:
        yield "pattern", "has another pattern, which may refuse what was taken before"
    gone = [str(choice) for choice in was.choices if choice not in new.choices]
    if new.choices and (gone or not was.choices):
        yield "choices", f"takes fewer choices: without {', '.join(gone) or 'all others'}"
    if was.ordered != new.ordered:
        yield "ordered", f"had ordered = {str(was.ordered).lower()}"
    if was.unit != new.unit:
        yield "unit", f"had the unit {was.unit}"


def _rules(before: Dataset, now: Dataset) -> Iterator[Change]:
    known = {str(rule) for rule in before.rules}
    for rule in now.rules:
        if str(rule) not in known:
            yield ("rules", rule.name), f"the rule {str(rule)!r} is new"


def _columns(before: Dataset, now: Dataset) -> Iterator[Change]:
    new = {column.name: column for column in now.columns}
    added = [name for name in new if name not in {column.name for column in before.columns}]
    for was in before.columns:
        if was.name not in new:
            yield ("columns",), f"the column {was.name!r} was removed or renamed{nearest(was.name, added)}"
        else:
            for key, what in _column(was, new[was.name]):
                yield ("columns", was.name, key), f"the column {was.name!r} {what}"
    kept = [column.name for column in before.columns if column.name in new]
    if [name for name in new if name in kept] != kept:
        yield ("columns",), f"the columns have another order; it was {', '.join(kept)}"
    elif list(new)[: len(kept)] != kept and len(kept) == len(before.columns):
        first = next(name for name in new if name in added)
        yield ("columns", first), f"the new column {first!r} is not the last; columns are also read by position"


def _column(was: Column, new: Column) -> Iterator[tuple[str, str]]:
    if was.type != new.type:
        yield "type", f"was {type_text(was.type)} and is {type_text(new.type)}"
    if new.nullable and not was.nullable:
        yield "null", "was never null and may be now"
    if was.unit != new.unit:
        yield "unit", f"had the unit {was.unit}"


def _lower(was: object, new: object) -> bool:
    """Whether an upper bound came down; None is no bound."""
    return new is not None and (was is None or new < was)  # type: ignore[operator]


def _files(directory: Path, ref: str) -> list[Path]:
    listed = _git(directory, "ls-tree", "--name-only", "-z", ref, "./")
    return [directory / name for name in sorted(listed.split("\0")) if name.endswith(".sql") and "/" not in name]


def _git(directory: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git, by name, with arguments that are no options
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the git of the path, as in a shell
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    except FileNotFoundError as error:
        raise SetupError("bad-reference", "--against needs git, which is not installed") from error
    if done.returncode:
        raise SetupError("bad-reference", f"git: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    return done.stdout
