"""`python -m tests.fakes.athena`: start the local AWS, print what to export, serve until interrupted.

`--load FILE.py` first calls `load(catalog, aws)` of that file, which may write any tables through pyiceberg.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import threading
from pathlib import Path

from tests.fakes.aws import LocalAws, start_aws


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.athena", description=__doc__)
    parser.add_argument("--bucket", default="local-lake")
    parser.add_argument("--moto-port", type=int, default=0, help="S3 and Glue; 0 picks a free port")
    parser.add_argument("--athena-port", type=int, default=0, help="Athena; 0 picks a free port")
    parser.add_argument("--load", type=Path, help="Python file with load(catalog, aws)")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with start_aws(arguments.bucket, arguments.moto_port, arguments.athena_port) as aws:
        if arguments.load is not None:
            _load(arguments.load, aws)
        for name, value in aws.environment.items():
            print(f"export {name}={value}")
        print(f"# warehouse {aws.warehouse}, results {aws.results}; interrupt to stop", flush=True)
        if arguments.with_parent:
            threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
        stop.wait()


def _stop_with_parent(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _load(path: Path, aws: LocalAws) -> None:
    spec = importlib.util.spec_from_file_location("local_aws_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load(aws.catalog(), aws)


if __name__ == "__main__":
    main()
