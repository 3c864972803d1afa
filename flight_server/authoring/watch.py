"""Reading the datasets again when their files change, while a server runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import watchfiles

from flight_server.authoring.check import check
from flight_server.datasets import policies, system
from flight_server.errors import DatasetError, SetupError, TableError
from flight_server.server import Server
from flight_server.service.auth import identities
from flight_server.telemetry import log, metrics

# Editors write a file in several steps; a change counts when this long nothing more happens.
_SETTLED_MS = 100
# Network folders and container mounts may report no changes, and one before the first look is never reported.
_LOOK_MS = 2000

# What changes when a file does that a server reads: path, modification time, size and inode, and those of callers.
_State = tuple[object, ...]


@contextmanager
def watching(server: Server) -> Iterator[None]:
    """Keep the server's datasets as their folder is, for the time of the context.

    Every save is held against all that `athena-flight check` knows. What is wrong is logged with file, line and column,
    and the last good datasets stay in service; when all is right again, that is logged too.
    """
    stop = threading.Event()
    seen = _state(server)
    thread = threading.Thread(target=_watch, args=(server, seen, stop), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(server: Server, seen: _State | None, stop: threading.Event) -> None:
    said: list[str] = []
    changes = watchfiles.watch(
        server.config.datasets.directory,
        debounce=4 * _SETTLED_MS,
        step=_SETTLED_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        stop_event=stop,
    )
    for _ in changes:
        now = _state(server)
        # What is still being written would be read half: of policies, that is too few.
        if now == seen or stop.wait(_SETTLED_MS / 1000) or _state(server) != now:
            continue
        again, seen = seen is None, now
        try:
            errors: list[SetupError] = [*check(server.config.datasets.directory)]
            # A reload would take what it finds nothing wrong with, though `check` does.
            errors = [*errors, *_wrong_callers(server)] if errors else server.reload()
        except Exception:  # noqa: BLE001 - a thread's top: the next change may be one that can be read
            log.exception("datasets_not_read")
            continue
        if any(isinstance(error, TableError) for error in errors):
            # Not the files are at fault but the catalog: they are tried again without a change.
            seen = None
        said = _tell(server, errors, said, again)


def _tell(server: Server, errors: Sequence[SetupError], before: list[str], again: bool) -> list[str]:
    """Log what came of a reload, but not twice the same of the same files. What was said, for the next one."""
    said = [str(error) for error in errors]
    if not said:
        tell_well()
        count = system.files(server.pipeline.registry)
        log.info("datasets_good_again" if before else "datasets_reloaded", datasets=count)
    elif said != before or not again:
        tell_wrong(server, errors)
    return said


def _wrong_callers(server: Server) -> list[DatasetError]:
    try:
        with server.flight.authentication.reading():
            return []
    except DatasetError as error:
        return [error]


def tell_well() -> None:
    """Take back in the metrics what was told of files that were wrong."""
    for kind in ("datasets", "identities"):
        metrics.FILES_WRONG.labels(kind).set(0)


def tell_wrong(server: Server, errors: Sequence[SetupError]) -> None:
    """Log what keeps a reload from being taken, by the file that it is in, and that all stays as it was."""
    auth = server.config.auth
    files = (auth.tokens, auth.passwords, auth.certificates)
    callers = [error for error in errors if isinstance(error, DatasetError) and error.path in files]
    metrics.FILES_WRONG.labels("identities").set(bool(callers))
    metrics.FILES_WRONG.labels("datasets").set(len(callers) < len(errors))
    for error in errors:
        if error in callers:
            log.error("identities_wrong", error=str(error), reason="those read last stay in force")
        else:
            log.error("dataset_wrong", error=str(error))
    log.warning("datasets_kept", reason="what was in service stays until this is mended")


def _state(server: Server) -> _State:
    directory = server.config.datasets.directory
    found: list[object] = []
    for path in sorted([*directory.rglob("*.sql"), directory / policies.FILE]):
        try:
            about = path.stat()
        except OSError:
            # Not there, or gone between the listing and the look.
            continue
        found.append((str(path), about.st_mtime_ns, about.st_size, about.st_ino))
    # Callers are read with the datasets: where their file was wrong, its change is what is waited for.
    return (*found, *identities.stamps(server.config.auth))
