"""Filling a table from its query on the embedded engine: when it runs, what readers see, what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from flight_server.cli import main
from flight_server.errors import DatasetError, EngineFailed, Error, TableError
from flight_server.plan.scan import PUBLISHED, Tables
from flight_server.tables import lock
from flight_server.tables.load import load_file
from flight_server.tables.locate import locator
from flight_server.tables.replace import replace_rows
from tests.fix_materialize import FEBRUARY, JANUARY, MARCH, QUERY, TOTALS, Shop


def test_creates_and_fills_the_table_and_its_dataset_serves_it(shop: Shop) -> None:
    done = shop.fill()
    assert done.filled is not None
    assert (done.table, done.filled.rows, done.filled.files) == ("made.totals", 2, 2)
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]
    rows = sorted(shop.table().scan().to_arrow().to_pylist(), key=lambda row: row["day"])
    assert rows[0] == {"day": JANUARY, "total": 3.0, "n": 2, "note": None}


def test_the_same_inputs_are_not_paid_for_twice(shop: Shop) -> None:
    first = shop.fill()
    assert shop.fill().filled is None
    assert len(shop.table().snapshots()) == 1
    forced = shop.fill(force=True)
    assert forced.filled is not None
    assert forced.plan.fingerprint == first.plan.fingerprint
    assert len(shop.table().snapshots()) == 2
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]


def test_new_rows_of_a_source_are_seen_and_replace_the_old(shop: Shop) -> None:
    shop.fill()
    shop.sell((FEBRUARY, 10.0), (MARCH, 7.0))
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]
    assert shop.fill().filled is not None
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 14.0), (MARCH, 7.0)]
    # One commit: no snapshot in which the table was empty.
    assert [len(list(shop.table().scan(snapshot_id=s.snapshot_id).plan_files())) for s in shop.table().snapshots()] == [
        2,
        3,
    ]


def test_a_changed_query_runs_and_a_comment_does_not_matter(shop: Shop) -> None:
    shop.fill()
    shop.write("materialize/totals.sql", f"-- a comment\n{QUERY}")
    assert shop.fill().filled is None
    shop.write("materialize/totals.sql", QUERY.replace("SUM", "MAX"))
    assert shop.fill().filled is not None
    assert shop.read() == [(JANUARY, 2.0), (FEBRUARY, 4.0)]


def test_rows_that_somebody_else_wrote_are_not_served_and_are_repaired(shop: Shop) -> None:
    shop.fill()
    row = {"day": [MARCH], "total": [9.0], "n": [1], "note": ["by hand"]}
    schema = shop.table().scan().to_arrow().schema
    shop.table().append(pa.table(row, schema))
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]
    assert shop.fill().filled is not None
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]
    assert shop.table().scan().to_arrow().num_rows == 2


def test_no_rows_empty_the_table(shop: Shop) -> None:
    shop.fill()
    shop.write("materialize/totals.sql", QUERY.replace("GROUP BY", "WHERE s.amount > 1000 GROUP BY"))
    done = shop.fill()
    assert done.filled is not None
    assert (done.filled.rows, shop.read()) == (0, [])
    assert shop.fill().filled is None


def test_no_rows_into_an_empty_table(shop: Shop) -> None:
    shop.write("materialize/totals.sql", QUERY.replace("GROUP BY", "WHERE s.amount > 1000 GROUP BY"))
    assert shop.fill().filled is not None
    assert (shop.read(), shop.table().snapshots()) == ([], [])
    assert shop.fill().filled is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT s.day, 'x' AS total", "column 'total' is VARCHAR and the table has DOUBLE; write CAST"),
        ("SELECT s.day, s.amount AS n", r"column 'n' is DOUBLE and the table has BIGINT; write CAST\(… AS BIGINT\)"),
        ("SELECT s.day, s.amount AS totl", "column 'totl' is not in the table; did you mean 'total'"),
        ("SELECT s.amount AS total", "column 'day' is missing and must not be null"),
        ("SELECT s.day, s.day", "column 'day' is there 2 times"),
        ("SELECT *", r"column '\*' is not in the table"),
        ("SELECT s.day FROM raw.sales AS s WHERE s.day > :first", "has no parameters"),
        ("SELECT t.day FROM made.totals AS t", r"it reads made\.totals, the table that it fills"),
        ("SELECT s.day FROM raw.sales AS s WHERE random() < 0.5", "rand changes from call to call"),
        ("SELECT x.day FROM read_csv('/etc/passwd') AS x", "is not allowed in FROM"),
        ("DELETE FROM raw.sales", "not DELETE"),
        ("SELECT s.day FROM raw.sales AS s; SELECT 1", "has 2 statements"),
        ("SELECT s.dya AS day", "dya"),
        ("SELECT s.day FROM", "not SQL"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused_before_anything_is_written(shop: Shop, query: str, reason: str) -> None:
    shop.write("materialize/totals.sql", query if "FROM" in query else f"{query} FROM raw.sales AS s")
    with pytest.raises(Error, match=reason):
        shop.fill()
    assert (shop.table().snapshots(), shop.table().properties.get(PUBLISHED), files(shop)) == ([], None, set())
    assert shop.place().read() is None


def files(shop: Shop) -> set[str]:
    warehouse = Path(shop.catalog.properties["warehouse"])
    return {str(path) for path in warehouse.rglob("*.parquet") if "totals" in str(path)}


def test_a_null_where_none_may_be_changes_nothing(shop: Shop) -> None:
    shop.fill()
    before, written = shop.table().metadata_location, files(shop)
    shop.write(
        "materialize/totals.sql",
        "SELECT NULLIF(s.day, DATE '2024-02-01') AS day, s.amount AS total FROM raw.sales AS s",
    )
    with pytest.raises(TableError, match=r"column 'day', row \d: null, but the column must not be null"):
        shop.fill()
    assert (shop.table().metadata_location, files(shop)) == (before, written)
    assert shop.place().read() is None
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]


def test_a_query_that_fails_half_way_changes_nothing(shop: Shop) -> None:
    shop.fill()
    before, written = shop.table().metadata_location, files(shop)
    shop.write(
        "materialize/totals.sql",
        "SELECT s.day, CAST(CAST(s.amount AS VARCHAR) || 'x' AS DOUBLE) AS total FROM raw.sales AS s",
    )
    with pytest.raises(EngineFailed):
        shop.fill()
    assert (shop.table().metadata_location, files(shop)) == (before, written)


def test_a_commit_in_between_is_not_overwritten(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else writes to the table between this run's look and its commit."""
    shop.fill()
    shop.sell((MARCH, 1.0))
    schema = shop.table().scan().to_arrow().schema

    def late(table: Table, *rest: Any) -> Any:
        row = {"day": [MARCH], "total": [9.0], "n": [1], "note": ["by hand"]}
        shop.table().append(pa.table(row, schema))
        return replace_rows(table, *rest)

    written = files(shop)
    monkeypatch.setattr("flight_server.tables.fill.replace_rows", late)
    with pytest.raises(TableError, match=r"cannot write to table 'made\.totals'.*it is as it was, try again"):
        shop.fill()
    assert len(files(shop)) == len(written) + 1
    assert shop.table().scan().to_arrow().num_rows == 3
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]


