"""Kept results of the embedded engine: whole ones only, bounded, least recently used out first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from flight_server.errors import EngineFailed, ResultLost
from flight_server.results.local import LocalStore

LARGE = 100_000_000


def batches(count: int = 3, rows: int = 1000) -> list[pa.RecordBatch]:
    """Batches whose bytes lz4 cannot make fewer."""
    return [pa.record_batch({"noise": pa.array([os.urandom(16) for _ in range(rows)])}) for _ in range(count)]


def broken(first: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from first
    raise EngineFailed("broken off")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStore]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(LocalStore(LARGE)) as opened:
        yield opened


def files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.arrow"))


def read(store: LocalStore, fingerprint: str) -> list[pa.RecordBatch]:
    found = store.find(fingerprint)
    assert found is not None
    return list(store.read(found))


def test_what_came_to_its_end_is_read_again(store: LocalStore) -> None:
    sent = batches()
    assert list(store.keep("a", iter(sent))) == sent
    assert read(store, "a") == sent
    assert read(store, "a") == sent
    found = store.find("a")
    assert found is not None
    assert (found.rows, found.bytes) == (3000, sum(batch.nbytes for batch in sent))


def test_what_is_being_sent_is_not_found_yet(store: LocalStore) -> None:
    sending = store.keep("a", iter(batches()))
    next(sending)
    assert store.find("a") is None


def test_a_result_without_rows_is_kept_too(store: LocalStore) -> None:
    assert list(store.keep("a", iter([]))) == []
    assert read(store, "a") == []


def test_a_broken_off_result_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed):
        list(store.keep("a", broken(batches())))
    abandoned = store.keep("b", iter(batches()))
    next(abandoned)
    abandoned.close()
    assert (store.find("a"), store.find("b"), files(tmp_path), store.used) == (None, None, [], 0)


def test_a_failed_run_leaves_the_result_of_an_earlier_one(store: LocalStore) -> None:
    sent = batches()
    list(store.keep("a", iter(sent)))
    with pytest.raises(EngineFailed):
        list(store.keep("a", broken(sent[:1])))
    assert read(store, "a") == sent


def test_the_least_recently_used_leave_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = batches(1)
    # Room for four and a bit.
    with closing(LocalStore(int(sent[0].nbytes * 4.5))) as store:
        for name in "abcd":
            list(store.keep(name, iter(sent)))
        read(store, "a")
        list(store.keep("e", iter(sent)))
        assert {name for name in "abcde" if store.find(name)} == set("acde")
        assert len(files(tmp_path)) == 4
        assert store.used == sum(file.stat().st_size for file in files(tmp_path))


def test_results_that_are_being_written_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = batches(1)
    # Each of these is less than a quarter.
    most = int(sent[0].nbytes * 4.5)
    with closing(LocalStore(most)) as store:
        list(store.keep("old", iter(sent)))
        fitting = most // store.used
        assert 4 <= fitting < 6
        sending = [store.keep(name, iter(batches(1))) for name in "abcdef"]
        for each in sending:
            next(each)
        on_disk = sum(file.stat().st_size for file in files(tmp_path))
        # The older ones leave for those that are written; what finds no room then is given up.
        assert store.find("old") is None
        assert on_disk <= most
        assert store.used == on_disk
        for each in sending:
            list(each)
        assert [name for name in "abcdef" if store.find(name)] == list("abcdef"[:fitting])
        assert store.used == sum(file.stat().st_size for file in files(tmp_path)) <= most


def test_what_is_broken_off_gives_its_bytes_back(store: LocalStore) -> None:
    sending = store.keep("a", iter(batches()))
    next(sending)
    assert store.used > 0
    sending.close()
    assert store.used == 0


def test_one_large_result_does_not_push_out_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = batches(1)
    with closing(LocalStore(int(sent[0].nbytes * 4.5))) as store:
        list(store.keep("small", iter(sent)))
        large = batches(3)
        assert list(store.keep("large", iter(large))) == large
        assert store.find("large") is None
        assert store.find("small") is not None
        assert len(files(tmp_path)) == 1


def test_a_reader_can_finish_what_is_pushed_out_meanwhile(store: LocalStore) -> None:
    sent = batches()
    list(store.keep("a", iter(sent)))
    found = store.find("a")
    assert found is not None
    reading = store.read(found)
    first = next(reading)
    store.forget(found)
    assert [first, *reading] == sent
    assert store.find("a") is None


@pytest.mark.parametrize("harm", ["removed", "cut", "garbage"])
def test_a_harmed_file_is_never_a_short_result(store: LocalStore, tmp_path: Path, harm: str) -> None:
    list(store.keep("a", iter(batches())))
    (file,) = files(tmp_path)
    if harm == "removed":
        file.unlink()
    elif harm == "cut":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(b"garbage" * 100)
    with pytest.raises(ResultLost):
        read(store, "a")
    assert store.find("a") is None


def test_age_counts_where_it_is_asked_for(store: LocalStore) -> None:
    list(store.keep("a", iter(batches())))
    assert store.find("a", 60.0) is not None
    assert store.find("a", 0.0) is None


def test_a_disk_that_cannot_be_written_keeps_nothing_and_harms_nothing(store: LocalStore, tmp_path: Path) -> None:
    list(store.keep("a", iter(batches())))
    (folder,) = {file.parent for file in files(tmp_path)}
    for file in files(tmp_path):
        file.unlink()
    folder.rmdir()
    sent = batches()
    assert list(store.keep("b", iter(sent))) == sent
    assert store.find("b") is None


def test_closing_removes_all_files(store: LocalStore, tmp_path: Path) -> None:
    list(store.keep("a", iter(batches())))
    sending = store.keep("b", iter(batches()))
    next(sending)
    store.close()
    list(sending)
    assert (files(tmp_path), store.find("a"), store.find("b"), store.used) == ([], None, None, 0)
