"""One job at a time on a table: a lock that says who holds it since when, in S3 or beside a local warehouse.

It is created, changed and removed only under a condition (S3's If-None-Match and If-Match; on disk a link and flock),
so of several that want it at the same moment one gets it. It is not what keeps a table consistent, Iceberg's commits
do that; it keeps two runs from paying for the same work. A lock whose holder died is taken over after `lock.age_s`.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3
from botocore.exceptions import ClientError

from flight_server.config import Config
from flight_server.errors import TableError
from flight_server.tables.catalog import translated

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, for which work, since when (epoch seconds), and the Athena query it is waiting for."""

    owner: str
    who: str
    work: str
    since: float
    query_id: str = ""

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        query = f", Athena query {self.query_id}" if self.query_id else ""
        return f"{self.work} by {self.who} since {at}{query}"


class Place(Protocol):
    """Where one lock is. A version is what `replace` and `remove` compare with; each returns None when it differs."""

    uri: str

    def read(self) -> tuple[Holder, str] | None: ...

    def create(self, holder: Holder) -> str | None: ...

    def replace(self, holder: Holder, version: str) -> str | None: ...

    def remove(self, version: str) -> None: ...


class Held:
    """A lock that this process holds."""

    def __init__(self, place: Place, holder: Holder, version: str) -> None:
        self._place, self._holder, self._version = place, holder, version

    def note(self, query_id: str) -> None:
        """Write down the query that is waited for. Raises TableError when another has taken the lock over."""
        self._holder = replace(self._holder, query_id=query_id)
        version = self._place.replace(self._holder, self._version)
        if version is None:
            raise TableError(f"the lock {self._place.uri} was taken over by another process: this one stops")
        self._version = version


@contextmanager
def held(
    place: Place,
    work: str,
    age_s: float,
    has_ended: Callable[[str], bool] = lambda _: False,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Held]:
    """Hold the lock for the time of the context; it is released whatever happens in it.

    A lock older than `age_s` is taken over, telling so through `say`, unless it names a query for which `has_ended` is
    false. Raises TableError, saying who holds it, when it cannot be had; it is not waited for.
    """
    holder = Holder(uuid.uuid4().hex, f"{socket.gethostname()} process {os.getpid()}", work, time.time())
    try:
        with translated(f"lock {place.uri}"):
            version = place.create(holder) or _taken_over(place, holder, age_s, has_ended, say)
        yield Held(place, holder, version)
    finally:
        with translated(f"release the lock {place.uri}"):
            found = place.read()
            # By its owner: an interrupt can come between a write and the knowledge of its version.
            if found is not None and found[0].owner == holder.owner:
                place.remove(found[1])


def is_stale(holder: Holder, age_s: float, has_ended: Callable[[str], bool]) -> bool:
    """Whether the holder is taken for dead: old, and not waiting for a query that still runs."""
    return time.time() - holder.since > age_s and (not holder.query_id or has_ended(holder.query_id))


def _taken_over(
    place: Place, holder: Holder, age_s: float, has_ended: Callable[[str], bool], say: Callable[[str], None]
) -> str:
    found = place.read()
    if found is None:
        # Released between the two looks.
        version = place.create(holder)
        if version is not None:
            return version
        found = place.read()
    if found is None:
        raise TableError(f"the lock {place.uri} comes and goes; try again")
    before, version = found
    if is_stale(before, age_s, has_ended):
        taken = place.replace(holder, version)
        if taken is not None:
            say(f"took over the lock of {before}: older than {age_s:,.0f} s and nothing of it runs")
            return taken
    raise TableError(
        f"locked: {before}. Wait for its end; if that process is gone, the lock is taken over {age_s:,.0f} s after it "
        f"was made, or at once when you remove {place.uri}"
    )


def place_of(config: Config, warehouse: str, table: str) -> Place:
    """The lock of a table: under `athena.results` where that is set, else in the warehouse, in S3 or on disk."""
    root = config.athena.results or warehouse
    if root.startswith("s3://"):
        return S3Place(s3_client(config), f"{locks_prefix(root)}{table}.json")
    return FilePlace(Path(root) / ".locks" / f"{table}.json")


def locks_prefix(root: str) -> str:
    """Where the locks are under an s3:// prefix; no fingerprint begins like it."""
    return f"{root.rstrip('/')}/locks/"


def s3_client(config: Config) -> S3Client:
    session = boto3.Session(region_name=config.aws.region)
    return session.client("s3", endpoint_url=config.aws.s3_endpoint)


class S3Place:
    """A lock object in S3; its ETag is the version."""

    def __init__(self, client: S3Client, uri: str) -> None:
        self.uri = uri
        self._client = client
        self._bucket, _, self._key = uri.removeprefix("s3://").partition("/")

    def read(self) -> tuple[Holder, str] | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _TAKEN:
                return None
            raise
        return _parsed(answer["Body"].read(), self.uri), answer["ETag"]

    def create(self, holder: Holder) -> str | None:
        return self._put(holder, {"IfNoneMatch": "*"})

    def replace(self, holder: Holder, version: str) -> str | None:
        return self._put(holder, {"IfMatch": version})

    def remove(self, version: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._key, IfMatch=version)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise

    def _put(self, holder: Holder, condition: dict[str, str]) -> str | None:
        body = json.dumps(asdict(holder)).encode()
        try:
            return self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)["ETag"]  # type: ignore[arg-type]
        except ClientError as error:
            if error.response["Error"]["Code"] in _TAKEN:
                return None
            raise


class FilePlace:
    """A lock file; its content is the version. Whole from the first moment, as it is linked or renamed into place."""

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._path = path

    def read(self) -> tuple[Holder, str] | None:
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return None
        return _parsed(text.encode(), self.uri), text

    def create(self, holder: Holder) -> str | None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text, written = self._written(holder)
        try:
            os.link(written, self._path)
        except FileExistsError:
            return None
        finally:
            written.unlink()
        return text

    def replace(self, holder: Holder, version: str) -> str | None:
        with self._unchanged(version) as same:
            if not same:
                return None
            text, written = self._written(holder)
            written.replace(self._path)
            return text

    def remove(self, version: str) -> None:
        with self._unchanged(version) as same:
            if same:
                self._path.unlink()

    @contextmanager
    def _unchanged(self, version: str) -> Iterator[bool]:
        """Whether the lock still is `version`; where it is, nobody else changes it before the end of the context."""
        try:
            file = self._path.open()
        except FileNotFoundError:
            yield False
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another may have renamed a new lock into place, or removed it, while this one waited.
            try:
                same = self._path.stat().st_ino == os.fstat(file.fileno()).st_ino and file.read() == version
            except FileNotFoundError:
                same = False
            yield same

    def _written(self, holder: Holder) -> tuple[str, Path]:
        text = json.dumps(asdict(holder))
        path = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        path.write_text(text)
        return text, path


def _parsed(body: bytes, uri: str) -> Holder:
    try:
        return Holder(**json.loads(body))
    except (ValueError, TypeError) as error:
        raise TableError(f"the lock {uri} cannot be read; remove it when nothing runs on the table") from error
