"""`athena-flight results …`: looking after the stored results in S3.

One tab-separated line for each prefix or lock. Exit codes: 0 done, 1 failed or refused, 2 wrong usage.
"""

from __future__ import annotations

from typing import Annotated

import typer

from flight_server.cli.durations import seconds
from flight_server.cli.options import ConfigFile
from flight_server.config import Config, load
from flight_server.errors import ConfigError
from flight_server.server import build_athena, build_store
from flight_server.tables.catalog import translated
from flight_server.tables.lock import S3Place, is_stale, locks_prefix, s3_client

app = typer.Typer(no_args_is_help=True, help="Look after the stored results in S3.")

# A query that has run into its time limit is stopped; this long until Athena has and no more files come.
_STOPPED_S = 60.0


@app.callback()
def _group() -> None:
    """Look after the stored results in S3."""


@app.command()
def sweep(
    older_than: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Least age, such as 12h; default results.orphan_age_s.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, say what would be removed.")] = False,
    config: ConfigFile = None,
) -> None:
    """Remove files of failed, cancelled and superseded queries, and locks of jobs that died.

    Complete results stay; the bucket's life-cycle rule ends those (docs/athena.md).

    Example: athena-flight results sweep --dry-run
    """
    settings = load(config)
    _sweep(settings, settings.results.orphan_age_s if older_than is None else seconds(older_than), dry_run)


def _sweep(config: Config, age_s: float, dry_run: bool) -> None:
    least_s = config.limits.timeout_s + _STOPPED_S
    if age_s < least_s:
        raise ConfigError(
            f"{age_s:,.0f} s is too young: a query of this server may run {config.limits.timeout_s:,.0f} s "
            f"(limits.timeout_s), so say --older-than {least_s:.0f}s or more"
        )
    store = build_store(config)
    done = "would be removed" if dry_run else "removed"
    prefixes = files = size = 0
    with translated(f"sweep {config.athena.results}"):
        for orphan in store.orphans(age_s):
            if not dry_run and not store.remove(orphan):
                continue
            print(f"{orphan.uri}\t{orphan.files} files\t{orphan.bytes} bytes\t{done}")
            prefixes, files, size = prefixes + 1, files + orphan.files, size + orphan.bytes
        locks = _sweep_locks(config, dry_run, done)
    print(f"{done}: {prefixes} prefixes, {files} files, {size} bytes; {locks} locks")


def _sweep_locks(config: Config, dry_run: bool, done: str) -> int:
    """Locks that the next job would take over anyway."""
    client = s3_client(config)
    bucket, _, prefix = locks_prefix(config.athena.results).removeprefix("s3://").partition("/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    if not keys:
        return 0
    count = 0
    engine = build_athena(config)
    try:
        for key in keys:
            place = S3Place(client, f"s3://{bucket}/{key}")
            found = place.read()
            if found is not None and is_stale(found[0], config.lock.age_s, engine.has_ended):
                if not dry_run:
                    place.remove(found[1])
                print(f"{place.uri}\tlock of {found[0]}\t{done}")
                count += 1
    finally:
        engine.close()
    return count
