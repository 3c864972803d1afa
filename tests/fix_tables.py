"""Fixtures about Iceberg tables: catalogs in temporary folders, and the demo tables built once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server import config
from flight_server.tables.catalog import create_table, find_table, open_catalog
from flight_server.tables.ddl import parse, read_all
from flight_server.tables.demo import build

DDL = Path(__file__).parent.parent / "sql" / "tables"


def local_config(folder: Path) -> config.Config:
    """Settings of a SQLite catalog and a warehouse inside `folder`."""
    return config.Config(
        catalog=config.Catalog(uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder / "warehouse"))
    )


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with closing(open_catalog(local_config(tmp_path))) as opened:
        yield opened


@pytest.fixture
def prices(catalog: Catalog) -> Table:
    """`market_data.us_stocks_price` of the repository's DDL, empty."""
    create_table(catalog, read_all(DDL)["market_data.us_stocks_price"])
    return find_table(catalog, "market_data.us_stocks_price")


@pytest.fixture
def make_table(catalog: Catalog) -> Callable[..., Table]:
    """Create `t.<name>` with columns as in DDL: `make_table("one", "a int, b string", not_null=["a"])`."""

    def make(name: str, columns: str, not_null: tuple[str, ...] = (), partitioned: str = "") -> Table:
        listed = ", ".join(f'"{column}"' for column in not_null)
        text = (
            f"-- /// table\n-- not_null = [{listed}]\n-- ///\n"
            f"CREATE TABLE t.{name} ({columns}) {partitioned} TBLPROPERTIES ('table_type'='ICEBERG')"
        )
        create_table(catalog, parse(text, Path(f"t.{name}.sql")))
        return find_table(catalog, f"t.{name}")

    return make


@pytest.fixture(scope="session")
def demo_config(tmp_path_factory: pytest.TempPathFactory) -> config.Config:
    """Settings of a catalog with the demo tables, built once a session (about 3 s). Not to be written to."""
    found = local_config(tmp_path_factory.mktemp("demo"))
    with closing(open_catalog(found)) as catalog:
        build(catalog, DDL)
    return found


@pytest.fixture(scope="session")
def demo_catalog(demo_config: config.Config) -> Iterator[Catalog]:
    """The catalog of `demo_config`, open. Not to be written to."""
    with closing(open_catalog(demo_config)) as opened:
        yield opened
