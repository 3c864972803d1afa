"""An address that takes connections and says nothing, as one behind a network that swallows packets, or a stuck proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Hanging:
    """Its `url`, and how many connections it has had; a client that tries again makes a new one each time."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def tried(self) -> int:
        return len(self._held)

    def close(self) -> None:
        """Let go of all who wait; from now on nobody is let in."""
        # Closing alone would leave the thread in accept().
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(30)
        for each in self._held:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._held.append(self._listening.accept()[0])


@contextmanager
def hanging() -> Iterator[Hanging]:
    opened = Hanging()
    try:
        yield opened
    finally:
        opened.close()
