"""Clients and servers in processes of their own, to be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flight_server.config import Config

ROOT = Path(__file__).parents[1]
_CLIENT = """
import sys
import pyarrow.flight as flight
reader = flight.connect(sys.argv[1]).do_get(flight.Ticket(sys.argv[2].encode()))
print("asked", flush=True)
print(reader.read_all().num_rows, flush=True)
"""


class Process:
    """A child whose lines are read in a thread, to its last one. `wait_for` gives the first line with a text in it."""

    def __init__(self, arguments: list[str], command: str = sys.executable, folder: Path = ROOT) -> None:
        self.child = subprocess.Popen(
            [command, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        # Whether all has been read: a child can have ended long before.
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, text: str, timeout_s: float = 100.0) -> str:
        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout_s)
            line = found()
        assert line is not None, f"no {text!r} in: {''.join(self.lines)}"
        return line

    def count(self, *texts: str) -> int:
        """How many lines so far have one of the texts in them."""
        with self._changed:
            return sum(any(text in line for text in texts) for line in self.lines)

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait(30)
        self._thread.join(30)
        if self.child.stdout is not None:
            self.child.stdout.close()

    def _read(self) -> None:
        for line in self.child.stdout or ():
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def client(address: str, ticket: str) -> Iterator[Process]:
    """A client that asks for a ticket and reads everything."""
    process = Process(["-c", _CLIENT, address, ticket])
    try:
        yield process
    finally:
        process.close()


class ServerProcess(Process):
    """`athena-flight serve` with these settings and flags; `address` once it listens."""

    def __init__(self, config: Config, folder: Path, *flags: str) -> None:
        file = folder / "athena-flight.toml"
        file.write_text(toml(config))
        super().__init__(["-m", "flight_server", "serve", "--config", str(file), *flags])

    @property
    def address(self) -> str:
        return str(json.loads(self.wait_for('"serving"'))["address"])


@contextmanager
def server(config: Config, folder: Path, *flags: str) -> Iterator[ServerProcess]:
    process = ServerProcess(config, folder, *flags)
    try:
        yield process
    finally:
        process.close()


def toml(config: Config) -> str:
    """The settings as a file; the secret with them."""
    lines: list[str] = []
    for name, section in {"log": {}, **config.model_dump(mode="json", exclude_unset=True)}.items():
        if name == "log":
            section = {"format": "json", **section}
        lines.append(f"[{name}]")
        lines += [f"{key} = {_value(key, value, config)}" for key, value in section.items() if value is not None]
    return "\n".join(lines) + "\n"


def _value(key: str, value: Any, config: Config) -> str:
    secret = config.server.ticket_secret
    return json.dumps(secret.get_secret_value() if key == "ticket_secret" and secret else value)
