"""`athena-flight results sweep` over a local S3: what it removes, what it would remove, what it leaves alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.cli import main
from flight_server.config import Config
from flight_server.server import build_store
from flight_server.tables.lock import Holder, S3Place
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, Labs

FINGERPRINT = "ab" + "0" * 62
Sweep = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def config(labs: Labs) -> Config:
    return labs.configure({"ids": IDS})


@pytest.fixture
def sweep(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sweep:
    """Run the command; gives its exit code, its lines and its errors."""
    file = tmp_path / "settings.toml"
    aws = "".join(f'{name} = "{value}"\n' for name, value in config.aws if value)
    file.write_text(f'[aws]\n{aws}[athena]\nresults = "{config.athena.results}"\n')

    def run(*words: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as ended:
            main(["results", "sweep", "--config", str(file), *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out.splitlines(), err

    return run


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move this process's clock: S3 gives no object an older date."""
    now = time.time
    return lambda days: monkeypatch.setattr(time, "time", lambda: now() + days * 86_400)


def put(aws: LocalAws, uri: str, body: bytes = b"12345") -> None:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def keys(aws: LocalAws, config: Config) -> list[str]:
    bucket, _, prefix = config.athena.results.removeprefix("s3://").partition("/")
    found = aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in found]


def test_files_of_a_failed_run_go_and_those_of_results_stay(
    labs: Labs, config: Config, aws: LocalAws, sweep: Sweep, days_later: Callable[[float], None]
) -> None:
    lab = labs.open_again(config)
    before = lab.ask("ids", first=0)
    kept = keys(aws, config)
    fingerprint = kept[0].split("/")[1]
    store = build_store(config)
    # One beside a complete result, one whose name begins like that of another, one of a fingerprint without a result.
    for name in (store.attempt_uri(fingerprint, "2026-01-01-7"), store.attempt_uri(FINGERPRINT, "2026-01-01-1")):
        put(aws, f"{name}part-0")
        put(aws, f"{name}part-1")
    put(aws, f"{store.attempt_uri(FINGERPRINT, '2026-01-01-10')}part-0")
    days_later(2)
    would = sweep("--dry-run")
    assert len(keys(aws, config)) == len(kept) + 5
    done = sweep()
    assert keys(aws, config) == kept
    assert would[0] == done[0] == 0
    assert [line.replace("would be removed", "removed") for line in would[1]] == done[1]
    assert f"s3://{store._root}/ab/{FINGERPRINT}/2026-01-01-1/\t2 files\t10 bytes\tremoved" in done[1]
    assert done[1][-1] == "removed: 3 prefixes, 5 files, 25 bytes; 0 locks"
    assert sweep()[1] == ["removed: 0 prefixes, 0 files, 0 bytes; 0 locks"]
    assert labs.open_again(config).ask("ids", first=0).equals(before)


def test_files_younger_than_the_age_stay(
    config: Config, aws: LocalAws, sweep: Sweep, days_later: Callable[[float], None]
) -> None:
    put(aws, f"{build_store(config).attempt_uri(FINGERPRINT, '2026-01-01-0')}part-0")
    assert sweep()[1] == ["removed: 0 prefixes, 0 files, 0 bytes; 0 locks"]
    days_later(0.5)
    assert sweep()[1] == ["removed: 0 prefixes, 0 files, 0 bytes; 0 locks"]
    assert sweep("--older-than", "6h")[1][-1] == "removed: 1 prefixes, 1 files, 5 bytes; 0 locks"


def test_what_is_not_of_the_store_stays(
    config: Config, aws: LocalAws, sweep: Sweep, days_later: Callable[[float], None]
) -> None:
    """Athena's own manifests, where the work group writes into the same prefix, and what else somebody put there."""
    others = ["q-manifest.csv", "q.metadata", "ab/readme", "locked/x.json", f"ab/{FINGERPRINT}/file", "a/b/c/d/e"]
    for name in others:
        put(aws, f"{config.athena.results}/{name}")
    days_later(2)
    assert sweep()[1] == ["removed: 0 prefixes, 0 files, 0 bytes; 0 locks"]
    assert sorted(keys(aws, config)) == sorted(others)


def test_an_age_that_a_running_query_can_have_is_refused(sweep: Sweep) -> None:
    code, lines, error = sweep("--older-than", "5m")
    assert (code, lines) == (1, [])
    assert error == (
        "error: [bad-config] 300 s is too young: a query of this server may run 300 s (limits.timeout_s), "
        "so say --older-than 360s or more\n"
    )
    assert sweep("--older-than", "6m")[0] == 0


@pytest.mark.parametrize("text", ["1", "d", "1 day", "-1d", "1w", ""])
def test_what_is_no_length_of_time_is_wrong_usage(sweep: Sweep, text: str) -> None:
    code, _, error = sweep("--older-than", text)
    assert code == 2
    assert "is no length of time" in " ".join(error.replace("│", " ").split())


def test_a_result_that_came_to_be_meanwhile_is_kept(labs: Labs, config: Config, aws: LocalAws) -> None:
    """The listing saw files without a result; before they are removed, another replica completes it."""
    lab = labs.open_again(config)
    lab.ask("ids", first=0)
    manifest = next(key for key in keys(aws, config) if key.endswith("result.json"))
    store = build_store(config)
    bucket, _, prefix = config.athena.results.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/{manifest}")["Body"].read()
    aws.client("s3").delete_object(Bucket=bucket, Key=f"{prefix}/{manifest}")
    orphans = list(store.orphans(0))
    put(aws, f"{config.athena.results}/{manifest}", body)
    assert [store.remove(orphan) for orphan in orphans] == [False]
    assert labs.open_again(config).ask("ids", first=0).num_rows == 600


def test_locks_of_the_dead_go_and_those_of_the_living_stay(
    config: Config, aws: LocalAws, sweep: Sweep, days_later: Callable[[float], None]
) -> None:
    aws.faults.update({"running_s": 30})
    athena = aws.client("athena")
    running = athena.start_query_execution(QueryString="SELECT 1 AS a")["QueryExecutionId"]
    for name, query_id in (("a.dead", ""), ("a.living", running)):
        place = S3Place(aws.client("s3"), f"{config.athena.results}/locks/{name}.json")
        assert place.create(Holder("x", "host-9 process 1", f"materialize {name}", time.time(), query_id))
    assert sweep()[1] == ["removed: 0 prefixes, 0 files, 0 bytes; 0 locks"]
    days_later(1)
    code, lines, _ = sweep("--dry-run")
    assert (code, len(keys(aws, config))) == (0, 2)
    assert "lock of materialize a.dead by host-9 process 1 since 20" in lines[0]
    assert sweep()[1][-1] == "removed: 0 prefixes, 0 files, 0 bytes; 1 locks"
    assert keys(aws, config) == ["locks/a.living.json"]
    athena.stop_query_execution(QueryExecutionId=running)


def test_without_a_result_prefix_there_is_nothing_to_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["results", "sweep", "--config", str(tmp_path / "empty.toml")])
    assert ended.value.code == 1
    assert "setting 'athena.results'" in capsys.readouterr().err


def test_the_life_cycle_rule_is_taken_by_s3(aws: LocalAws) -> None:
    rule = json.loads((Path(__file__).parents[2] / "deploy" / "results-lifecycle.json").read_text())
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="ruled")
    s3.put_bucket_lifecycle_configuration(Bucket="ruled", LifecycleConfiguration=rule)
    kept = s3.get_bucket_lifecycle_configuration(Bucket="ruled")["Rules"]
    assert [(each["ID"], each["Expiration"]["Days"]) for each in kept] == [("athena-flight-results", 30)]
