"""Forgetting snapshots and removing files: what goes, what never goes, and what the commands say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server.cli import main
from flight_server.errors import TableError
from flight_server.plan.scan import PUBLISHED
from flight_server.tables import lock
from flight_server.tables.catalog import find_table
from flight_server.tables.expire import expirable, expire, remove, unreferenced
from flight_server.tables.optimize import optimize
from tests.fix_tables import local_config

Make = Callable[..., Table]


def append(table: Table, *ids: int) -> int:
    table.append(pa.table({"id": pa.array(ids, pa.int64()), "part": pa.array([f"p {i % 2}/%" for i in ids])}))
    # Snapshots of the same millisecond have no order of age.
    time.sleep(0.002)
    found = table.metadata.current_snapshot_id
    assert found is not None
    return found


@pytest.fixture
def table(make_table: Make) -> Table:
    """Four snapshots: two appends, the two rewritten as one, another append. Partition values that URIs escape."""
    made = make_table("old", "id bigint, part string", (), "PARTITIONED BY (part)")
    append(made, 1, 2)
    append(made, 3, 4)
    optimize(made)
    append(made, 5, 6)
    return made


def ids(table: Table, catalog: Catalog | None = None) -> list[int]:
    return sorted(table.scan().to_arrow()["id"].to_pylist())


def later(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


def age(table: Table, **span: float) -> None:
    """Make every file of the table older."""
    then = (datetime.now(UTC) - timedelta(**span)).timestamp()
    for path in on_disk(table):
        os.utime(path, (then, then))


def on_disk(table: Table) -> set[Path]:
    return {path for path in Path(table.location()).rglob("*") if path.is_file()}


def snapshot_ids(snapshots: Any) -> list[int]:
    return [each.snapshot_id for each in snapshots]


def test_old_snapshots_go_and_the_current_one_stays(table: Table) -> None:
    everything = snapshot_ids(table.snapshots())
    found = expirable(table, later(hours=1))
    assert snapshot_ids(found) == everything[:3]
    expire(table, found)
    assert snapshot_ids(table.refresh().snapshots()) == everything[3:]
    assert ids(table) == [1, 2, 3, 4, 5, 6]


def test_young_snapshots_and_the_last_few_stay(table: Table) -> None:
    snapshots = table.snapshots()
    assert expirable(table, later(hours=-1)) == []
    second = datetime.fromtimestamp(snapshots[1].timestamp_ms / 1000, UTC)
    assert snapshot_ids(expirable(table, second)) == [snapshots[0].snapshot_id]
    assert snapshot_ids(expirable(table, later(hours=1), keep=3)) == [snapshots[0].snapshot_id]
    assert expirable(table, later(hours=1), keep=99) == []


def test_published_and_tagged_snapshots_stay(table: Table) -> None:
    first, second, third, _ = snapshot_ids(table.snapshots())
    with table.transaction() as transaction:
        transaction.set_properties({PUBLISHED: str(first)})
    table.manage_snapshots().create_tag(second, "audit").commit()
    assert snapshot_ids(expirable(table, later(hours=1))) == [third]


def test_an_empty_table_has_nothing_to_forget(make_table: Make) -> None:
    made = make_table("none", "id bigint")
    assert expirable(made, later(hours=1)) == []
    assert unreferenced(made, later(hours=1)) == []
    expire(made, [])


def test_files_that_only_forgotten_snapshots_need_go(table: Table, catalog: Catalog) -> None:
    found = expirable(table, later(hours=1))
    before, rows = on_disk(table), ids(table)
    foreseen = unreferenced(table, later(hours=1), found)
    assert unreferenced(table, later(hours=1)) == []
    expire(table, found)
    files = unreferenced(table, later(hours=1))
    assert files == foreseen
    # Two appends of two files each, and manifests.
    assert sum(file.path.endswith(".parquet") for file in files) == 4
    assert sum(file.bytes for file in files) == sum(Path(file.path).stat().st_size for file in files)
    remove(table, files)
    assert {str(path) for path in before - on_disk(table)} == {file.path for file in files}
    fresh = find_table(catalog, "t.old")
    assert ids(fresh) == rows
    assert unreferenced(fresh, later(hours=1)) == []
    append(fresh, 7)
    assert ids(fresh) == [*rows, 7]


def test_kept_snapshots_can_still_be_read(table: Table) -> None:
    found = expirable(table, later(hours=1), keep=2)
    expire(table, found)
    remove(table, unreferenced(table, later(hours=1)))
    kept = table.refresh().snapshots()[0].snapshot_id
    assert sorted(table.scan(snapshot_id=kept).to_arrow()["id"].to_pylist()) == [1, 2, 3, 4]


def test_what_a_crashed_writer_left_goes_when_it_is_old(table: Table) -> None:
    lost = Path(table.location()) / "data" / "part=x" / "lost.parquet"
    lost.parent.mkdir(parents=True)
    lost.write_bytes(b"123")
    assert [(file.path, file.bytes) for file in unreferenced(table, later(hours=1))] == [(str(lost), 3)]
    assert unreferenced(table, later(hours=-1)) == []
    age(table, hours=2)
    assert [file.path for file in unreferenced(table, later(hours=-1))] == [str(lost)]


def test_what_is_not_a_data_file_or_a_manifest_stays(table: Table) -> None:
    for name in ("metadata/version-hint.text", "metadata/old.metadata.json", "README"):
        (Path(table.location()) / name).write_text("x")
    assert unreferenced(table, later(hours=1)) == []


def test_a_listing_that_lacks_a_needed_file_is_not_believed(table: Table) -> None:
    path = next(iter(table.scan().plan_files())).file.file_path
    Path(path).rename(f"{path}.away")
    with pytest.raises(
        TableError, match=r"t\.old needs .*\.parquet, which its folder does not have: nothing is removed"
    ):
        unreferenced(table, later(hours=1))


def test_files_outside_of_the_folder_are_not_looked_for(table: Table) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({"write.data.path": "/elsewhere"})
    with pytest.raises(TableError, match=r"keeps files outside of its own folder \(write\.data\.path\)"):
        unreferenced(table, later(hours=1))


Command = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def command(table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    catalog = local_config(tmp_path).catalog
    file = tmp_path / "settings.toml"
    file.write_text(f'[catalog]\nuri = "{catalog.uri}"\nwarehouse = "{catalog.warehouse}"\n')

    def run(*words: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as ended:
            main(["tables", *words, "--config", str(file)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out.splitlines(), err

    return run


def test_the_command_shows_first_and_removes_only_when_told(table: Table, command: Command) -> None:
    before = on_disk(table)
    code, dry, _ = command("expire", "t.old", "--older-than", "0s", "--dry-run")
    assert (code, on_disk(table), len(table.refresh().snapshots())) == (0, before, 4)
    assert [line.split("\t")[-1] for line in dry[:3]] == ["would be forgotten"] * 3
    assert all(line.endswith("\tnot needed") for line in dry[3:-1])
    assert dry[-1].startswith("t.old\t3 snapshots would be forgotten\t")
    assert dry[-1].endswith("could be removed with --delete-files")

    code, lines, _ = command("expire", "t.old", "--older-than", "0s")
    assert (code, len(table.refresh().snapshots())) == (0, 1)
    assert before <= on_disk(table)
    assert lines[3:-1] == dry[3:-1]

    age(table, days=2)
    assert command("expire", "t.old", "--older-than", "1d", "--delete-files", "--dry-run")[1][:-1] == dry[3:-1]
    code, lines, _ = command("expire", "t.old", "--older-than", "1d", "--delete-files")
    assert code == 0
    assert [line.replace("removed", "not needed") for line in lines[:-1]] == dry[3:-1]
    assert lines[-1].startswith("t.old\t0 snapshots forgotten\t")
    assert lines[-1].endswith(" bytes removed")
    assert ids(table) == [1, 2, 3, 4, 5, 6]
    assert not any(Path(line.split("\t")[0]).exists() for line in lines[:-1])


def test_the_age_keeps_files_of_forgotten_snapshots(table: Table, command: Command) -> None:
    """Young files stay although nothing names them; the next run finds them."""
    expire(table, expirable(table, later(hours=1)))
    before = on_disk(table)
    assert command("expire", "t.old", "--older-than", "7d", "--delete-files")[1] == [
        "t.old\t0 snapshots forgotten\t0 files, 0 bytes removed"
    ]
    assert on_disk(table) == before
    age(table, days=8)
    assert command("expire", "t.old", "--older-than", "7d", "--delete-files")[1][-1].endswith("bytes removed")
    assert len(on_disk(table)) < len(before)


def test_optimize_says_how_many_files(table: Table, command: Command) -> None:
    code, lines, _ = command("optimize", "t.old")
    assert code == 0
    assert len(lines) == 1
    name, before, after = lines[0].split("\t")
    assert (name, before.split(",")[0], after.split(",")[0]) == ("t.old", "4 files", "now 2 files")
    assert command("optimize", "t.old")[1] == ["t.old\tnothing to do, 2 files"]


def test_one_job_at_a_time(table: Table, command: Command, catalog: Catalog, tmp_path: Path) -> None:
    place = lock.place_of(local_config(tmp_path), catalog.properties["warehouse"], "t.old")
    with lock.held(place, "materialize t.old", 100):
        for words in (("optimize", "t.old"), ("expire", "t.old", "--older-than", "1d")):
            code, lines, error = command(*words)
            assert (code, lines) == (1, [])
            assert error.startswith("error: [bad-table] locked: materialize t.old by ")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("optimize", "t.odl"), 1, "there is no table 't.odl'; did you mean 't.old'"),
        (("expire", "t.old", "--older-than", "week"), 2, "is no length of time"),
        (("expire", "t.old"), 2, "--older-than"),
        (("expire", "t.old", "--older-than", "23h", "--delete-files"), 2, "23h is too young for --delete-files"),
        (("expire", "t.old", "--older-than", "1d", "--keep", "0"), 2, "--keep"),
    ],
)
def test_wrong_usage(command: Command, words: tuple[str, ...], code: int, error: str) -> None:
    found = command(*words)
    assert found[0] == code
    assert error in " ".join(found[2].split())
