"""`athena-flight client python`: a module that type checkers accept and that asks the same questions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flight_client import Connection
from tests.fix_client import ROOT, client_env

USE_RIGHT = """
import datetime as dt
from decimal import Decimal
import flight_client
import flight_datasets as datasets

db = flight_client.connect("grpc://localhost:1")
query: flight_client.Query = datasets.daily_prices(db, "AAPL", dt.date(2010, 1, 4), end_date=None)
datasets.aggregate_stats(db, ["AAPL"], "2010-01-04")
datasets.basket_value(db, {1: 0.6, 5: 0.4}, "2010-01-04")
datasets.every_type(
    db, True, 1, 2, 0.1, Decimal("1.1"), "w", "buy", dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), "2024-01-01",
    [1, 2], {1: 0.5}, class_="x",
)
"""
USE_WRONG = """
import flight_client
import flight_datasets as datasets

db = flight_client.connect("grpc://localhost:1")
datasets.daily_prices(db, 5, "2010-01-04")
datasets.daily_prices(db, "AAPL")
datasets.daily_prices(db, "AAPL", "2010-01-04", finish="2010-01-05")
datasets.aggregate_stats(db, "AAPL", "2010-01-04")
datasets.every_type(db, True, 1, 2, 0.1, 1, "w", "hold", "d", "m", "i", [1], {1: 0.5})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, client_datasets: Path) -> Path:
    """The module of all datasets of the tests, written by the command."""
    made = tmp_path_factory.mktemp("stubs") / "new"
    command = [sys.executable, "-m", "flight_server", "client", "python", "--output", str(made)]
    env = client_env(ATHENA_FLIGHT_DATASETS__DIRECTORY=str(client_datasets))
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{made / 'flight_datasets.py'}\t{len(list(client_datasets.glob('*.sql')))} datasets\n"
    return made


@pytest.fixture(scope="module")
def module(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flight_datasets", folder / "flight_datasets.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# Checked elsewhere, and most of a minute each.
MYPY = """
[mypy]
strict = true
[mypy-flight_client.*]
follow_imports = silent
[mypy-polars.*,pandas.*,pyarrow.*,rich.*,duckdb.*]
follow_imports = skip
ignore_missing_imports = true
"""


def mypy(folder: Path, *names: str) -> list[str]:
    (folder / "mypy.ini").write_text(MYPY)
    env = client_env(MYPYPATH=str(ROOT / "clients" / "python"))
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *names]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=110).stdout.splitlines()


def test_type_checker_accepts_it_and_finds_wrong_uses(folder: Path) -> None:
    (folder / "right.py").write_text(USE_RIGHT)
    (folder / "wrong.py").write_text(USE_WRONG)
    found = mypy(folder, "flight_datasets.py", "right.py", "wrong.py")
    assert [line.split(":")[:2] for line in found if "error" in line] == [
        ["wrong.py", str(line)] for line in range(6, 11)
    ]


def test_functions_ask_what_the_client_asks(module: ModuleType, db: Connection) -> None:
    query = module.daily_prices(db, "AAPL", "2010-01-04")
    assert query.request == db.daily_prices("AAPL", "2010-01-04").request
    assert query.arrow().num_rows == 795
    assert module.every_type.__annotations__["side"] == "Literal['buy', 'sell']"


def test_documentation_has_parameters_and_columns(module: ModuleType) -> None:
    text = module.daily_prices.__doc__
    assert text is not None
    assert text.startswith("Daily prices\n\n    One row per trading day of one US stock")
    assert "        end_date (date, optional): Last day, inclusive; absent = latest\n" in text
    assert "        close (float32, USD): Close as quoted that day\n" in text
