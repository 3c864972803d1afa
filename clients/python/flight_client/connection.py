"""A connection: the datasets of one server as attributes, items and a table to look at."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from flight_client import settings
from flight_client._transport import Transport
from flight_client.contract import Contract, contract_of, did_you_mean
from flight_client.dataset import Dataset
from flight_client.errors import FlightDataError, InvalidRequest, NotFound
from flight_client.query import Query, Request
from flight_client.submission import Submission
from flight_client.values import ANY, to_json

# Contracts asked for at once when all are shown: enough to hide a slow line, too few to matter to a server.
_DESCRIBED_AT_ONCE = 8

# What other libraries call it.
_SQL = frozenset({"execute", "query", "read_sql", "read_database", "select", "sql_query", "cursor"})


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    user: str | None = None,
    password: str | None = None,
    tls_roots: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
    progress: bool = True,
) -> Connection:
    """A connection to an athena-flight server at `grpc://host:port`, or `grpc+tls://…`.

    What is not given is taken from ATHENA_FLIGHT_URL, _TOKEN, _USER, _PASSWORD, _TLS_ROOTS, _CERT and _KEY, then from
    `~/.config/athena-flight/client.toml`. `tls_roots`, `cert` and `key` are PEM files. `progress`: show how slow
    queries go on, in terminals and notebooks, where rich is installed.

    Asks the server for its datasets, so that a wrong address or credential is met here. Raises ValueError for settings,
    FlightDataError for an address that is none, a PEM file that cannot be read, and what the server says.
    """
    given = {"url": url, "token": token, "user": user, "password": password}
    files = {"tls_roots": tls_roots, "cert": cert, "key": key}
    return Connection(Transport(settings.load({**given, **files})), progress)


class Connection:
    """The datasets that one server has for one caller. `db.name`, `db["name"]`, `print(db)`. Thread-safe.

    Made by `connect`. A context manager; left open, it ends with the process.
    """

    def __init__(self, transport: Transport, progress: bool) -> None:
        self._transport = transport
        self._progress = progress
        self._titles: dict[str, str] = {}
        self._contracts: dict[tuple[str, int | None], Contract] = {}
        self.refresh()

    def refresh(self) -> None:
        """Ask again which datasets there are. Happens by itself when a name is not known."""
        self._contracts.clear()
        self._titles = {
            info.descriptor.path[0].decode(): (info.schema.metadata or {}).get(b"athena_flight.doc", b"").decode()
            for info in self._transport.list_flights()
        }

    def datasets(self) -> list[str]:
        """The names of the datasets, in order."""
        return list(self._titles)

    def dataset(self, name: str, version: int | None = None) -> Dataset:
        """The dataset `name`, its newest version unless one is given. Raises NotFound (unknown-dataset)."""
        if name not in self._titles:
            self.refresh()
        if name not in self._titles:
            hint = did_you_mean(name, self._titles, end=".")
            known = f"There are {', '.join(self._titles)}" if self._titles else "There are none for this caller"
            raise NotFound("unknown-dataset", f"there is no dataset {name!r}{hint} {known}")
        return Dataset(self._transport, lambda fresh: self._contract(name, version, fresh), name, self._progress)

    def sql(self, statement: str, params: Iterable[object] = ()) -> Query:
        """SQL of one's own as a question: a SELECT over datasets, `FROM daily_prices(ticker => ?, start_date => ?)`.

        `params` are the values of the `?`, in their order. Nothing is checked before the answer is asked for; a
        statement that is not run is InvalidRequest (sql-refused) then.
        """
        if not isinstance(statement, str):
            raise InvalidRequest("bad-request", f"SQL is text, not a {type(statement).__name__}")
        if isinstance(params, str | bytes | Mapping) or not isinstance(params, Iterable):
            raise InvalidRequest(
                "bad-parameter", 'params is a list of the values of the ?, in their order: db.sql("… ? … ?", [a, b])'
            )
        values = {str(number): to_json(value, ANY, f"parameter {number} (?)") for number, value in enumerate(params, 1)}
        return Query(self._transport, Request(values, sql=statement), self._progress)

    def submission(self, query_id: str) -> Submission:
        """A query that was submitted before, here or by another process of the same caller."""
        return Submission(self._transport, query_id, query_id, self._progress)

    def whoami(self) -> dict[str, Any]:
        """Who the server takes this caller for, and what is left of its dollars of the day and of its SQL statements.

        `name`, `roles`, `budget` and `statements` as docs/protocol.md has them; of the last two either can be None.
        """
        return self._transport.action_json("whoami", {})

    def pins(self) -> dict[str, dict[str, int]]:
        """The pins that `as_of` takes here: of each, the snapshots of those of its tables that the caller can read."""
        return {pin["name"]: pin["tables"] for pin in self._transport.action_json("pins", {})["pins"]}

    def pin(self, name: str, tables: Iterable[str] | Mapping[str, int | None] | None = None) -> dict[str, int]:
        """Keep snapshots under a name that `as_of` takes, from expiry too, and return them by table. For operators.

        `tables` as `database.table`, or with the snapshot of each, as `query.plan().snapshots` has them; without any,
        all that the caller can read. The same again changes nothing.

        Raises InvalidRequest (bad-request) for a name that is taken or none, Denied (not-allowed) for other callers.
        """
        body: dict[str, object] = {"name": name}
        if tables is not None:
            body["tables"] = dict(tables) if isinstance(tables, Mapping) else list(tables)
        made: dict[str, int] = self._transport.action_json("pin", body)["tables"]
        return made

    def unpin(self, name: str) -> dict[str, int]:
        """Remove a pin, and return what it held. For operators. Raises NotFound (unknown-pin)."""
        held: dict[str, int] = self._transport.action_json("unpin", {"name": name})["tables"]
        return held

    def close(self) -> None:
        """Close the connection; streams that are still read end with an error."""
        self._transport.close()

    def __getitem__(self, name: str) -> Dataset:
        try:
            return self.dataset(name)
        except NotFound as error:
            raise UnknownDataset(error.code, error.message) from None

    def __getattr__(self, name: str) -> Dataset:
        # Tools look for many names that nobody wrote; none of them is worth a question to the server.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.dataset(name)
        except FlightDataError as error:
            asked = "; SQL is asked by db.sql(…)" if name in _SQL else ""
            raise AttributeError(f"{error}{asked}", name=name, obj=self) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets())

    def __len__(self) -> int:
        return len(self._titles)

    def __contains__(self, name: object) -> bool:
        return name in self._titles

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._titles if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return self.datasets()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            rows = self._rows()
        except FlightDataError as error:
            return f"{self._transport.url}: {error}"
        width = max((len(name) for name, _, _ in rows), default=0)
        lines = [f"{name:<{width}}  {title}  ({takes})" for name, takes, title in rows]
        return "\n".join([f"{self._transport.url}: {len(rows)} datasets", *lines])

    def _repr_html_(self) -> str:
        try:
            rows = self._rows()
        except FlightDataError as error:
            return f"<p>{html.escape(f'{self._transport.url}: {error}')}</p>"
        cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        head = "<tr><th>dataset</th><th>parameters</th><th>rows</th></tr>"
        return f"<p>{html.escape(self._transport.url)}</p><table>{head}{cells}</table>"

    def _rows(self) -> list[tuple[str, str, str]]:
        with ThreadPoolExecutor(_DESCRIBED_AT_ONCE) as pool:
            contracts = list(pool.map(lambda name: self._contract(name, None, False), self._titles))
        return [
            (each.name, ", ".join(p.python_name + "?" * (not p.required) for p in each.params), each.title)
            for each in contracts
        ]

    def _contract(self, name: str, version: int | None, fresh: bool) -> Contract:
        if fresh or (name, version) not in self._contracts:
            body: dict[str, object] = {"dataset": name} | ({"version": version} if version is not None else {})
            self._contracts[name, version] = contract_of(self._transport.action_json("describe", body))
        return self._contracts[name, version]


class UnknownDataset(NotFound, KeyError):
    """`db["name"]` for a name that is not there: a KeyError too, as Python's mappings have it."""
