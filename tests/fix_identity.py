"""A small lake under row policies, callers of every kind, and servers over both."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from flight_server import config, server
from flight_server.cli.tls import make
from flight_server.datasets import contract as contracts
from flight_server.datasets.policies import load as load_policies
from flight_server.datasets.registry import Registry
from flight_server.errors import CODES, Error
from flight_server.model import Caller, Plan, Request
from flight_server.pipeline import Pipeline
from flight_server.service.auth.tokens import digest
from flight_server.service.flight_sql import messages
from flight_server.tables.catalog import create_table, find_table, open_catalog
from flight_server.tables.ddl import parse

ISSUER, AUDIENCE = "https://issuer.example", "athena-flight"
# Some are made for all tests of a run, which takes as long as the machine lets it.
TOKEN_TTL_S = 6 * 3600
# Cheap on purpose: what is tested is not argon2.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery staple"
STATIC = {name: f"af_{name}-{'x' * 40}" for name in ("alice", "bob", "carol", "dave", "late")}
NAV = [(port, dt.date(2024, 1, day), port * 100.0 + day, f"desk{port}") for port in (1, 2, 3, 4) for day in (2, 3)]

POLICIES = """\
[[row_filter]]
table  = "p.nav"
where  = "port_id IN (:caller.portfolios)"
except = ["risk"]
doc    = "Portfolio managers see their own portfolios."

[[mask]]
table  = "p.nav"
column = "desk"
as     = "NULL"
unless = ["risk"]
"""
DATASETS = {
    "nav": (
        'title = "NAV"\n[params]\nport_id = { type = "int32", optional = true }\n'
        '[columns]\nport_id = { type = "int32" }\nvalue = { type = "float64" }\ndesk = { type = "string" }',
        "SELECT n.port_id, n.value, n.desk FROM p.nav AS n WHERE n.port_id = :port_id",
    ),
    "secret_limits": (
        'title = "Limits"\n[columns]\nname = { type = "string" }\n[access]\nroles = ["risk"]',
        "SELECT o.name FROM p.open AS o",
    ),
    "public_names": (
        'title = "Names"\n[columns]\nname = { type = "string" }',
        "SELECT o.name FROM p.open AS o",
    ),
}
TABLES = {
    "nav": "port_id int, trade_date date, value double, desk string",
    "open": "name string",
}


def dataset_text(contract: str, sql: str) -> str:
    lines = ["/// dataset", *contract.split("\n"), "///"]
    return "\n".join(f"-- {line}" for line in lines) + f"\n{sql}\n"


def write_datasets(folder: Path, policies: str = POLICIES, **more: tuple[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, (contract, sql) in (DATASETS | more).items():
        (folder / f"{name}.sql").write_text(dataset_text(contract, sql))
    (folder / "policies.toml").write_text(policies)
    return folder


@dataclass
class Issuer:
    """An identity provider: keys, and tokens signed with them."""

    keys: dict[str, Any] = field(
        default_factory=lambda: {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
    )

    def jwks(self, *names: str) -> dict[str, Any]:
        return {"keys": [self.jwk(name) for name in names or self.keys]}

    def jwk(self, name: str) -> dict[str, Any]:
        key = self.keys[name].public_key()
        algorithm = jwt.get_algorithm_by_name({"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}[name[:3].rstrip("2")])
        return dict(algorithm.to_jwk(key, as_dict=True)) | {"kid": name, "use": "sig"}

    def public_pem(self, name: str = "rsa") -> bytes:
        return bytes(
            self.keys[name]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims; a change to None leaves one out."""
        now = int(dt.datetime.now(dt.UTC).timestamp())
        found = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "jane",
            "exp": now + TOKEN_TTL_S,
            "roles": ["pm"],
            "portfolios": [4],
        }
        return {key: value for key, value in (found | changes).items() if value is not None}

    def token(self, key: str = "rsa", algorithm: str = "RS256", kid: str | None = "", **changes: Any) -> str:
        headers = {"kid": key if kid == "" else kid} if kid is not None else {}
        # Not by jwt.encode, which refuses to sign some of what is tested.
        return jwt.PyJWS().encode(json.dumps(self.claims(**changes)).encode(), self.keys[key], algorithm, headers)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (header, claims)]
    return ".".join([*parts, signature])


