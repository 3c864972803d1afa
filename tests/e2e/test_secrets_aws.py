"""AWS keys are looked for in everything that a server on Athena says, at the most talkative log level.

As test_secrets.py, over the local Athena, Glue and S3, and with the embedded engine over the same tables: queries that
succeed and fail, every kind of error of Athena and S3 (among them S3's own habit of repeating what was signed), traces,
metrics, `config show`, `explain` and the list of processes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server.cli import main
from flight_server.service.auth.tokens import digest
from tests import processes
from tests.e2e.test_secrets import TICKET_SECRET, Planted, command_lines, pages
from tests.fakes.aws import LocalAws
from tests.fix_collector import Collector
from tests.fix_identity import Client
from tests.fix_served import IDS, Labs, dataset
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)
AWS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDAWSKEYID7Q",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-key-4b/+x",
    "AWS_SESSION_TOKEN": "planted-aws-session-token-5a/+x",
}
OTHERS = {
    "ATHENA_FLIGHT_SERVER__TICKET_SECRET": TICKET_SECRET,
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=planted-collector-key-3c",
}
TOKEN = "af_planted-operator-token-1a"
# Fails in the engine, on Athena too, with a value in the reason.
FAILING = dataset(
    {"x": "int32"},
    "SELECT CAST(concat('no', CAST(p.id AS VARCHAR)) AS INTEGER) AS x FROM lake.prices AS p WHERE p.id >= :first",
    more='[params]\nfirst = { type = "int64" }',
)
ENGINES = ("athena", "duckdb")
S3_FAULTS = ("denied", "expired", "signature", "missing", "slow_down", "reset", "truncate", "corrupt")
# As Athena and other JSON services of AWS say it.
SIGNATURE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details.\n\nThe Canonical String for this request should "
    f"have been\n'POST\n/\n\nhost:athena\nx-amz-security-token:{AWS['AWS_SESSION_TOKEN']}\n'"
)
ATHENA_FAULTS: list[dict[str, object]] = [
    *(
        {"errors_next": [{"operation": "StartQueryExecution", "type": kind, "message": message, "status": 400}]}
        for kind, message in (
            ("ExpiredTokenException", "The security token included in the request is expired"),
            ("AccessDeniedException", "User: arn:aws:sts::1:assumed-role/x is not authorized"),
            ("InvalidSignatureException", SIGNATURE),
        )
    ),
    {"fail_next": [{"category": 1, "type": 401, "retryable": False, "message": "Access denied when writing"}]},
    {"broken_next": {"StartQueryExecution": 9}},
    {"throttle_next": {"StartQueryExecution": 99}},
]


def ask(client: Client, numbers: Iterator[int], planted: Planted, engines: Sequence[str] = ENGINES) -> None:
    """Questions that no stored result answers, those that fail in the engine among them."""
    for engine, name in itertools.product(engines, ("ids", "failing")):
        request = f"{name}?first={next(numbers)}&_engine={engine}"
        planted.hear(lambda request=request: client.rows(request)[:1])  # type: ignore[misc]


def ask_in_all_ways(client: Client, numbers: Iterator[int], planted: Planted) -> None:
    ask(client, numbers, planted)
    for engine in ENGINES:
        body = {"dataset": "failing", "params": {"first": next(numbers)}, "engine": engine}
        planted.hear(lambda body=body: client.info(json.dumps(body)).serialize())  # type: ignore[misc]
        planted.hear(lambda body=body: client.action("explain", body))  # type: ignore[misc]
        planted.hear(lambda body=body: client.result(client.submitted(body)))  # type: ignore[misc]
    for sql in (
        f"SELECT max(id) AS x FROM lake.prices WHERE id > {next(numbers)}",
        f"SELECT CAST(ticker AS DATE) AS x FROM lake.prices WHERE id > {next(numbers)}",
        "SELECT * FROM duckdb_secrets()",
        "SELECT current_setting('s3_secret_access_key') AS x",
    ):
        planted.hear(lambda sql=sql: client.sql(sql)[:1])  # type: ignore[misc]
    planted.hear(lambda: client.metadata("CommandGetTables").to_pylist())


def test_a_server_on_athena_says_no_secret(
    labs: Labs, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**AWS, **OTHERS}.items():
        monkeypatch.setenv(name, value)
    audit, tokens = tmp_path / "audit.log", tmp_path / "tokens.toml"
    tokens.write_text(f'[[token]]\nname = "t"\nroles = ["operator"]\nsha256 = "{digest(TOKEN)}"\n')
    found = labs.configure(
        {"ids": IDS, "failing": FAILING},
        server={"ticket_secret": None},
        auth={"tokens": tokens},
        audit={"file": str(audit)},
        sql={"ad_hoc_roles": ["operator"]},
        telemetry={"endpoint": collector.endpoint},
        athena={"throttle_wait_s": 0.5, "attempts_max": 1},
        log={"level": "debug"},
    )
    secrets = [*AWS.values(), TICKET_SECRET, TOKEN, "planted-collector-key-3c"]
    # As they stand in a signed address, too.
    planted = Planted([*secrets, *(urllib.parse.quote(each, safe="") for each in secrets)])
    numbers = itertools.count(1)
    with processes.server(found, tmp_path) as process, flight.connect(process.address) as connection:
        client = Client(connection, TOKEN)
        # Before the embedded engine has read these files once, after which it keeps them.
        fail(labs.aws, client, numbers, planted, "/data/", "duckdb")
        # All is well with these keys: what is said of faults is not said of missing ones.
        assert len(client.rows("ids?first=500")) == 100
        assert len(client.rows("ids?first=500&_engine=duckdb")) == 100
        ask_in_all_ways(client, numbers, planted)
        for objects in ("/metadata/", "/flight/"):
            fail(labs.aws, client, numbers, planted, objects, "athena")
        for kind in ("denied", "signature"):
            with at_rest(labs.aws):
                # Glue's calls are POSTs to its root, which the same process answers.
                labs.aws.s3_faults({"kind": kind, "method": "POST", "count": 1000})
                ask(client, numbers, planted, ENGINES[:1])
        for knobs in ATHENA_FAULTS:
            with at_rest(labs.aws):
                labs.aws.faults.update(dict(knobs))
                ask(client, numbers, planted, ENGINES[:1])
        assert len(client.rows("ids?first=500")) == 100
        planted.said += [*pages(process), *command_lines(process.child.pid)]
        until(lambda: any(b"athena query" in each for each in collector.raw), 60)
        process.child.terminate()
        assert process.child.wait(60) == 0
    planted.said += [*process.lines, audit.read_text()]
    planted.said += [each.decode(errors="replace") for each in collector.raw]
    planted.said += commands(tmp_path, capfd)
    text = "\n".join(planted.said)
    # Or the faults were not met, and nothing has been shown.
    for expected in (
        "engine-failed",
        "engine-throttled",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "AccessDenied",
        "the tables cannot be looked up now",
        "the part '",
        "DuckDB: HTTP Error",
        "athena query",
    ):
        assert expected in text, expected
    planted.check()


def fail(aws: LocalAws, client: Client, numbers: Iterator[int], planted: Planted, objects: str, engine: str) -> None:
    """Ask while S3 gives out none of the objects: the planner's, those of the embedded engine, Athena's results."""
    for kind in S3_FAULTS:
        with at_rest(aws):
            # Enough of them that no one who tries again gets past.
            aws.s3_faults({"kind": kind, "method": "GET", "match": objects, "count": 1000})
            planted.hear(lambda: client.rows(f"ids?first={next(numbers)}&_engine={engine}")[:1])


@contextlib.contextmanager
def at_rest(aws: LocalAws) -> Iterator[None]:
    try:
        yield
    finally:
        aws.faults.update({"reset": True})
        aws.s3_faults()


def commands(folder: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What the commands print with the same settings and the same environment."""
    said: list[str] = []
    capfd.readouterr()
    for words in (
        ["config", "show"],
        ["config", "check"],
        ["explain", "ids", "first=1", "--as", "t"],
        ["run", "failing", "first=1", "--as", "t"],
        ["results", "sweep", "--dry-run"],
        ["tables", "list"],
        ["tables", "show", "lake.prices"],
    ):
        with pytest.raises(SystemExit):
            main([*words, "--config", str(folder / "athena-flight.toml")])
        said += [*capfd.readouterr()]
    assert any("athena.results" in each for each in said)
    return said
