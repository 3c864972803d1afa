"""docs/commands.md names every command, and the options that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flight_server.cli import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "commands.md").read_text()


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


def test_every_command_is_described_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    box = _help(capsys).partition("Commands")[2]
    commands = re.findall(r"^│ ([a-z]+) ", box, re.MULTILINE)
    assert {"demo", "serve", "tables"} < set(commands)
    docs = "".join(path.read_text() for path in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
    missing = [name for name in commands if f"`{name}" not in TEXT and f"athena-flight {name}" not in docs]
    assert missing == []


@pytest.mark.parametrize(
    ("command", "option"), re.findall(r"`(check|new|run|datasets|demo|serve) [^`]*?(--[a-z-]+)", TEXT)
)
def test_every_option_that_is_described_exists(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option in _help(capsys, command)
