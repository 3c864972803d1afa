"""`athena-flight tables optimize` and `expire`, and `materialize`, against Glue, S3 and Athena."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flight_server.cli import main
from flight_server.config import Config
from flight_server.plan.scan import PUBLISHED
from flight_server.tables.expire import remove, unreferenced
from tests.fix_materialize import FEBRUARY, JANUARY, MARCH, Depot
from tests.waiting import until

Command = Callable[..., tuple[int, list[str], str]]
OLD = [(JANUARY, 3.0), (FEBRUARY, 4.0)]


@pytest.fixture
def file(depot: Depot, tmp_path: Path) -> Path:
    """The settings as a file."""
    path = tmp_path / f"{uuid.uuid4().hex}.toml"
    path.write_text(as_toml(depot.lab.config))
    return path


@pytest.fixture
def command(file: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--config", str(file)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out.splitlines(), err

    return run


def as_toml(config: Config) -> str:
    aws = "".join(f'{name} = "{value}"\n' for name, value in config.aws if value)
    return (
        f'[server]\nengines = ["athena"]\n[datasets]\ndirectory = "{config.datasets.directory}"\n'
        f'[catalog]\nkind = "glue"\nwarehouse = "{config.catalog.warehouse}"\n[aws]\n{aws}'
        f'[athena]\nresults = "{config.athena.results}"\n'
    )


def test_optimize_runs_on_athena_and_is_repeated_when_it_asks_for_it(depot: Depot, command: Command) -> None:
    for day in (JANUARY, FEBRUARY, MARCH):
        depot.sell((day, 1.0))
    name = f"raw{depot.suffix}.sales"
    depot.aws.faults.update({"fail_next": [{"message": "ICEBERG_OPTIMIZE_MORE_RUNS_NEEDED: run again"}]})
    code, lines, error = command("tables", "optimize", name)
    assert (code, error) == (0, "")
    assert [text.split(",")[0] for text in lines[0].split("\t")] == [name, "4 files", "now 1 files"]
    assert lines[1].endswith("\t$0.000050")
    assert depot.started() == ["OPTIMIZE", "OPTIMIZE"]
    assert depot.table("raw.sales").scan().to_arrow().num_rows == 6
    assert depot.place(name).read() is None


def test_optimize_moves_what_is_published_and_a_failure_does_not(depot: Depot, command: Command) -> None:
    depot.fill()
    name, before = f"made{depot.suffix}.totals", depot.table().properties[PUBLISHED]
    depot.aws.faults.update({"fail_next": [{"message": "broken"}]})
    code, lines, error = command("tables", "optimize", name)
    assert (code, lines) == (1, [])
    assert "broken" in error
    assert depot.table().properties[PUBLISHED] == before
    assert command("tables", "optimize", name)[0] == 0
    current = str(depot.table().metadata.current_snapshot_id)
    assert depot.table().properties[PUBLISHED] == current != before
    assert depot.read() == OLD
    # Its rows are those of the same inputs still.
    assert depot.fill().filled is None


def test_materialize_reports_queries_and_cost(depot: Depot, command: Command) -> None:
    code, lines, error = command("materialize", "totals")
    assert (code, error) == (0, "")
    assert lines[0].startswith(f"made{depot.suffix}.totals\t2 rows in 2 files\tsnapshot ")
    query = depot.aws.athena.state()["executions"][-1]["id"]
    assert lines[1].startswith(f"query {query}\t")
    assert lines[1].endswith(" bytes scanned\t$0.000050")
    assert command("materialize", "totals")[1] == [f"made{depot.suffix}.totals\tup to date"]


def test_expire_removes_files_from_s3(depot: Depot, command: Command) -> None:
    depot.fill()
    depot.sell((MARCH, 7.0))
    depot.fill()
    name, rows = f"made{depot.suffix}.totals", depot.read()
    before = keys(depot)
    code, dry, _ = command("tables", "expire", name, "--older-than", "0s", "--dry-run")
    assert (code, keys(depot)) == (0, before)
    # The snapshots that a crash would be repaired from: empty, filled, deleted, filled again.
    assert dry[-1].startswith(f"{name}\t3 snapshots would be forgotten\t")
    code, lines, error = command("tables", "expire", name, "--older-than", "0s")
    assert (code, error, keys(depot) - before) == (0, "", set())
    files = unreferenced(depot.table(), datetime.now(UTC))
    remove(depot.table(), files)
    gone = {line.split("\t")[0] for line in lines[3:-1]}
    assert before - keys(depot) == gone == {file.path for file in files}
    assert any(path.endswith(".parquet") for path in gone)
    assert depot.read() == depot.read("duckdb") == rows


def keys(depot: Depot) -> set[str]:
    """`bucket/key` of everything below the filled table but its metadata.json files."""
    bucket, _, prefix = depot.table().location().removeprefix("s3://").partition("/")
    found = depot.aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return {f"{bucket}/{entry['Key']}" for entry in found if not entry["Key"].endswith(".metadata.json")}


def test_a_terminated_run_stops_its_query_and_releases_its_lock(depot: Depot, file: Path) -> None:
    depot.aws.faults.update({"running_s": 60})
    place, words = depot.place(f"made{depot.suffix}.totals"), ["materialize", "totals", "--config", str(file)]
    process = subprocess.Popen([sys.executable, "-m", "flight_server", *words], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (found := place.read()) is not None and found[0].query_id)
        found = place.read()
        assert found is not None
        process.terminate()
        assert process.communicate(timeout=60)[1].strip() in ("", "Aborted.")
    finally:
        process.kill()
        process.wait()
    assert process.returncode not in (0, -signal.SIGTERM)
    assert place.read() is None
    ended = {"id": found[0].query_id, "state": "CANCELLED"}
    until(lambda: ended in [{"id": e["id"], "state": e["state"]} for e in depot.aws.athena.state()["executions"]])
