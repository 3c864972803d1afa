"""A server that has no file descriptor left says so to probes, from the first one on; a process of its own has few."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flight_server import config
from tests.fix_client import client_env

# Each line of standard input is an order: take all descriptors that are left, or give them back.
_SERVE = """
import os, resource, sys
from flight_server import config, server, telemetry
telemetry.configure("json", "info")
built = server.build(config.Config.model_validate_json(sys.argv[1]))
few = max(map(int, os.listdir("/proc/self/fd"))) + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
print(built.http.port, flush=True)
taken = []
for order in sys.stdin:
    try:
        while order == "take\\n":
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    while order == "give\\n" and taken:
        os.close(taken.pop())
    print("done", flush=True)
os._exit(0)
"""


class Served:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.probe = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def order(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"

    def get(self, path: str) -> tuple[int, str]:
        self.probe.request("GET", path)
        answer = self.probe.getresponse()
        return answer.status, answer.read().decode()


@contextmanager
def served(settings: config.Config, log: Path) -> Iterator[Served]:
    server = settings.server.model_copy(update={"ticket_secret": None, "ready_ttl_s": 0.0})
    text = settings.model_copy(update={"server": server}).model_dump_json()
    with (
        log.open("wb") as lines,
        subprocess.Popen(
            [sys.executable, "-c", _SERVE, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=lines,
            text=True,
            env=client_env(),
        ) as process,
    ):
        assert process.stdout is not None
        found = Served(process, int(process.stdout.readline()))
        with closing(found.probe):
            yield found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux shows the descriptors of a process there")
def test_the_first_probe_of_a_server_without_files_is_told_why(client_config: config.Config, tmp_path: Path) -> None:
    with served(client_config, tmp_path / "log") as server:
        # What a probe's connection needs, and no more: the first answer is given without a file.
        server.probe.connect()
        assert server.get("/livez") == (200, "ok\n")
        server.order("take")
        status, said = server.get("/readyz")
        assert status == 503
        assert json.loads(said)["checks"]["files"] == "no-files"
        assert server.get("/livez")[0] == 200
        assert 'athena_flight_ready{check="files"} 0.0' in server.get("/metrics")[1]
        server.order("give")
        status, said = server.get("/readyz")
        assert (status, set(json.loads(said)["checks"].values())) == (200, {"ok"})
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    found = [line["message"] for line in lines if line["event"] == "not_ready" and line["check"] == "files"]
    assert found == ["no file or connection can be opened any more: Too many open files"]
