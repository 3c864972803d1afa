"""moto's S3 and Glue in a process of its own, so that big objects do not hold the tests' interpreter lock.

Prints its port, serves until standard input ends: it cannot outlive the process that started it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from moto.s3.models import FakeKey
from moto.server import ThreadedMotoServer


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    FakeKey.value = _kept_value(FakeKey.value)  # type: ignore[assignment, method-assign]
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    server.stop()


def _kept_value(plain: Any) -> property:
    """moto copies the whole object out of its buffer for every range that is read of it.

    Parquet is read in hundreds of ranges: 53 ms for each one of a 64 MiB object, 8 ms with the bytes kept.
    """

    def get(key: Any) -> bytes:
        kept: bytes | None = key.__dict__.get("_kept_value")
        if kept is None:
            kept = key.__dict__["_kept_value"] = plain.fget(key)
        return kept

    def put(key: Any, value: bytes) -> None:
        key.__dict__.pop("_kept_value", None)
        plain.fset(key, value)

    return property(get, put)


if __name__ == "__main__":
    main()