def test_a_second_run_at_the_same_time_is_refused(shop: Shop) -> None:
    with lock.held(shop.place(), "materialize made.totals", 100):
        with pytest.raises(TableError, match=r"locked: materialize made\.totals by"):
            shop.fill()
        assert not shop.table().snapshots()
    assert shop.fill().filled is not None


def test_many_runs_at_once_fill_once(shop: Shop) -> None:
    shop.fill()
    shop.sell((MARCH, 1.0))
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        try:
            outcomes.append("filled" if shop.fill().filled else "up to date")
        except TableError as error:
            outcomes.append(error.message.split(":")[0])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("filled") == 1
    assert set(outcomes) <= {"filled", "up to date", "locked"}
    assert len(shop.table().snapshots()) == 2


def test_loading_into_a_filled_table_is_refused_with_the_way_out(shop: Shop, tmp_path: Path) -> None:
    shop.fill()
    (tmp_path / "more.csv").write_text("day,total\n2024-03-01,1\n")
    with pytest.raises(TableError, match=r"filled by 'athena-flight materialize'.*change its query instead"):
        load_file(shop.table(), tmp_path / "more.csv")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('query = "materialize/totals.sql"', 'query = "materialize/none.sql"', "cannot read the query that fills"),
        ('query = "materialize/totals.sql"', 'query = "../totals.sql"', "lies outside of the datasets' folder"),
        ('-- query = "materialize/totals.sql"\n', "", "has no .materialize. with table and query"),
        ('table = "made.totals"', 'table = "made.total"', "no DDL file for it; did you mean 'made.totals'"),
    ],
)
def test_a_wrong_materialize_section_is_named(shop: Shop, old: str, new: str, reason: str) -> None:
    shop.write("totals.sql", TOTALS.replace(old, new))
    with pytest.raises((DatasetError, TableError), match=reason):
        shop.fill()


def test_a_published_snapshot_that_is_gone_is_an_error_and_not_other_rows(shop: Shop) -> None:
    shop.fill()
    with shop.table().transaction() as transaction:
        transaction.set_properties({PUBLISHED: "17"})
    with pytest.raises(Error, match=r"the published snapshot 17 of made\.totals is gone; materialize it again"):
        shop.read()
    assert shop.fill().filled is not None
    assert shop.read() == [(JANUARY, 3.0), (FEBRUARY, 4.0)]


def test_a_moment_is_read_whatever_is_published(shop: Shop) -> None:
    shop.fill()
    first = shop.table().current_snapshot()
    assert first is not None
    shop.sell((MARCH, 7.0))
    shop.fill()
    tables = Tables(shop.catalog, locator(shop.catalog))
    assert tables.pin("made.totals", snapshot=first.snapshot_id).pin.snapshot_id == first.snapshot_id
    now = shop.table().metadata.current_snapshot_id
    assert tables.pin("made.totals").pin.snapshot_id == now


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    file = tmp_path / "settings.toml"
    catalog = f'[catalog]\nuri = "{shop.config.catalog.uri}"\nwarehouse = "{shop.config.catalog.warehouse}"\n'
    file.write_text(f'{catalog}[datasets]\ndirectory = "{shop.folder}"\n')

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--config", str(file)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_the_command_says_what_it_did(shop: Shop, command: Command) -> None:
    code, out, err = command("materialize", "totals")
    snapshot = shop.table().metadata.current_snapshot_id
    assert (code, out, err) == (0, f"made.totals\t2 rows in 2 files\tsnapshot {snapshot}\n", "")
    assert command("materialize", "totals") == (0, "made.totals\tup to date\n", "")
    assert command("materialize", "totals", "--force")[1].startswith("made.totals\t2 rows")
    with lock.held(shop.place(), "materialize made.totals", 100):
        code, out, err = command("materialize", "totals", "--force")
    assert (code, out) == (1, "")
    assert err.startswith("error: [bad-table] locked: materialize made.totals by ")
    assert command("materialize", "totls")[2].startswith("error: [unknown-dataset] there is no dataset 'totls'")