@dataclass
class Lake:
    """Tables, datasets and files of callers in one folder."""

    folder: Path
    issuer: Issuer

    def settings(self, **sections: dict[str, Any]) -> config.Config:
        base: dict[str, dict[str, Any]] = {
            "server": {"port": 0, "ticket_secret": "s" * 32, "grace_s": 1},
            "datasets": {"directory": self.folder / "sql"},
            "catalog": {"uri": f"sqlite:///{self.folder}/catalog.db", "warehouse": str(self.folder / "warehouse")},
            "auth": self.auth(),
            "sql": {"ad_hoc_roles": ("pm", "risk")},
            # Tests ask faster than people and dashboards; the rate has tests of its own.
            "limits": {"statements_per_min": 1e6, "statements_burst": 10_000},
        }
        return config.Config(**{name: base.get(name, {}) | sections.get(name, {}) for name in {*base, *sections}})  # type: ignore[arg-type]

    def auth(self) -> dict[str, Any]:
        return {
            "tokens": self.folder / "tokens.toml",
            "passwords": self.folder / "passwords.toml",
            "jwt_keys": str(self.folder / "jwks.json"),
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
        }

    @contextmanager
    def serve(self, **sections: dict[str, Any]) -> Iterator[server.Server]:
        running = server.build(self.settings(**sections))
        server.start_in_thread(running)
        try:
            yield running
        finally:
            running.stop(0)


def write_callers(folder: Path, issuer: Issuer) -> None:
    callers = {
        "alice": 'roles = ["pm"]\nclaims = { portfolios = [1, 2] }',
        "bob": 'roles = ["pm"]\nclaims = { portfolios = ["3"] }',
        "carol": 'roles = ["risk"]',
        "dave": "",
        "late": "expires = 2020-01-01",
    }
    tokens = [
        f'[[token]]\nname = "{name}"\nsha256 = "{digest(STATIC[name])}"\n{rest}' for name, rest in callers.items()
    ]
    (folder / "tokens.toml").write_text("\n".join(tokens))
    (folder / "passwords.toml").write_text(
        f'[[user]]\nname = "erin"\nargon2 = "{HASHER.hash(PASSWORD)}"\n'
        'roles = ["pm"]\nclaims = { portfolios = [2] }\n'
    )
    (folder / "jwks.json").write_text(json.dumps(issuer.jwks()))


def make_lake(folder: Path) -> Lake:
    issuer = Issuer()
    write_datasets(folder / "sql")
    write_callers(folder, issuer)
    lake = Lake(folder, issuer)
    with closing(open_catalog(lake.settings())) as catalog:
        for name, columns in TABLES.items():
            text = f"CREATE TABLE p.{name} ({columns}) TBLPROPERTIES ('table_type'='ICEBERG')"
            create_table(catalog, parse(f"-- /// table\n-- ///\n{text}", Path(f"p.{name}.sql")))
        ports, days, values, desks = zip(*NAV, strict=True)
        nav = pa.table(
            {"port_id": pa.array(ports, pa.int32()), "trade_date": days, "value": list(values), "desk": list(desks)}
        )
        find_table(catalog, "p.nav").append(nav)
        find_table(catalog, "p.open").append(pa.table({"name": ["one", "two"]}))
    return lake


@pytest.fixture(scope="session")
def policed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake, made once a session. Not to be changed."""
    return make_lake(tmp_path_factory.mktemp("policed"))


@pytest.fixture
def lake_copy(tmp_path: Path) -> Lake:
    """A lake of one's own, to change."""
    return make_lake(tmp_path)


@pytest.fixture(scope="session")
def policed_server(policed: Lake) -> Iterator[server.Server]:
    """A server over `policed`, with tokens, JWT and passwords."""
    with policed.serve() as running:
        yield running


@pytest.fixture(scope="session")
def connect(policed_server: server.Server) -> Iterator[Callable[[str], Client]]:
    """Clients of `policed_server` by credential; "" for none."""
    with ExitStack() as stack:
        client = stack.enter_context(flight.connect(f"grpc://localhost:{policed_server.port}"))
        yield lambda credential: Client(client, credential)


@dataclass
class Desk:
    """Asks SQL of `policed` as any caller under any policies, on DuckDB, without a server."""

    pipeline: Pipeline
    folder: Path

    def plan(self, sql: str, columns: str, caller: Caller, policies: str = POLICIES, **request: Any) -> Plan:
        """The plan of a one-off dataset; `columns` as `port_id int32, desk string`, `params` among `request`."""
        lines = [f'{name} = {{ type = "{kind}" }}' for name, kind in (each.split() for each in columns.split(", "))]
        contract = "\n".join(['title = "Q"', request.pop("header", ""), "[columns]", *lines])
        dataset = contracts.parse(Path("q.sql"), dataset_text(contract, sql))
        (self.folder / "policies.toml").write_text(policies)
        self.pipeline.registry = Registry({"q": {1: dataset}}, load_policies(self.folder))
        for problem in self.pipeline.policy_problems(self.pipeline.registry):
            raise problem
        return self.pipeline.plan(Request("q", **request), caller)

    def ask(self, sql: str, columns: str, caller: Caller, policies: str = POLICIES, **request: Any) -> list[Any]:
        """Rows as tuples, or plain values of a single column, sorted."""
        plan = self.plan(sql, columns, caller, policies, **request)
        answer = self.pipeline.answer(plan)
        try:
            table = pa.Table.from_batches(answer.batches, plan.dataset.schema)
        finally:
            answer.execution.close()
        rows = [tuple(row.values()) for row in table.to_pylist()]
        return sorted((row[0] if len(row) == 1 else row for row in rows), key=repr)


