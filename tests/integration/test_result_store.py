"""The result store over S3: what is complete is found, by any replica; nothing else is served; leftovers are found."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from pyarrow import fs as pafs

from flight_server.errors import EngineFailed, ResultLost
from flight_server.results.parts import Budget, PartReader
from flight_server.results.store import Store
from tests.fakes.athena.output import filesystem
from tests.fakes.aws import LocalAws

FINGERPRINT = "abcd" * 16
NEVER = threading.Event()


@dataclass
class Replicas:
    """Stores that share a prefix and nothing else."""

    files: pafs.S3FileSystem
    root: str
    endpoint: str

    def store(self, endpoint: str | None = None) -> Store:
        control = s3fs.S3FileSystem(
            endpoint_url=endpoint or self.endpoint,
            key="testing",
            secret="testing",
            skip_instance_cache=True,
            config_kwargs={"retries": {"total_max_attempts": 1}},
        )
        control.retries = 1
        return Store(control, f"s3://{self.root}/", PartReader(self.files, Budget(64 << 20), 2, threads=4), 1000)

    def write(self, uri: str, rows: int = 3) -> str:
        pq.write_table(pa.table({"id": list(range(rows))}), uri.removeprefix("s3://"), filesystem=self.files)
        return uri

    def listed(self) -> list[str]:
        found = self.files.get_file_info(pafs.FileSelector(self.root, recursive=True, allow_not_found=True))
        return sorted(f.path.removeprefix(self.root) for f in found if f.type == pafs.FileType.File)

    def put(self, path: str, body: bytes) -> None:
        with self.files.open_output_stream(f"{self.root}/{path}") as out:
            out.write(body)


@pytest.fixture
def replicas(aws: LocalAws) -> Replicas:
    return Replicas(filesystem(aws.store), f"{aws.bucket}/store/{uuid.uuid4().hex[:8]}", aws.s3_endpoint)


def complete(store: Store, replicas: Replicas, attempt: str = "2026-01-01-0", **changes: Any) -> Any:
    uri = replicas.write(f"{store.attempt_uri(FINGERPRINT, attempt)}part-1")
    said = {"query_id": "q-1", "uris": [uri], "scanned_bytes": 7, "cancelled": NEVER, **changes}
    return store.complete(FINGERPRINT, attempt, **said)


def test_what_one_replica_completes_the_others_find(replicas: Replicas) -> None:
    assert replicas.store().find(FINGERPRINT) is None
    stored = complete(replicas.store(), replicas)
    found = replicas.store().find(FINGERPRINT)
    assert found == stored
    assert found is not None
    assert (found.rows, found.query_id, found.scanned_bytes) == (3, "q-1", 7)
    assert found.parts[0].etag


def test_a_result_without_rows_is_complete_too(replicas: Replicas) -> None:
    replicas.store().complete(FINGERPRINT, "2026-01-01-0", "q", [], 0, NEVER)
    found = replicas.store().find(FINGERPRINT)
    assert found is not None
    assert (found.rows, found.parts) == (0, ())


def test_a_result_is_too_old_at_its_age(replicas: Replicas) -> None:
    store = replicas.store()
    complete(store, replicas)
    assert store.find(FINGERPRINT, 60) is not None
    assert store.find(FINGERPRINT, -1) is None


def test_files_without_a_manifest_are_no_result(replicas: Replicas) -> None:
    store = replicas.store()
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-0')}part-1")
    assert store.find(FINGERPRINT) is None


@pytest.mark.parametrize(
    "uri",
    [
        "s3://other-bucket/part",
        "{under}../2026-01-01-9/part",
        "{under}x/../../../../other/part",
        "{root}/other/part",
        "{under_without_slash}9/part",
        "https://example.com/part",
        "",
    ],
)
def test_a_manifest_that_leads_outside_its_prefix_is_refused(replicas: Replicas, uri: str) -> None:
    store = replicas.store()
    under = store.attempt_uri(FINGERPRINT, "2026-01-01-0")
    outside = uri.format(under=under, under_without_slash=under.rstrip("/"), root=f"s3://{replicas.root}")
    with pytest.raises(EngineFailed, match="q-1: its manifest names an object outside"):
        complete(store, replicas, uris=[outside])
    assert replicas.store().find(FINGERPRINT) is None


def test_a_missing_part_makes_no_result(replicas: Replicas) -> None:
    store = replicas.store()
    with pytest.raises(ResultLost, match="is not there"):
        complete(store, replicas, uris=[f"{store.attempt_uri(FINGERPRINT, '2026-01-01-0')}gone"])
    assert replicas.store().find(FINGERPRINT) is None


def test_the_last_of_two_completions_wins_whole(replicas: Replicas) -> None:
    store = replicas.store()
    first = complete(store, replicas)
    second = complete(replicas.store(), replicas, "2026-01-02-0", query_id="q-2")
    assert replicas.store().find(FINGERPRINT) == second
    # What a process remembers stays good: its parts are still there.
    assert store.find(FINGERPRINT) == first


def test_completing_at_the_same_time_gives_one_whole_result(replicas: Replicas) -> None:
    stores = [replicas.store() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda pair: complete(pair[1], replicas, f"2026-01-01-{pair[0]}"), enumerate(stores)))
    assert replicas.store().find(FINGERPRINT) in made


def test_forget_gives_up_the_manifest_and_leaves_the_files(replicas: Replicas) -> None:
    store = replicas.store()
    complete(store, replicas)
    store.forget(FINGERPRINT)
    assert store.find(FINGERPRINT) is None
    assert [path.rsplit("/", 1)[1] for path in replicas.listed()] == ["part-1"]
    store.forget(FINGERPRINT)


def test_discard_removes_one_attempt_only(replicas: Replicas) -> None:
    store = replicas.store()
    complete(store, replicas)
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-1')}part-1")
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-10')}part-1")
    store.discard(FINGERPRINT, "2026-01-01-1")
    assert len(replicas.listed()) == 3
    store.discard(FINGERPRINT, "2026-01-01-1")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"version": 99}', b'{"version": 1, "parts": [{}]}', b"\xff"])
def test_a_manifest_that_nobody_can_read_is_no_result(replicas: Replicas, body: bytes) -> None:
    replicas.put(f"{FINGERPRINT[:2]}/{FINGERPRINT}/result.json", body)
    assert replicas.store().find(FINGERPRINT) is None


def test_manifests_of_before_parts_had_tags_are_read(replicas: Replicas) -> None:
    body = {"version": 1, "fingerprint": FINGERPRINT, "query_id": "q", "scanned_bytes": 0, "created": 0.0}
    part = {"path": f"{replicas.root}/part", "rows": 1, "bytes": 1}
    replicas.put(f"{FINGERPRINT[:2]}/{FINGERPRINT}/result.json", json.dumps({**body, "parts": [part]}).encode())
    found = replicas.store().find(FINGERPRINT)
    assert found is not None
    assert found.rows == 1


def test_orphans_are_what_no_result_names(replicas: Replicas) -> None:
    store = replicas.store()
    complete(store, replicas)
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-1')}a")
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-1')}b")
    replicas.write(f"{store.attempt_uri('ef' * 32, '2026-01-01-0')}c")
    found = list(store.orphans(older_than_s=-10))
    assert [(o.uri.split("/")[-2], o.files) for o in found] == [("2026-01-01-1", 2), ("2026-01-01-0", 1)]
    assert all(o.bytes > 100 for o in found)
    for orphan in found:
        store.remove(orphan)
    assert list(store.orphans(older_than_s=-10)) == []
    assert store.find(FINGERPRINT) is not None
    assert len(replicas.listed()) == 2


def test_young_files_are_no_orphans(replicas: Replicas) -> None:
    store = replicas.store()
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-1')}a")
    assert list(store.orphans(older_than_s=3600)) == []


def test_what_a_result_of_a_newer_server_owns_is_no_orphan(replicas: Replicas) -> None:
    store = replicas.store()
    replicas.write(f"{store.attempt_uri(FINGERPRINT, '2026-01-01-1')}a")
    replicas.put(f"{FINGERPRINT[:2]}/{FINGERPRINT}/result.json", b'{"version": 2}')
    assert list(store.orphans(older_than_s=-10)) == []


def test_a_store_that_cannot_be_reached_says_so(replicas: Replicas) -> None:
    store = replicas.store("http://127.0.0.1:9")
    with pytest.raises(EngineFailed, match="the result store cannot be used"):
        store.find(FINGERPRINT)
    with pytest.raises(EngineFailed, match="the result store cannot be used"):
        store.discard(FINGERPRINT, "x")
    with pytest.raises(EngineFailed, match="the result store cannot be used"):
        list(store.orphans(0))


def test_lines_of_a_manifest_are_read_with_and_without_quotes(replicas: Replicas) -> None:
    replicas.put("manifest.csv", b's3://a/b\n"s3://a/c"\n\n')
    store = replicas.store()
    assert store.read_lines(f"s3://{replicas.root}/manifest.csv") == ["s3://a/b", "s3://a/c"]
    with pytest.raises(ResultLost, match="manifest is not there"):
        store.read_lines(f"s3://{replicas.root}/gone.csv")
