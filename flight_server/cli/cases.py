"""`athena-flight test`: the cases of the test files, and what the contracts promise anyway."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.authoring.run_tests import run_tests
from flight_server.cli.options import ConfigFile


def run_cases(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One dataset; all if none is named.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run the tests of the datasets over throw-away tables: their .test.toml, and what their contracts promise.

    Every failed case is one line FILE:LINE: NAME, with what is wrong indented below it. Exit code 1 when one failed.

    Examples: athena-flight test

              athena-flight test daily_prices
    """
    started = time.perf_counter()
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for outcome in run_tests(settings.load(config), name):
        dataset = outcome.dataset.path.stem
        if not outcome.problems:
            passed[dataset] += 1
            continue
        failed[dataset] += 1
        print(f"{outcome.path}{f':{outcome.line}' if outcome.line else ''}: {dataset}: {outcome.case}")
        for problem in outcome.problems:
            print(f"    {problem}")
    for dataset in sorted(passed | failed):
        print(f"{dataset}\t{passed[dataset]} passed" + (f"\t{failed[dataset]} failed" if failed[dataset] else ""))
    sys.stdout.flush()
    took = f"{time.perf_counter() - started:.1f} s"
    print(f"{passed.total()} passed, {failed.total()} failed ({took})", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
