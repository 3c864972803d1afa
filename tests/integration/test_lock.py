"""The lock of a table, on disk and in S3: one behaviour suite over both places."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flight_server.config import Config
from flight_server.errors import TableError
from flight_server.tables.lock import FilePlace, Held, Holder, Place, S3Place, held, place_of
from tests.fakes.aws import LocalAws

AGE_S = 100.0


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Opens the same lock, as another process would."""
    if request.param == "file":
        return lambda: FilePlace(tmp_path / ".locks" / "a.b.json")
    aws: LocalAws = request.getfixturevalue("aws")
    uri = f"s3://{aws.bucket}/{uuid.uuid4().hex}/locks/a.b.json"
    return lambda: S3Place(aws.client("s3"), uri)


def left_behind(place: Place, age_s: float, query_id: str = "") -> None:
    """A lock whose process died `age_s` ago."""
    assert place.create(Holder("dead", "host-9 process 1", "materialize a.b", time.time() - age_s, query_id))


def test_a_second_holder_is_told_who_has_it_since_when(place: Callable[[], Place]) -> None:
    with (
        held(place(), "materialize a.b", AGE_S),
        pytest.raises(
            TableError, match=rf"locked: materialize a\.b by \S+ process {os.getpid()} since 20\d\d-"
        ) as refused,
        held(place(), "optimize a.b", AGE_S),
    ):
        pass
    assert "taken over 100 s after it was made, or at once when you remove" in str(refused.value)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_released_however_the_work_ends(place: Callable[[], Place], error: type[BaseException]) -> None:
    def work() -> None:
        with held(place(), "work", AGE_S):
            assert place().read() is not None
            raise error

    with pytest.raises(error):
        work()
    assert place().read() is None


def test_of_many_at_the_same_moment_one_gets_it(place: Callable[[], Place]) -> None:
    everybody, done, got = threading.Barrier(8), threading.Event(), []

    def run() -> None:
        mine = place()
        everybody.wait()
        try:
            with held(mine, "work", AGE_S):
                got.append(threading.get_ident())
                done.wait(20)
        except TableError:
            if len(got) == 1:
                refused.release()

    refused = threading.Semaphore(0)
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert refused.acquire(timeout=20)
    done.set()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert place().read() is None


def test_a_lock_left_behind_is_taken_over_when_old(place: Callable[[], Place]) -> None:
    left_behind(place(), AGE_S + 1)
    said: list[str] = []
    with held(place(), "work", AGE_S, say=said.append):
        found = place().read()
        assert found is not None
        assert found[0].work == "work"
    assert len(said) == 1
    assert said[0].startswith("took over the lock of materialize a.b by host-9 process 1 since 20")


def test_a_lock_left_behind_is_respected_while_young(place: Callable[[], Place]) -> None:
    left_behind(place(), AGE_S - 50)
    with pytest.raises(TableError, match="locked: materialize"), held(place(), "work", AGE_S):
        pass
    found = place().read()
    assert found is not None
    assert found[0].owner == "dead"


@pytest.mark.parametrize("ended", [True, False])
def test_a_query_that_still_runs_keeps_an_old_lock(place: Callable[[], Place], ended: bool) -> None:
    left_behind(place(), AGE_S + 1, "q-1")
    asked: list[str] = []

    def has_ended(query_id: str) -> bool:
        asked.append(query_id)
        return ended

    if ended:
        with held(place(), "work", AGE_S, has_ended):
            pass
    else:
        with pytest.raises(TableError, match="Athena query q-1"), held(place(), "work", AGE_S, has_ended):
            pass
    assert asked == ["q-1"]


def test_of_many_that_take_over_one_gets_it(place: Callable[[], Place]) -> None:
    left_behind(place(), AGE_S + 1)
    found = place().read()
    assert found is not None
    mine = replace(found[0], owner="first", since=time.time())
    assert place().replace(mine, found[1]) is not None
    # The second one acts on what it has seen before the first one did.
    assert place().replace(replace(mine, owner="second"), found[1]) is None
    now = place().read()
    assert now is not None
    assert now[0].owner == "first"


def test_a_holder_that_was_taken_over_stops_and_leaves_the_lock_alone(place: Callable[[], Place]) -> None:
    def taken(lock: Held) -> None:
        found = place().read()
        assert found is not None
        assert place().replace(replace(found[0], owner="other"), found[1]) is not None
        lock.note("q-2")

    with pytest.raises(TableError, match="taken over by another process"), held(place(), "work", AGE_S) as lock:
        taken(lock)
    found = place().read()
    assert found is not None
    assert (found[0].owner, found[0].query_id) == ("other", "")


def test_the_query_that_is_waited_for_is_written_down(place: Callable[[], Place]) -> None:
    with held(place(), "work", AGE_S) as lock:
        lock.note("q-1")
        lock.note("q-2")
        found = place().read()
        assert found is not None
        assert found[0].query_id == "q-2"
    assert place().read() is None


def test_a_damaged_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.b.json"
    path.write_text("{")
    with pytest.raises(TableError, match=r"a\.b\.json cannot be read; remove it"), held(FilePlace(path), "work", AGE_S):
        pass


def test_no_other_file_stays_beside_the_lock(tmp_path: Path) -> None:
    with held(FilePlace(tmp_path / "a.b.json"), "work", AGE_S) as lock:
        lock.note("q")
        assert [path.name for path in tmp_path.iterdir()] == ["a.b.json"]
        assert json.loads((tmp_path / "a.b.json").read_text())["query_id"] == "q"
    assert list(tmp_path.iterdir()) == []


def test_where_the_lock_is(tmp_path: Path, aws_environment: LocalAws) -> None:
    local = Config()
    assert place_of(local, str(tmp_path), "a.b").uri == f"{tmp_path}/.locks/a.b.json"
    assert place_of(local, "s3://b/w", "a.b").uri == "s3://b/w/locks/a.b.json"
    athena = Config(athena=local.athena.model_copy(update={"results": "s3://b/r/"}))
    assert place_of(athena, "s3://b/w", "a.b").uri == "s3://b/r/locks/a.b.json"
