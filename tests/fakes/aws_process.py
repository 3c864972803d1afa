"""The local AWS in a process of its own: for measurements, and wherever the tests' own process must stay small."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class LocalAwsProcess:
    """What the command printed, and its knobs and counters over HTTP. Ends with `close`, or with this process."""

    process: subprocess.Popen[str]
    environment: dict[str, str]

    @property
    def athena_endpoint(self) -> str:
        return self.environment["AWS_ENDPOINT_URL_ATHENA"]

    @property
    def s3_endpoint(self) -> str:
        return self.environment["AWS_ENDPOINT_URL_S3"]

    @property
    def glue_endpoint(self) -> str:
        return self.environment["AWS_ENDPOINT_URL_GLUE"]

    def set_faults(self, **knobs: Any) -> None:
        """The fields of `Faults`; `reset=True` puts all at rest first."""
        request = urllib.request.Request(f"{self.athena_endpoint}/_faults", json.dumps(knobs).encode())
        with urllib.request.urlopen(request):
            pass

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.athena_endpoint}/_state") as answer:
            return dict(json.load(answer))

    def close(self) -> int:
        """Stop it; returns the exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> LocalAwsProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_aws_process(arguments: Sequence[str] = ()) -> LocalAwsProcess:
    """`python -m tests.fakes.athena` with `arguments`, once it is ready. Run from the root of the project."""
    command = [sys.executable, "-m", "tests.fakes.athena", "--with-parent", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    environment: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("# warehouse"):
            return LocalAwsProcess(process, environment)
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            environment[name] = value
    raise RuntimeError(f"the local AWS did not start: exit code {process.wait()}")