@pytest.fixture(scope="session")
def desk(policed: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    settings = policed.settings()
    with ExitStack() as stack:
        catalog = stack.enter_context(closing(open_catalog(settings)))
        engines = server.build_engines(settings, catalog)
        for engine in engines.values():
            stack.callback(engine.close)
        yield Desk(server.build_pipeline(settings, catalog, engines, Registry({})), tmp_path_factory.mktemp("desk"))


@dataclass
class Client:
    """A Flight client whose calls carry one credential: a bearer token, or a whole header."""

    flight: flight.FlightClient
    credential: str = ""

    @property
    def options(self) -> flight.FlightCallOptions:
        value = self.credential if " " in self.credential else f"Bearer {self.credential}"
        return flight.FlightCallOptions(
            timeout=30, headers=[(b"authorization", value.encode())] if self.credential else []
        )

    def rows(self, ticket: str | bytes) -> list[dict[str, Any]]:
        body = ticket.encode() if isinstance(ticket, str) else ticket
        return list(self.flight.do_get(flight.Ticket(body), self.options).read_all().to_pylist())

    def ports(self, ticket: str | bytes = "nav") -> set[int]:
        return {row["port_id"] for row in self.rows(ticket)}

    def info(self, command: str) -> flight.FlightInfo:
        return self.flight.get_flight_info(flight.FlightDescriptor.for_command(command.encode()), self.options)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a Flight SQL statement, as a driver asks for them."""
        command = messages.pack("CommandStatementQuery", query=query)
        info = self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        return self.rows(info.endpoints[0].ticket.ticket)

    def prepare(self, query: str) -> Any:
        """The answer to CreatePreparedStatement."""
        body = messages.pack("ActionCreatePreparedStatementRequest", query=query)
        return messages.unpack(self._acted("CreatePreparedStatement", body))[1]

    def prepared(self, handle: bytes) -> list[dict[str, Any]]:
        command = messages.pack("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        info = self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        return self.rows(info.endpoints[0].ticket.ticket)

    def metadata(self, command: str, **fields: Any) -> pa.Table:
        """What a Flight SQL metadata command answers."""
        descriptor = flight.FlightDescriptor.for_command(messages.pack(command, **fields))
        ticket = self.flight.get_flight_info(descriptor, self.options).endpoints[0].ticket
        return self.flight.do_get(ticket, self.options).read_all()

    def submitted(self, request: dict[str, Any]) -> str:
        """The id of a submitted query, once it has ended."""
        found = str(self.action("submit", request)["id"])
        end = time.monotonic() + 30
        while self.action("status", {"id": found})["state"] in ("QUEUED", "RUNNING") and time.monotonic() < end:
            time.sleep(0.01)
        return found

    def result(self, query_id: str) -> list[dict[str, Any]]:
        info = flight.FlightInfo.deserialize(self._acted("result", json.dumps({"id": query_id}).encode()))
        return self.rows(info.endpoints[0].ticket.ticket)

    def action(self, kind: str, body: dict[str, Any]) -> Any:
        return json.loads(self._acted(kind, json.dumps(body).encode()))

    def _acted(self, kind: str, body: bytes) -> bytes:
        """The one result, read to the end: the call has ended at the server too, and its lines are written."""
        (result,) = self.flight.do_action(flight.Action(kind, body), self.options)
        return bytes(result.body.to_pybytes())

    def listed(self) -> set[str]:
        return {info.descriptor.path[0].decode() for info in self.flight.list_flights(options=self.options)}


def code_of(call: Callable[[], object]) -> str:
    """The code of the error that `call` ends with, or `ok`."""
    try:
        call()
    except (flight.FlightError, pa.ArrowException, OSError, KeyError, NotImplementedError, Error) as error:
        text = str(error)
    else:
        return "ok"
    # The message starts with the code; gRPC's client may put words of its own around it.
    found = [code for code in CODES if f"[{code}]" in text]
    assert len(found) == 1, text
    assert "Traceback" not in text
    return found[0]


def certificates(folder: Path, client: str | None = "pricing") -> dict[str, Path]:
    """Development certificates in `folder`: paths by file name without its dot."""
    folder.mkdir(exist_ok=True)
    for name, text in make(("localhost", "127.0.0.1"), client, 2).items():
        (folder / name).write_bytes(text)
    return {path.name.replace(".", "_"): path for path in folder.iterdir()}
