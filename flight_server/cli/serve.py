"""`athena-flight serve`: the server in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import queue
import resource
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Annotated

import typer

from flight_server import __version__, preconditions, telemetry
from flight_server import config as settings
from flight_server.authoring.watch import tell_well, tell_wrong, watching
from flight_server.cli import line
from flight_server.cli.options import ConfigFile, Host, InsecureAllowRemote, Port, server_flags
from flight_server.datasets import system
from flight_server.server import Server, build

# What Flight gets to end its streams after they were told to; then the process ends over them.
_END_S = 3.0
# A signal that comes just before the main thread goes to sleep is noticed when it wakes: one of some hundred was not
# noticed at all on a busy machine.
_LOOK_S = 0.25
# Some kernels refuse more than 2^20, whatever the hard limit says.
_OPEN_FILES = 1 << 20


def serve(
    watch: Annotated[bool, typer.Option("--watch", help="Read the datasets again when a file changes.")] = False,
    host: Host = None,
    port: Port = None,
    insecure_allow_remote: InsecureAllowRemote = False,
    config: ConfigFile = None,
) -> None:
    """Serve the datasets over Arrow Flight until SIGTERM or Ctrl-C, which let running streams finish.

    SIGHUP reads datasets, policies, tokens, passwords and certificate names again; with anything wrong nothing changes.

    With --watch a saved file that is wrong is reported and the last good datasets stay in service.

    Examples: athena-flight serve --watch

              athena-flight serve --config prod.toml --host 0.0.0.0 --port 8815
    """
    flags = server_flags(host, port, insecure_allow_remote)
    found = settings.load(config, server=flags) if flags else settings.load(config)
    telemetry.configure(found.log.format, found.log.level)
    if problems := preconditions.problems(found):
        # All of them: whoever mends one and starts again should not meet the next.
        for problem in problems:
            print(f"error: {line(problem)}", file=sys.stderr)
        sys.exit(1)
    raise_open_files()
    tell_starting(found)
    with ExitStack() as stack:
        server = build(found)
        signals = Signals()
        if watch:
            stack.enter_context(watching(server))
        telemetry.log.info("serving", **server.addresses)
        # Nothing waits for it: what else is reached over a network may take its time to fail.
        threading.Thread(target=look_around, args=(server,), name="look-around", daemon=True).start()
        signals.wait(server)
    stop(server, found.server.grace_s)


def tell_starting(config: settings.Config) -> None:
    """Say what begins, before anything is waited for: a catalog that does not answer can take its time."""
    catalog = "Glue" if config.catalog.kind == "glue" else settings.without_secrets(config.catalog.uri)
    telemetry.log.info(
        "starting",
        version=__version__,
        engines=list(config.server.engines),
        datasets=str(config.datasets.directory),
        # Python passes over folders that it cannot write to, TMPDIR among them, and says nothing.
        temporary=tempfile.gettempdir(),
        waits_for=f"the catalog, {catalog}",
    )


def look_around(server: Server) -> None:
    """Log what is not well at a start, before the first probe or call meets it: `ready`, or each `not_ready`."""
    server.flight.authentication.read_keys()
    server.readiness.outcomes()


def raise_open_files() -> None:
    """Allow this process as many open files as it may have: each connection is one, and shells start with 1,024.

    The low default protects programs that use select(); nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Signals:
    """From now on SIGTERM and SIGINT end `wait`, a second one the process, and SIGHUP reads the files again."""

    def __init__(self) -> None:
        # The one kind of queue that may be put to from inside a signal handler.
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ending = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    def wait(self, server: Server) -> None:
        """Block until the process is to end. Reloads have a thread: one that waits for a catalog holds up no end."""
        wanted = threading.Event()
        threading.Thread(target=_reload_when, args=(wanted, server), name="reload", daemon=True).start()
        while self._next() == signal.SIGHUP:
            wanted.set()

    def _next(self) -> int:
        while True:
            try:
                return self._came.get(timeout=_LOOK_S)
            except queue.Empty:
                continue

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number != signal.SIGHUP:
            if self._ending:
                os._exit(128 + number)
            self._ending = True
        self._came.put(number)


def _reload_when(wanted: threading.Event, server: Server) -> None:
    """Reload each time that it is wanted. Signals that come while one runs are one more: it reads what all meant."""
    while wanted.wait():
        wanted.clear()
        try:
            errors = server.reload()
        except Exception:  # noqa: BLE001 - a thread's top: the next signal may find files that can be read
            telemetry.log.exception("datasets_not_read")
            continue
        if errors:
            tell_wrong(server, errors)
        else:
            tell_well()
            telemetry.log.info("datasets_reloaded", datasets=system.files(server.pipeline.registry))


def stop(server: Server, grace_s: float) -> None:
    """Drain and end the server. A client that reads nothing can hold up Flight's shutdown for ever, but not this."""
    # Flight's own `serve` is never called: it listens without, and would take the signals for itself.
    ending = threading.Thread(target=server.stop, args=(grace_s,), name="stop", daemon=True)
    ending.start()
    ending.join(grace_s + _END_S)
    if ending.is_alive():
        telemetry.log.warning("stopped_over_running_streams", grace_s=grace_s)
        sys.stdout.flush()
        os._exit(0)
