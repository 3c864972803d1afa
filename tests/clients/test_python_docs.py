"""Every Python block of docs/clients.md and of the client's README runs, and prints what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from flight_server.server import Server
from tests.fix_client import ROOT

PAGES = ("docs/clients.md", "clients/python/README.md")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:8815"


def run(page: str, address: str) -> list[tuple[str, str]]:
    """What every block that shows its output says that it prints, and what it prints."""
    names: dict[str, object] = {}
    found = []
    for code, said in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code.replace(ADDRESS, address), page, "exec"), names)
        printed = "\n".join(line.rstrip() for line in out.getvalue().replace(address, ADDRESS).splitlines())
        found.append((said.rstrip("\n"), printed))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_blocks_print_what_the_page_says(
    page: str, demo_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = run(page, f"localhost:{demo_server.port}")
    assert len(blocks) >= 5
    for said, printed in blocks:
        assert printed == said
