"""Reading the datasets again when their files change, while a server runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import watchfiles

from flight_server.authoring.check import check
from flight_server.datasets import policies, system
from flight_server.server import Server
from flight_server.telemetry import log

# Editors write a file in several steps; a change counts when this long nothing more happens.
_SETTLED_MS = 100
# Network folders and container mounts may report no changes, and one before the first look is never reported.
_LOOK_MS = 2000

# Path, modification time and size of every file that a server reads there.
_State = list[tuple[str, int, int]]


@contextmanager
def watching(server: Server) -> Iterator[None]:
    """Keep the server's datasets as their folder is, for the time of the context.

    Every save is held against all that `athena-flight check` knows. What is wrong is logged with file, line and column,
    and the last good datasets stay in service; when all is right again, that is logged too.
    """
    stop = threading.Event()
    seen = _state(server.config.datasets.directory)
    thread = threading.Thread(target=_watch, args=(server, seen, stop), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(server: Server, seen: _State, stop: threading.Event) -> None:
    directory = server.config.datasets.directory
    good = True
    changes = watchfiles.watch(
        directory,
        debounce=4 * _SETTLED_MS,
        step=_SETTLED_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        stop_event=stop,
    )
    for _ in changes:
        now = _state(directory)
        if now != seen:
            seen = now
            try:
                good = _reload(server, good)
            except Exception:  # noqa: BLE001 - a thread's top: the next change may be one that can be read
                log.exception("datasets_not_read")


def _reload(server: Server, was_good: bool) -> bool:
    errors = check(server.config.datasets.directory) or server.reload()
    for error in errors:
        log.error("dataset_wrong", error=str(error))
    if errors:
        log.warning("datasets_kept", reason="the last good datasets stay in service until this is mended")
    else:
        count = system.files(server.pipeline.registry)
        log.info("datasets_reloaded" if was_good else "datasets_good_again", datasets=count)
    return not errors


def _state(directory: Path) -> _State:
    found = []
    for path in sorted([*directory.rglob("*.sql"), directory / policies.FILE]):
        try:
            about = path.stat()
        except FileNotFoundError:
            # Not there, or gone between the listing and the look.
            continue
        found.append((str(path), about.st_mtime_ns, about.st_size))
    return found
