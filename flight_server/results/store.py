"""The result store: complete results in S3, under prefixes named by their fingerprints.

    <root>/ab/abcd…/result.json           names the parts; written last, so a result that has it is complete
    <root>/ab/abcd…/<attempt>/…           what one run of the query wrote, with leftovers of Athena's own retries

Any replica can serve what any other made. Parts are read by manifest, never by listing.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from flight_server.errors import EngineFailed, ResultLost
from flight_server.model import Part, Plan, StoredResult
from flight_server.results.parts import PartReader
from flight_server.telemetry import log

_MANIFEST = "result.json"
# Changes with what a manifest means, so that one of another version is made again.
_MANIFEST_VERSION = 1
_RESULT = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})/result\.json")
_ATTEMPT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}/[^/]+/")


@dataclass(frozen=True, slots=True)
class Orphan:
    """A prefix that no result owns: files of failed, cancelled or superseded runs."""

    uri: str
    files: int
    bytes: int


class Store:
    """Finds, completes, reads and removes results. `filesystem` is an fsspec one, `root` is `bucket/prefix`."""

    def __init__(self, filesystem: Any, root: str, reader: PartReader, remembered_max: int) -> None:
        self._fs = filesystem
        self._root = root.removeprefix("s3://").rstrip("/")
        self._reader = reader
        self._lock = threading.Lock()
        self._remembered_max = remembered_max
        self._remembered: OrderedDict[str, StoredResult] = OrderedDict()

    def find(self, fingerprint: str, max_age_s: float | None = None) -> StoredResult | None:
        """The complete result of a fingerprint, if there is one and it is young enough."""
        with self._lock:
            found = self._remembered.get(fingerprint)
        if found is None:
            found = self._load(fingerprint)
            if found is not None:
                self._remember(found)
        if found is None or (max_age_s is not None and time.time() - found.created > max_age_s):
            return None
        return found

    def attempt_uri(self, fingerprint: str, attempt: str) -> str:
        """Where one run of the query writes, an `s3://` prefix with a slash at its end."""
        return f"s3://{self._prefix(fingerprint)}/{attempt}/"

    def complete(
        self,
        fingerprint: str,
        attempt: str,
        query_id: str,
        uris: Sequence[str],
        scanned_bytes: int,
        cancelled: threading.Event,
    ) -> StoredResult:
        """Make what a query wrote a result: check the manifest's paths, look at every footer, write the manifest.

        Raises EngineFailed for a path outside the attempt's prefix, ResultLost for a part missing or no Parquet.
        """
        under = self.attempt_uri(fingerprint, attempt)
        for uri in uris:
            if not uri.startswith(under) or "/../" in uri:
                raise EngineFailed(f"query {query_id}: its manifest names an object outside of its prefix")
        parts = self._reader.inspect([uri.removeprefix("s3://") for uri in uris], cancelled)
        stored = StoredResult(fingerprint, query_id, tuple(parts), scanned_bytes, time.time())
        body = {"version": _MANIFEST_VERSION, **asdict(stored)}
        with _translated():
            self._fs.pipe_file(f"{self._prefix(fingerprint)}/{_MANIFEST}", json.dumps(body).encode())
        self._remember(stored)
        return stored

    def read(self, stored: StoredResult, plan: Plan, cancelled: threading.Event) -> Iterator[pa.RecordBatch]:
        """The rows of a result in the dataset's order, carriers turned back."""
        dataset = plan.dataset
        return self._reader.read(stored.parts, dataset.result_schema, dataset.sorted, plan.bounds.batch_rows, cancelled)

    def read_lines(self, uri: str) -> list[str]:
        """The lines of a small text object, such as Athena's manifest of a query."""
        try:
            with _translated():
                text: str = self._fs.cat_file(uri.removeprefix("s3://")).decode()
        except FileNotFoundError as error:
            raise ResultLost("its manifest is not there") from error
        return [line.strip().strip('"') for line in text.splitlines() if line.strip()]

    def forget(self, fingerprint: str) -> None:
        """Give up a result whose parts are gone."""
        with self._lock:
            self._remembered.pop(fingerprint, None)
        self._remove(f"{self._prefix(fingerprint)}/{_MANIFEST}")

    def discard(self, fingerprint: str, attempt: str) -> None:
        """Remove what a run that failed or was cancelled has written."""
        self._remove(f"{self._prefix(fingerprint)}/{attempt}", recursive=True)

    def orphans(self, older_than_s: float) -> Iterator[Orphan]:
        """Attempts that no result names and whose newest file is older than `older_than_s`.

        Whatever else lies under the root is not ours and left alone: locks, and the manifests of Athena where the work
        group writes them to the same place.
        """
        attempts: dict[str, list[dict[str, Any]]] = {}
        owned: set[str] = set()
        unknown: set[str] = set()
        with _translated():
            self._fs.invalidate_cache()
            listed = self._fs.find(self._root, detail=True)
        for path, entry in listed.items():
            attempt = self._attempt_of(path)
            if attempt is not None:
                attempts.setdefault(attempt, []).append(entry)
            elif found := _RESULT.fullmatch(path.removeprefix(f"{self._root}/")):
                if self._load(found[1]) is None:
                    # Of another version of this server, or being replaced just now: all of it may be in use.
                    unknown.add(path.rsplit("/", 1)[0])
                owned |= self._owned(found[1])
        now = time.time()
        for prefix, files in sorted(attempts.items()):
            newest = max(entry["LastModified"].timestamp() for entry in files)
            if prefix not in owned and prefix.rsplit("/", 1)[0] not in unknown and now - newest >= older_than_s:
                yield Orphan(f"s3://{prefix}/", len(files), sum(entry["size"] for entry in files))

    def remove(self, orphan: Orphan) -> bool:
        """Remove an orphan's files. False, and nothing removed, when a result has come to name them meanwhile."""
        prefix = orphan.uri.removeprefix("s3://").rstrip("/")
        # What the listing has not seen, s3fs takes for missing.
        self._fs.invalidate_cache()
        if prefix in self._owned(prefix.split("/")[-2]):
            return False
        self._remove(prefix, recursive=True)
        return True

    def _owned(self, fingerprint: str) -> set[str]:
        """The attempts that the result of a fingerprint reads from."""
        found = self._load(fingerprint)
        owned = {self._attempt_of(part.path) for part in (found.parts if found else ())}
        return {attempt for attempt in owned if attempt is not None}

    def _attempt_of(self, path: str) -> str | None:
        """`<root>/ab/abcd…/<attempt>` of a file that a run of a query wrote; None for any other."""
        found = _ATTEMPT.match(path.removeprefix(f"{self._root}/"))
        return f"{self._root}/{found[0].rstrip('/')}" if found else None

    def _prefix(self, fingerprint: str) -> str:
        # Two characters first, so that listings and request rates spread over S3's partitions.
        return f"{self._root}/{fingerprint[:2]}/{fingerprint}"

    def _load(self, fingerprint: str) -> StoredResult | None:
        try:
            with _translated():
                text = self._fs.cat_file(f"{self._prefix(fingerprint)}/{_MANIFEST}")
        except FileNotFoundError:
            return None
        try:
            body = json.loads(text)
            if body.pop("version") != _MANIFEST_VERSION:
                return None
            return StoredResult(**{**body, "parts": tuple(Part(**part) for part in body["parts"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("result_manifest_unreadable", fingerprint=fingerprint, reason=str(error)[:200])
            return None

    def _remember(self, stored: StoredResult) -> None:
        with self._lock:
            self._remembered[stored.fingerprint] = stored
            while len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)

    def _remove(self, path: str, *, recursive: bool = False) -> None:
        with suppress(FileNotFoundError), _translated():
            self._fs.invalidate_cache()
            self._fs.rm(path, recursive=recursive)


@contextmanager
def _translated() -> Iterator[None]:
    """S3's errors as EngineFailed; FileNotFoundError passes, since only the caller knows what its absence means."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError, ClientError) as error:
        text = str(error) or type(error).__name__
        raise EngineFailed(f"the result store cannot be used: {text.splitlines()[0][:200]}") from error
