"""The progress line: for slow queries, where somebody looks."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.clients.peer import Peer, giving
from tests.fix_client import client_env

_ASK = "import sys, flight_client; flight_client.connect(sys.argv[1]{more}).numbers().arrow()"


def on_terminal(url: str, more: str = "") -> str:
    """What a person sees of a query in a program whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    program = [sys.executable, "-c", _ASK.format(more=more), url]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=theirs, env=client_env(TERM="xterm")) as process:
        os.close(theirs)
        seen = b""
        try:
            while read := os.read(ours, 65536):
                seen += read
        except OSError:
            # Linux says so when the other side has closed its terminal.
            pass
        os.close(ours)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    return seen.decode()


def test_a_slow_query_shows_its_rows_on_a_terminal() -> None:
    with Peer(giving(1, 2, 3, pause_s=0.7)) as peer:
        seen = on_terminal(peer.url)
        assert "numbers" in seen
        assert "2 rows, 0.0 MB" in seen
        assert on_terminal(peer.url, more=", progress=False") == ""


def test_a_quick_query_shows_nothing() -> None:
    with Peer(giving(1, 2, 3)) as peer:
        assert on_terminal(peer.url) == ""


def test_in_a_pipe_nothing_is_shown() -> None:
    with Peer(giving(1, 2, pause_s=0.7)) as peer:
        program = [sys.executable, "-c", _ASK.format(more=""), peer.url]
        ended = subprocess.run(program, capture_output=True, timeout=20, check=True, env=client_env())
        assert (ended.stdout, ended.stderr) == (b"", b"")
