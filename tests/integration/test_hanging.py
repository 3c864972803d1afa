"""Systems that take a connection and never answer: how often each is tried, for how long, and what is said then.

Tries are counted where they arrive. How long they take is the settings' sum, and no test's guess about the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from pyiceberg.io import load_file_io

from flight_server import config
from flight_server.errors import EngineFailed, ServerError, TableError
from flight_server.server import build, build_athena, build_store, start_in_thread
from flight_server.service.auth.jwt import JwtVerifier
from flight_server.tables.catalog import open_catalog
from flight_server.tables.locate import locator
from tests.fakes.aws import LocalAws
from tests.fix_identity import AUDIENCE, ISSUER, Issuer
from tests.fix_server import command, dataset, folder_of, raw
from tests.hanging import Hanging, hanging

FINGERPRINT = "ab" * 32


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    with hanging() as opened:
        yield opened


def settings(nowhere: Hanging, **sections: dict[str, Any]) -> config.Config:
    """A server on AWS of which no service answers."""
    addresses = {f"{name}_endpoint": nowhere.url for name in ("athena", "glue", "s3")}
    return config.load(
        None,
        aws={"region": "us-east-1", **addresses},
        catalog={"kind": "glue", "warehouse": "s3://lake/warehouse", **sections.pop("catalog", {})},
        athena={"results": "s3://lake/results", **sections.pop("athena", {})},
        **sections,
    )


def test_glue_is_tried_as_often_as_the_settings_say(nowhere: Hanging) -> None:
    with closing(open_catalog(settings(nowhere, catalog={"answer_s": 0.2, "tries_max": 4}))) as catalog:
        with pytest.raises(TableError, match=r"cannot look up table 'market\.prices': Read timeout"):
            locator(catalog)("market.prices")
    assert nowhere.tried == 4


def test_a_caller_is_told_that_the_catalog_does_not_answer(nowhere: Hanging, tmp_path: Path) -> None:
    served = folder_of(tmp_path / "sql", few=dataset("SELECT id AS x FROM lake.prices"))
    catalog = {"answer_s": 0.2}
    server = build(settings(nowhere, catalog=catalog, server={"port": 0}, datasets={"directory": served}))
    start_in_thread(server)
    try:
        tried = nowhere.tried
        reply = raw(server, "GetFlightInfo", command(b"few"))
        assert (reply.code, reply.details[:10]) == (grpc.StatusCode.INTERNAL, "[internal]")
        assert nowhere.tried == tried + 2
    finally:
        server.stop(0)


def test_a_plan_without_glue_waits_for_ten_seconds_and_no_longer_by_default() -> None:
    catalog = config.Catalog()
    assert catalog.answer_s * catalog.tries_max == 10
    assert config.Aws().connect_s * catalog.tries_max == 10


def test_the_metadata_of_a_table_is_tried_three_times(nowhere: Hanging) -> None:
    with closing(open_catalog(settings(nowhere, catalog={"metadata_s": 1.0}))) as catalog:
        file = load_file_io(catalog.properties, "s3://lake/warehouse").new_input("s3://lake/warehouse/t.json")
        with pytest.raises(OSError, match="Timeout was reached"):
            file.open()
    assert nowhere.tried == 3


def test_a_result_is_not_looked_for_without_end(nowhere: Hanging) -> None:
    store = build_store(settings(nowhere, results={"manifest_s": 0.2}))
    with pytest.raises(EngineFailed, match=r"the result store cannot be used: Read timeout"):
        store.find(FINGERPRINT)
    assert nowhere.tried == 4
    assert config.Results().manifest_s * nowhere.tried == 10


def test_parts_are_tried_as_often_as_the_settings_say(nowhere: Hanging) -> None:
    store = build_store(settings(nowhere, results={"request_s": 1.0, "tries_max": 2}))
    with pytest.raises(EngineFailed, match=r"the part 'part' cannot be read: .*AWS Error NETWORK_CONNECTION"):
        store.complete(FINGERPRINT, "1", "q", [f"{store.attempt_uri(FINGERPRINT, '1')}part"], 0, threading.Event())
    assert nowhere.tried == 2


def test_athena_is_tried_as_often_as_the_settings_say(nowhere: Hanging) -> None:
    with closing(build_athena(settings(nowhere, athena={"answer_s": 0.2, "tries_max": 2}))) as engine:
        with pytest.raises(EngineFailed, match=r"Athena cannot be reached: Read timeout"):
            engine.ping()
    assert nowhere.tried == 2


def test_an_athena_whose_result_store_is_down_is_not_well(aws_environment: LocalAws) -> None:
    with hanging() as nowhere:
        found = config.load(
            None,
            aws={
                "region": aws_environment.store.region,
                "athena_endpoint": aws_environment.athena_endpoint,
                "s3_endpoint": nowhere.url,
            },
            athena={"results": f"{aws_environment.warehouse}/results"},
            results={"manifest_s": 0.2},
        )
        with (
            closing(build_athena(found)) as engine,
            pytest.raises(EngineFailed, match="the result store cannot be used"),
        ):
            engine.ping()


def test_an_issuer_that_sends_no_keys_is_waited_for_as_long_as_the_settings_say(
    nowhere: Hanging, capfd: pytest.CaptureFixture[str]
) -> None:
    auth = config.Auth(jwt_keys=nowhere.url, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_fetch_s=0.2)
    with pytest.raises(ServerError, match="keys of the token issuer cannot be read"):
        JwtVerifier(auth).caller(Issuer().token())
    assert nowhere.tried == 1
    assert "jwt_keys_unreadable" in capfd.readouterr().err
