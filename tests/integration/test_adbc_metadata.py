"""Metadata through ADBC: what the driver is told of the server, walks at every depth, filters, and who sees what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adbc_driver_manager
import pytest
from argon2 import PasswordHasher

from flight_server.service.flight_sql.metadata import CALLED, TABLE
from tests.fix_server import Serve
from tests.fix_sql import AAPL, Connect, Counted, count

DEMO = {
    "analytics": {"daily_portfolio_value", "tb_metrics"},
    "market_data": {"kr_stocks_price", "us_stocks_price"},
    "portfolio": {"tb_nav", "tb_rebalance"},
    "reference": {"tb_meta"},
}


def walk(connection: Any, depth: str = "tables", **filters: Any) -> list[dict[str, Any]]:
    return list(connection.adbc_get_objects(depth=depth, **filters).read_all().to_pylist())


def tables(objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Schema → table → type."""
    (catalog,) = objects
    assert catalog["catalog_name"] == "athena_flight"
    return {
        schema["db_schema_name"]: {each["table_name"]: each["table_type"] for each in schema["db_schema_tables"]}
        for schema in catalog["catalog_db_schemas"]
    }


def test_the_server_says_what_it_is(adbc_connection: Any) -> None:
    found = adbc_connection.adbc_get_info()
    assert found["vendor_name"] == "athena-flight"
    assert found["vendor_version"] == "0.1.0"
    assert found["driver_name"] == "ADBC Flight SQL Driver - Go"


def test_the_connection_knows_its_catalog_and_schema(adbc_connection: Any) -> None:
    assert (adbc_connection.adbc_current_catalog, adbc_connection.adbc_current_db_schema) == (
        "athena_flight",
        "datasets",
    )
    adbc_connection.adbc_current_catalog = "athena_flight"
    with pytest.raises(adbc_driver_manager.Error, match="schema"):
        adbc_connection.adbc_current_db_schema = "reference"


def test_there_are_two_types_of_tables(adbc_connection: Any) -> None:
    assert adbc_connection.adbc_get_table_types() == [CALLED, TABLE]


def test_objects_are_walked_at_every_depth(adbc_connection: Any) -> None:
    assert walk(adbc_connection, "catalogs") == [{"catalog_name": "athena_flight", "catalog_db_schemas": None}]
    (catalog,) = walk(adbc_connection, "db_schemas")
    assert [each["db_schema_name"] for each in catalog["catalog_db_schemas"]] == sorted([*DEMO, "datasets"])
    found = tables(walk(adbc_connection, "tables"))
    assert {name: set(found[name]) for name in DEMO} == DEMO
    assert found["reference"] == {"tb_meta": TABLE}
    assert found["datasets"]["daily_prices"] == CALLED
    # It has no parameter that must be given.
    assert found["datasets"]["slow_rows"] == TABLE


def test_columns_have_types_order_and_docs(adbc_connection: Any) -> None:
    (catalog,) = walk(adbc_connection, "all", db_schema_filter="datasets", table_name_filter="daily_prices")
    (schema,) = catalog["catalog_db_schemas"]
    (table,) = schema["db_schema_tables"]
    assert [
        (column["ordinal_position"], column["column_name"], column["xdbc_type_name"])
        for column in table["table_columns"]
    ] == [
        (1, "trade_date", "DATE"),
        (2, "close", "REAL"),
        (3, "adj_close", "REAL"),
        (4, "gross_return", "REAL"),
        (5, "ticker", "VARCHAR"),
        (6, "name", "VARCHAR"),
        (7, "sector", "VARCHAR"),
    ]
    remarks = adbc_connection.adbc_get_table_schema("daily_prices", db_schema_filter="datasets").field("close").metadata
    assert remarks[b"ARROW:FLIGHT:SQL:REMARKS"] == b"Close as quoted that day"
    keys = [each["constraint_column_names"] for each in table["table_constraints"] or []]
    assert keys in ([], [["ticker", "trade_date"]])


def test_a_table_has_the_schema_that_it_selects(adbc_connection: Any) -> None:
    told = adbc_connection.adbc_get_table_schema("us_stocks_price", db_schema_filter="market_data")
    with adbc_connection.cursor() as cursor:
        cursor.execute("SELECT * FROM market_data.us_stocks_price LIMIT 1")
        given = cursor.fetch_arrow_table().schema
    assert [(field.name, field.type) for field in told] == [(field.name, field.type) for field in given]
    assert [field.nullable for field in told] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"table_name_filter": "tb\\_m%"}, {"analytics": ["tb_metrics"], "reference": ["tb_meta"]}),
        ({"table_name_filter": "tb_m%"}, {"analytics": ["tb_metrics"], "reference": ["tb_meta"]}),
        ({"table_name_filter": "daily\\_prices"}, {"datasets": ["daily_prices"]}),
        ({"table_name_filter": "daily.prices"}, {}),
        ({"db_schema_filter": "ref%"}, {"reference": ["tb_meta"]}),
        # Those of tests/clients/datasets that need no parameter.
        ({"table_types_filter": [TABLE], "db_schema_filter": "datasets", "table_name_filter": "slow%"},
         {"datasets": ["slow_count", "slow_rows"]}),
        ({"table_types_filter": [CALLED], "table_name_filter": "daily%"},
         {"datasets": ["daily_portfolio_value", "daily_prices"]}),
        ({"table_types_filter": ["VIEW"]}, {}),
    ],
)  # fmt: skip
def test_patterns_choose_among_tables(adbc_connection: Any, filters: Any, expected: dict[str, list[str]]) -> None:
    found = {name: list(each) for name, each in tables(walk(adbc_connection, **filters)).items() if each}
    assert found == expected


