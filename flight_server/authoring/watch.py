"""Reading the datasets again when their files change, while a server runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import watchfiles

from flight_server.authoring.check import check
from flight_server.server import Server
from flight_server.telemetry import log

# Editors write a file in several steps; watchfiles waits until this long nothing more happens.
_SETTLED_MS = 100


@contextmanager
def watching(server: Server) -> Iterator[None]:
    """Keep the server's datasets as their folder is, for the time of the context.

    Every save is held against all that `athena-flight check` knows. What is wrong is logged with file, line and column,
    and the last good datasets stay in service; when all is right again, that is logged too.
    """
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(server, stop), name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(server: Server, stop: threading.Event) -> None:
    directory = server.config.datasets.directory
    good = True
    for _ in watchfiles.watch(
        directory, watch_filter=_is_sql, debounce=_SETTLED_MS * 4, step=_SETTLED_MS, stop_event=stop
    ):
        errors = check(directory) or server.reload()
        for error in errors:
            log.error("dataset_wrong", error=str(error))
        if errors:
            log.warning("datasets_kept", reason="the last good datasets stay in service until this is mended")
        else:
            count = len(server.pipeline.registry.datasets)
            log.info("datasets_reloaded" if good else "datasets_good_again", datasets=count)
        good = not errors


def _is_sql(_: watchfiles.Change, path: str) -> bool:
    return path.endswith(".sql")
