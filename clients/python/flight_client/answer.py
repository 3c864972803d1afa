"""The ways to take an answer: Arrow, batches, polars, pandas, DuckDB, a Parquet file.

A query and a submitted query have the same ones; they differ in how they come by a FlightInfo.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_client import _fetch, _parquet
from flight_client._progress import Progress
from flight_client._transport import Transport

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_ROWS = "its rows come by arrow(), pl(), df(), reader(), duck(…) and to_parquet(…), as in q.df().head()"

# Options of `to_pandas` by which the caller says what whole numbers become.
_INTEGERS_SAID = {"types_mapper", "integer_object_nulls", "categories"}


class Answer:
    """Something that can be read as rows, any number of times. Every reading asks the server anew."""

    def __init__(self, transport: Transport, label: str, info: Callable[[], flight.FlightInfo], bar: bool) -> None:
        self._transport = transport
        self._label = label
        self._info = info
        self._bar = bar
        self._receipt: str | None = None

    @property
    def receipt(self) -> str | None:
        """What the last reading that came to its end was made from; `as_of` takes it, to read just that again.

        None before, and from a server that gives none. A receipt keeps nothing: to keep its snapshots, pin them.
        """
        return self._receipt

    def arrow(self) -> pa.Table:
        """The whole answer as an Arrow table, with the contract's schema."""
        info = self._info()
        with closing(self._watched(info)) as batches:
            return pa.Table.from_batches(batches, info.schema)

    def reader(self) -> pa.RecordBatchReader:
        """The answer as a stream. A reader that is dropped before its end cancels the query on the server."""
        info = self._info()
        return pa.RecordBatchReader.from_batches(info.schema, _fetch.batches(self._transport, info, ended=self._told))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The answer for `pyarrow.table(q)`, `polars.DataFrame(q)` and whatever else takes Arrow's C stream."""
        return self.reader().__arrow_c_stream__(requested_schema)

    # Not for type checkers, which would take every name for a right one then.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Only asked for what is not there."""
            raise AttributeError(f"a {type(self).__name__.lower()} has no {name!r}: {_ROWS}")

        def __getitem__(self, key: object) -> object:
            raise TypeError(f"a {type(self).__name__.lower()} is no table yet: {_ROWS}")

        def __array__(self, *_: object, **__: object) -> object:
            """Without it numpy and pandas make an array of one object, or a frame of record batches."""
            raise TypeError(f"a {type(self).__name__.lower()} is no array: {_ROWS}")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return _fetch.batches(self._transport, self._info(), ended=self._told)

    def pl(self) -> pl.DataFrame:
        """The whole answer as a polars DataFrame, without a copy of most columns. Needs polars."""
        with _needed("polars"):
            import polars
        found = polars.from_arrow(self.arrow())
        assert isinstance(found, polars.DataFrame)  # noqa: S101 - what from_arrow makes of a table
        return found

    def df(self, **options: Any) -> pd.DataFrame:
        """The whole answer as a pandas DataFrame; `options` are those of `pyarrow.Table.to_pandas`. Needs pandas.

        Dates become datetime64. Whole numbers with nulls become pandas' Int64 and its like: as floats, which pyarrow
        makes of them, large ones would be others. `types_mapper=pandas.ArrowDtype` keeps every type exactly.
        """
        with _needed("pandas"):
            import pandas
        table = self.arrow()
        whole = {} if _INTEGERS_SAID & options.keys() else _whole_numbers(table, pandas)
        frame = table.to_pandas(**{"date_as_object": False, **options})
        for name, column in whole.items():
            # In its place: `assign` would copy the whole frame.
            frame[name] = column
        return frame

    def duck(self, sql: str, **tables: Any) -> pa.Table:
        """Run DuckDB SQL here over the answer, called `this`, and give its result. Needs duckdb.

        `tables` are further ones: other queries, Arrow tables, polars or pandas frames.
        """
        with _needed("duckdb"):
            import duckdb
        # Tables and not streams: DuckDB reads a stream once, and finds it empty when the SQL names it a second time.
        with duckdb.connect() as connection:
            for name, table in {"this": self, **tables}.items():
                connection.register(name, table.arrow() if isinstance(table, Answer) else table)
            return connection.sql(sql).to_arrow_table()

    def to_parquet(self, path: str | PathLike[str], *, compression: str = "zstd") -> Path:
        """Write the answer to a Parquet file, in bounded memory. `path` is there only when it is whole."""
        info, target = self._info(), Path(path)
        with closing(self._watched(info)) as batches:
            _parquet.write(target, info.schema, batches, compression)
        return target

    def _watched(self, info: flight.FlightInfo) -> Generator[pa.RecordBatch, None, None]:
        with (
            Progress(self._label, info.total_records, self._bar) as progress,
            closing(_fetch.batches(self._transport, info, progress.tick, self._told)) as batches,
        ):
            yield from batches

    def _told(self, receipt: str | None) -> None:
        self._receipt = receipt


def _whole_numbers(table: pa.Table, pandas: Any) -> dict[str, Any]:
    """The columns of integers that have nulls, by name, as pandas keeps them exactly."""
    kinds = {pa.int8(): "Int8", pa.int16(): "Int16", pa.int32(): "Int32", pa.int64(): "Int64"}
    dtypes = {kind: getattr(pandas, f"{name}Dtype")() for kind, name in kinds.items()}
    return {
        field.name: column.to_pandas(types_mapper=dtypes.get)
        for field, column in zip(table.schema, table.columns, strict=True)
        if field.type in dtypes and column.null_count
    }


@contextmanager
def _needed(library: str) -> Iterator[None]:
    """Says what to type where an optional library is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ModuleNotFoundError(f"this needs {library}: pip install {library}", name=library) from None
