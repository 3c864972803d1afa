"""Fixtures for what a data owner does: a small folder of datasets to break, and the demo's settings as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.config import Config

PRICES_DDL = """\
-- /// table
-- not_null = ["stock", "day"]
-- ///
CREATE TABLE market.prices (stock string, day date, close float, shares bigint, amount decimal(10,2))
PARTITIONED BY (month(day))
TBLPROPERTIES ('table_type'='ICEBERG')
"""
STOCKS_DDL = """\
CREATE TABLE market.stocks (stock string, name string)
TBLPROPERTIES ('table_type'='ICEBERG')
"""
CLOSES = """\
-- /// dataset
-- title   = "Closes"
-- version = 1
-- key     = ["day"]
-- sorted  = ["day"]
--
-- [params]
-- stock = { type = "string", max_length = 9, example = "A" }
-- first = { type = "date", example = 2024-01-01 }
-- last  = { type = "date", optional = true, example = 2024-12-31 }
-- most  = { type = "float64", optional = true }
--
-- [rules]
-- range = "first <= last"
--
-- [columns]
-- day    = { type = "date", null = false }
-- close  = { type = "float32" }
-- shares = { type = "int64" }
-- ///
SELECT p.day, p.close, p.shares
FROM market.prices AS p
WHERE p.stock = :stock
  AND p.day >= :first
  AND p.day <= :last
  AND p.close <= :most
ORDER BY p.day
"""
CLOSES_TEST = """\
[inputs."market.prices"]
rows = [
  { stock = "A", day = 2024-01-03, close = 2.28, shares = 20 },
  { stock = "A", day = 2024-01-02, close = 1.5 },
  { stock = "B", day = 2024-01-02, close = 9.0, shares = 90 },
]

[[case]]
name   = "both days"
params = { stock = "A", first = 2024-01-01 }
rows   = [
  { day = 2024-01-02, close = 1.5 },
  { day = 2024-01-03, close = 2.28, shares = 20 },
]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the dataset `closes`, its test and the DDL of two tables; right as it is."""
    directory = tmp_path / "sql"
    (directory / "tables").mkdir(parents=True)
    (directory / "tables" / "market.prices.sql").write_text(PRICES_DDL)
    (directory / "tables" / "market.stocks.sql").write_text(STOCKS_DDL)
    (directory / "closes.sql").write_text(CLOSES)
    (directory / "closes.test.toml").write_text(CLOSES_TEST)
    return directory


@pytest.fixture
def edit(folder: Path) -> Callable[..., Path]:
    """Replace texts in a file of `folder`; every one must be there: `edit("closes.sql", ("p.day", "p.dya"))`."""

    def change(name: str, *replacements: tuple[str, str]) -> Path:
        path = folder / name
        text = path.read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return change


@pytest.fixture
def folder_config(folder: Path, tmp_path: Path) -> Config:
    """Settings that serve `folder` from an empty catalog of its own, on any port."""
    return Config.model_validate(
        {
            "server": {"port": 0},
            "datasets": {"directory": folder},
            "catalog": {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": str(tmp_path / "warehouse")},
        }
    )


@pytest.fixture(scope="session")
def demo_file(demo_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of the demo tables and the repository's datasets as a file for --config."""
    path = tmp_path_factory.mktemp("settings") / "demo.toml"
    path.write_text(
        f'[server]\nport = 0\n[catalog]\nuri = "{demo_config.catalog.uri}"\n'
        f'warehouse = "{demo_config.catalog.warehouse}"\n'
        f'[datasets]\ndirectory = "{Path(__file__).parent.parent / "sql"}"\n'
    )
    return path
