"""A process that is forked from one with a connection."""

from __future__ import annotations

import subprocess
import sys

from tests.fix_client import client_env

# A child that waits for ever is ended by the alarm. It ends as Python does, with what it inherited being cleaned up.
_FORKING = """
import os, signal, sys
import flight_client

db = flight_client.connect(sys.argv[1])
reader = db.slow_rows().reader()
reader.read_next_batch()
asks = [lambda: db.big().arrow(), lambda: db.sql("SELECT 1 AS one").arrow(), lambda: flight_client.connect(sys.argv[1])]
child = os.fork()
if child == 0:
    signal.alarm(60)
    for ask in asks:
        try:
            ask()
        except flight_client.InvalidRequest as error:
            print(error, flush=True)
    sys.exit(0)
print(os.waitpid(child, 0)[1])
print(reader.read_next_batch().num_rows > 0, db.sql("SELECT 1 AS one").arrow().num_rows)
"""


def test_a_forked_process_is_told_at_once_and_leaves_its_parent_alone(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING, url],
        capture_output=True,
        text=True,
        timeout=110,
        env=client_env(),
        check=False,
    )
    assert done.stderr == ""
    *told, status, goes_on = done.stdout.splitlines()
    assert len(told) == 3
    assert all(line.startswith("[bad-request] this process was forked from one with a connection") for line in told)
    assert (status, goes_on) == ("0", "True 1")
