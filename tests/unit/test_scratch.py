"""Folders on the temporary disk: of a living process they stay, of a killed one they go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flight_server import scratch

MAKER = """
import sys, tempfile
from flight_server.scratch import Scratch
tempfile.tempdir = sys.argv[1]
made = Scratch("results")
(made.path / "1.arrow").write_bytes(b"rows")
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """All folders are old enough."""
    monkeypatch.setattr(scratch, "_AGE_S", -1.0)


@pytest.mark.usefixtures("old")
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(disk: Path) -> None:
    command = [sys.executable, "-c", MAKER, str(disk)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        made = Path(other.stdout.readline().strip())
        assert scratch.sweep() == []
        assert (made / "1.arrow").exists()
        other.kill()
        other.wait()
        assert scratch.sweep() == [made]
    assert list(disk.iterdir()) == []


@pytest.mark.usefixtures("old")
def test_ones_own_folder_stays_until_it_is_removed() -> None:
    mine = scratch.Scratch("spill")
    assert scratch.sweep() == []
    assert mine.path.stat().st_mode & 0o777 == 0o700
    mine.remove()
    mine.remove()
    assert not mine.path.exists()


@pytest.mark.usefixtures("old")
def test_what_is_not_of_this_kind_stays(disk: Path) -> None:
    for name in ("athena-flight-notes", "other", "athena-flight-results-"):
        (disk / name).mkdir()
    (disk / "athena-flight-results-file").write_text("no folder")
    (disk / "athena-flight-spill-link").symlink_to(disk / "other")
    assert scratch.sweep() == []
    assert len(list(disk.iterdir())) == 5


def test_a_folder_that_is_being_made_is_left_alone(disk: Path) -> None:
    (disk / "athena-flight-results-new").mkdir()
    assert scratch.sweep() == []