def test_another_catalog_has_nothing(adbc_connection: Any) -> None:
    assert walk(adbc_connection, catalog_filter="other") == []


def test_without_ad_hoc_sql_only_datasets_are_seen(adbc_connect: Connect, closed_server: Counted) -> None:
    connection = adbc_connect(closed_server.url)
    assert set(tables(walk(connection))) == {"datasets"}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {AAPL}")
        assert cursor.fetchone() == (19,)
        with pytest.raises(adbc_driver_manager.Error, match="sql-refused.*tables of the catalog are not open"):
            cursor.execute("SELECT * FROM reference.tb_meta")
        # Whether it exists is not told either.
        with pytest.raises(adbc_driver_manager.Error, match="sql-refused.*tables of the catalog are not open"):
            cursor.execute("SELECT * FROM reference.nothing")


PASSWORDS = {"ann": ["analyst"], "bob": ["guest"]}
SECRET = """\
-- /// dataset
-- title = "Secret"
-- [columns]
-- name = { type = "string" }
-- [access]
-- roles = ["analyst"]
-- ///
SELECT m.name FROM reference.tb_meta AS m
"""
MASK = """
[[row_filter]]
table  = "reference.tb_meta"
where  = "meta_id = 1"
except = ["nobody"]
"""


@pytest.fixture(scope="module")
def guarded(serve_session: Serve, tmp_path_factory: pytest.TempPathFactory) -> Counted:
    """A server with passwords, a dataset for analysts, tables for analysts, and a row policy for everybody."""
    folder = tmp_path_factory.mktemp("guarded")
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    users = [
        f'[[user]]\nname = "{name}"\nargon2 = "{hasher.hash(name * 3)}"\nroles = {roles}\n'
        for name, roles in PASSWORDS.items()
    ]
    (folder / "users.toml").write_text("\n".join(users).replace("'", '"'))
    (folder / "sql").mkdir()
    (folder / "sql" / "secret.sql").write_text(SECRET)
    (folder / "sql" / "open.sql").write_text(
        SECRET.replace('[access]\n-- roles = ["analyst"]', "").replace("-- \n", "")
    )
    (folder / "sql" / "policies.toml").write_text(MASK)
    passwords: Path = folder / "users.toml"
    server = serve_session(folder / "sql", auth={"passwords": passwords}, sql={"ad_hoc_roles": ["analyst"]})
    return Counted(server, count(server.engines))


def test_a_password_opens_and_roles_and_row_policies_hold(adbc_connect: Connect, guarded: Counted) -> None:
    ann = adbc_connect(guarded.url, username="ann", password="annannann")
    bob = adbc_connect(guarded.url, username="bob", password="bobbobbob")
    assert set(tables(walk(ann))["datasets"]) == {"open", "secret"}
    assert tables(walk(bob)) == {"datasets": {"open": TABLE}}
    with ann.cursor() as cursor:
        for sql in ("SELECT * FROM secret", "SELECT name FROM reference.tb_meta AS x", "SELECT max(name) FROM open"):
            cursor.execute(sql)
            # The policy admits one row, however the table is named.
            assert cursor.fetchall() == [("Apple Inc.",)]
    with bob.cursor() as cursor:
        cursor.execute("SELECT * FROM open")
        assert cursor.fetchall() == [("Apple Inc.",)]
        before = len(guarded.engine.started)
        messages = []
        for sql in ("SELECT * FROM secret", "SELECT * FROM sekret", "SELECT * FROM reference.tb_meta"):
            with pytest.raises(adbc_driver_manager.Error, match="sql-refused") as caught:
                cursor.execute(sql)
            messages.append(str(caught.value))
        # What bob may not use answers exactly like what does not exist.
        assert messages[0].replace("secret", "x") == messages[1].replace("sekret", "x")
        assert len(guarded.engine.started) == before


def test_a_wrong_password_opens_nothing(adbc_connect: Connect, guarded: Counted) -> None:
    for options in ({"username": "ann", "password": "wrong"}, {"username": "eve", "password": "x"}):
        with pytest.raises(adbc_driver_manager.Error, match=r"(?i)unauthenticated|bad-credential"):
            walk(adbc_connect(guarded.url, **options))
    with pytest.raises(adbc_driver_manager.Error, match=r"(?i)unauthenticated|no-credential"):
        walk(adbc_connect(guarded.url))
