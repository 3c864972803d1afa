"""The lines of an audit file, for the tests of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.waiting import until

OUTCOME: dict[str, Any] = {
    "caller": "x",
    "method": "DoGet",
    "action": "",
    "dataset": "d",
    "params": "",
    "datasets": (),
    "reads": (),
    "rows": 0,
    "bytes": 0,
    "policies": (),
    "query_id": "",
    "code": "ok",
}


def lines(file: Path, count: int) -> list[dict[str, Any]]:
    """The lines of the file once there are `count`: a call's line comes after its answer."""
    until(lambda: file.exists() and len(file.read_text().splitlines()) >= count)
    found = file.read_text().splitlines()
    assert len(found) == count, found
    return [json.loads(line) for line in found]
