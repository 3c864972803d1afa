"""`athena-flight tables`: output, exit codes, and what goes to which stream."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flight_server.cli import app
from flight_server.config import Config

Run = Callable[..., Result]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`athena-flight tables …` with a catalog of its own, in the repository's folder; a pipe, not a terminal."""
    monkeypatch.chdir(ROOT)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[catalog]\nuri = "sqlite:///{tmp_path}/c.db"\nwarehouse = "{tmp_path}/w"\n')

    def call(*words: str) -> Result:
        return CliRunner().invoke(app, ["tables", words[0], "--config", str(settings), *words[1:]])

    return call


def meta(tmp_path: Path, name: str, *lines: str) -> str:
    (tmp_path / name).write_text("meta_id,ticker\n" + "\n".join(lines) + "\n")
    return str(tmp_path / name)


def test_create_load_list_show(run: Run, tmp_path: Path) -> None:
    created = run("create", "reference.tb_meta", "portfolio.tb_nav")
    assert (created.exit_code, created.stderr) == (0, "")
    assert created.stdout == "reference.tb_meta\tcreated\nportfolio.tb_nav\tcreated\n"
    assert run("create", "reference.tb_meta").stdout == "reference.tb_meta\texists, left as it is\n"

    path = meta(tmp_path, "m.csv", "1,AAPL", "2,FB")
    loaded = run("load", "reference.tb_meta", path)
    assert (loaded.exit_code, loaded.stderr) == (0, "")
    assert loaded.stdout.startswith(f"{path}\t2 rows in 1 files\tsnapshot ")
    snapshot = loaded.stdout.split()[-1]

    listed = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert [(row[0], row[1], row[2], row[4]) for row in listed] == [
        ("portfolio.tb_nav", "0", "0", "0"),
        ("reference.tb_meta", "2", "1", "1"),
    ]
    shown = run("show", "reference.tb_meta").stdout.splitlines()
    assert "rows\t2" in shown
    assert "column\tmeta_id\tint\tnot null\tStock; unique" in shown
    assert any(line.startswith(f"snapshot\t{snapshot}\t") and line.endswith("append\t2\tm.csv") for line in shown)
    assert "partitioned by\tmonth(trade_date)" in run("show", "portfolio.tb_nav").stdout.splitlines()


def test_a_refused_file_is_one_line_on_stderr_and_the_others_are_loaded(run: Run, tmp_path: Path) -> None:
    run("create", "reference.tb_meta")
    bad, good = meta(tmp_path, "bad.csv", "1,A", "x,B"), meta(tmp_path, "good.csv", "3,C")
    done = run("load", "reference.tb_meta", bad, good)
    assert done.exit_code == 1
    assert done.stderr == f"error: '{bad}': column 'meta_id', row 2: 'x' is not a valid int32\n"
    assert done.stdout.startswith(f"{good}\t1 rows")
    again = run("load", "reference.tb_meta", good)
    assert again.exit_code == 1
    assert again.stdout == ""
    assert "error: 'good.csv' was loaded into reference.tb_meta already" in again.stderr
    assert run("load", "reference.tb_meta", good, "--again").exit_code == 0
    assert "reference.tb_meta\t2\t2" in run("list").stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("create", "reference.tb_mata"), 1, "no DDL file for table 'reference.tb_mata'; did you mean"),
        (("show", "portfolio.nope"), 1, "error: there is no table 'portfolio.nope'"),
        (("load", "portfolio.nope", "x.csv"), 1, "error: there is no table 'portfolio.nope'"),
        (("load", "portfolio.nope"), 2, "Missing argument"),
        (("show",), 2, "Missing argument"),
        (("drop", "portfolio.tb_nav"), 2, "No such command"),
        (("list", "--config", "/nowhere/settings.toml"), 2, "does not exist"),
    ],
)
def test_failures_say_why_on_stderr(run: Run, words: tuple[str, ...], code: int, message: str) -> None:
    done = run(*words)
    assert done.exit_code == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[catalog]\nwarehouse = "gs://bucket"\n')
    done = run("list")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: setting 'catalog.warehouse'")


@pytest.mark.parametrize("command", ["create", "load", "list", "show"])
def test_help_has_an_example(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example: athena-flight tables {command}" in done.stdout


def test_a_terminal_gets_boxes_and_a_bar(demo_config: Config, tmp_path: Path) -> None:
    path = meta(tmp_path, "bad.csv", "x,A")
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[catalog]\nuri = "{demo_config.catalog.uri}"\nwarehouse = "{demo_config.catalog.warehouse}"\n'
    )
    tables = f"{sys.executable} -m flight_server tables"
    script = f"{tables} list --config {settings}; {tables} load reference.tb_meta {path} --config {settings}"
    main, side = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(["sh", "-c", script], cwd=ROOT, env=environment, stdout=side, stderr=side):
        os.close(side)
        said = b""
        while True:
            try:
                block = os.read(main, 4096)
            except OSError:
                break
            if not block:
                break
            said += block
    os.close(main)
    text = said.decode()
    assert "snapshots" in text
    assert "12,154" in text
    assert "━" in text
    assert "'x' is not a valid int32" in text
