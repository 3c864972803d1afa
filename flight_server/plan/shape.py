"""What a statement gives: names, types and order of its columns, and the types of its parameters.

All of it follows from the text, the contracts of the datasets that it calls and the schemas of the tables that it
names; nothing runs. Names are made unique, and an ORDER BY by anything but output columns gets hidden columns, because
parts of a stored result are merged by columns that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types

from flight_server.errors import InvalidRequest
from flight_server.model import Column, Dataset, ParamType, SortKey
from flight_server.plan import arguments, dialect
from flight_server.plan.literals import sql_type
from flight_server.plan.qualify import qualified
from flight_server.plan.statement import Statement, parameter_number, stand_in, stand_in_name

# The types of a query's columns, given in DuckDB's dialect.
TypesOf = Callable[[str], list[pa.DataType]]
_TEXT = ParamType("string")
# How the qualifier calls the n-th column without a name.
_NAMELESS = "_col_"


@dataclass(frozen=True, slots=True)
class Shape:
    """A statement with its result known. `tree` is qualified and still scans stand-ins; copy it before a change."""

    tree: exp.Query
    columns: tuple[Column, ...]
    sorted: tuple[SortKey, ...]
    # Trailing columns that only carry the order.
    hidden: int
    parameters: tuple[ParamType, ...]


def shape(
    statement: Statement, datasets: Sequence[Dataset], tables: Mapping[str, Mapping[str, str]], types_of: TypesOf
) -> Shape:
    """The shape of a statement that calls `datasets` (in the order of its calls) and reads `tables`.

    Raises InvalidRequest (sql-refused) that names a column which is not there, or a type that cannot be sent.
    """
    schemas = {stand_in_name(i): sql_columns(dataset) for i, dataset in enumerate(datasets)} | dict(tables)
    tree = statement.tree.copy()
    _keep_order(tree, datasets)
    _mark_nameless(tree)
    tree = qualified(tree, schemas)
    parameters = parameter_types(statement, datasets, tree, schemas)
    names = _output_names(tree)
    order = _sort_keys(tree, names)
    width = len(names)
    hidden = len(tree.selects) - width
    names += [item.alias for item in tree.selects[width:]]
    kinds = types_of(dialect.to_duckdb_typed(_with_nulls(tree, parameters), schemas))
    passed = _passed(tree, datasets)
    columns = [
        Column(name, kind) if column is None else Column(name, column.type, column.nullable, column.doc, column.unit)
        for name, kind, column in zip(names, kinds, passed, strict=True)
    ]
    return Shape(tree, tuple(columns), order, hidden, parameters)


def sql_columns(dataset: Dataset) -> dict[str, str]:
    """Columns and Athena types of a dataset's contract, as the qualifier of the tree wants them."""
    return {column.name: athena_type(column.type) for column in dataset.columns}


def athena_type(kind: pa.DataType) -> str:
    """The Athena type that holds every value of an Arrow type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_map(kind):
        return f"MAP({athena_type(kind.key_type)}, {athena_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"ARRAY({athena_type(kind.value_type)})"
    if pa.types.is_struct(kind):
        return f"ROW({', '.join(f'{field.name} {athena_type(field.type)}' for field in kind)})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP(6) WITH TIME ZONE" if kind.tz else "TIMESTAMP(6)"
    return _ATHENA.get(kind, "VARCHAR")


_ATHENA = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "REAL",
    pa.float64(): "DOUBLE",
    pa.binary(): "VARBINARY",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
}


def parameter_types(
    statement: Statement,
    datasets: Sequence[Dataset],
    tree: exp.Query,
    schemas: Mapping[str, Mapping[str, str]],
) -> tuple[ParamType, ...]:
    """The type of each `?`: that of the dataset's parameter, or of what it is compared with; else string."""
    found: dict[int, ParamType] = {}
    for call, dataset in zip(statement.calls, datasets, strict=True):
        for name, node in arguments.named(call, dataset).items():
            found |= arguments.types(node, dataset.params[name].type)
    typed = annotate_types(tree.copy(), schema=dialect.nested(schemas), dialect="athena")
    for node in typed.find_all(exp.Placeholder):
        found.setdefault(parameter_number(node) or 0, _compared(node))
    return tuple(found.get(number, _TEXT) for number in range(1, statement.parameters + 1))


def _compared(node: exp.Placeholder) -> ParamType:
    """The type of whatever a parameter stands beside, or is cast to."""
    inner: exp.Expr = node
    while isinstance(inner.parent, exp.Paren | exp.Neg):
        inner = inner.parent
    parent = inner.parent
    if isinstance(parent, exp.Cast):
        return _param_type(parent.to)
    if isinstance(parent, exp.Limit | exp.Offset | exp.Fetch):
        return ParamType("int64")
    if isinstance(parent, exp.Binary | exp.Between | exp.In | exp.Coalesce | exp.Nullif):
        for other in parent.iter_expressions():
            if other is not inner and other.type is not None and not other.is_type(exp.DataType.Type.UNKNOWN):
                return _param_type(other.type)
    return _TEXT


def _param_type(kind: exp.DataType) -> ParamType:
    if kind.is_type("decimal"):
        sizes = [int(part.name) for part in kind.expressions if part.name.isdigit()]
        return ParamType("decimal", *(sizes if len(sizes) == 2 else (38, 0)))
    for types, name in _PARAM_TYPES:
        if kind.this in types:
            return ParamType(name)
    return _TEXT


_T = exp.DataType.Type
_PARAM_TYPES = (
    (frozenset({_T.BOOLEAN}), "bool"),
    (frozenset({_T.TINYINT, _T.SMALLINT, _T.INT}), "int32"),
    (frozenset({_T.BIGINT}), "int64"),
    (frozenset({_T.FLOAT}), "float32"),
    (frozenset({_T.DOUBLE}), "float64"),
    (frozenset({_T.DATE}), "date"),
    (frozenset({_T.TIMESTAMP, _T.DATETIME, _T.TIMESTAMPNTZ}), "timestamp"),
    (frozenset({_T.TIMESTAMPTZ, _T.TIMESTAMPLTZ}), "timestamptz"),
)


def _with_nulls(tree: exp.Query, parameters: Sequence[ParamType]) -> exp.Query:
    """A copy in which every parameter is a null of its type."""
    found = tree.copy()
    for node in list(found.find_all(exp.Placeholder)):
        if isinstance(node.parent, exp.Limit | exp.Offset | exp.Fetch):
            node.replace(exp.Literal.number(0))
        else:
            kind = parameters[(parameter_number(node) or 1) - 1]
            node.replace(exp.cast(exp.null(), sql_type(kind)))
    return found


def _keep_order(tree: exp.Query, datasets: Sequence[Dataset]) -> None:
    """Give a SELECT that only filters or cuts one dataset that dataset's order."""
    source = tree.args.get("from_")
    if not isinstance(tree, exp.Select) or source is None or not isinstance(source.this, exp.Table):
        return
    number = stand_in(source.this)
    changes = ("order", "group", "having", "distinct", "joins", "windows", "qualify", "laterals", "with_")
    if number is None or any(tree.args.get(part) for part in changes) or source.this.args.get("joins"):
        return
    if any(item.find(exp.AggFunc) for item in tree.expressions):
        return
    dataset, alias = datasets[number], source.this.args["alias"]
    renamed = alias.args.get("columns") or []
    now = {c.name: (renamed[i].name if i < len(renamed) else c.name) for i, c in enumerate(dataset.columns)}
    terms = [
        exp.Ordered(
            this=exp.column(exp.to_identifier(now[key.column], quoted=True), table=alias.this.copy()),
            desc=key.descending,
            nulls_first=key.nulls_first,
        )
        for key in dataset.sorted
    ]
    if terms:
        tree.set("order", exp.Order(expressions=terms))


def _leftmost(tree: exp.Query) -> exp.Select:
    """The SELECT that names the columns of a query."""
    found: exp.Expr = tree
    while not isinstance(found, exp.Select):
        found = found.this
    return found


def _mark_nameless(tree: exp.Query) -> None:
    """Give output columns without a name the one that the qualifier would give, which names a cast of 'x' x."""
    select = _leftmost(tree)
    items = []
    for number, item in enumerate(select.expressions):
        named = item.is_star or isinstance(item, exp.Alias | exp.Column | exp.Dot)
        items.append(item if named else exp.alias_(item, f"{_NAMELESS}{number}"))
    select.set("expressions", items)


def _output_names(tree: exp.Query) -> list[str]:
    """Give the output columns unique names: `_col3` where there is none, as Athena does, `_1` to a second one."""
    select = _leftmost(tree)
    names: list[str] = []
    items: list[exp.Expr] = []
    renamed: dict[str, str] = {}
    for number, item in enumerate(select.expressions):
        name = before = item.alias_or_name
        if not name or name.startswith(_NAMELESS):
            name = f"_col{number}"
        base, count = name, 0
        while name.lower() in (each.lower() for each in names):
            count += 1
            name = f"{base}_{count}"
        renamed.setdefault(before, name)
        names.append(name)
        items.append(exp.alias_(item.unalias(), name, quoted=True))
    select.set("expressions", items)
    if order := tree.args.get("order"):
        for column in order.find_all(exp.Column):
            if not column.table and column.name in renamed:
                column.set("this", exp.to_identifier(renamed[column.name], quoted=True))
    return names


def _sort_keys(tree: exp.Query, names: Sequence[str]) -> tuple[SortKey, ...]:
    """Rewrite ORDER BY to output columns, hidden ones added where it needs them, and say what it is then."""
    order = tree.args.get("order")
    if order is None:
        return ()
    keys: list[SortKey] = []
    for term in order.expressions:
        name = _sorted_by(tree, term.this, names)
        term.set("this", exp.column(exp.to_identifier(name, quoted=True)))
        keys.append(SortKey(name, bool(term.args.get("desc")), bool(term.args.get("nulls_first"))))
    return tuple(keys)


def _sorted_by(tree: exp.Query, key: exp.Expr, names: Sequence[str]) -> str:
    if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.name) <= len(names):
        return names[int(key.name) - 1]
    if isinstance(key, exp.Column) and not key.table:
        for name in names:
            if name.lower() == key.name.lower():
                return name
    for item in _leftmost(tree).expressions:
        # Quoted or not, it is the same column.
        if item.unalias().sql("athena", identify=True) == key.sql("athena", identify=True):
            return str(item.alias)
    if not isinstance(tree, exp.Select) or tree.args.get("distinct"):
        raise InvalidRequest("sql-refused", "ORDER BY of a UNION or DISTINCT takes output columns only")
    name = f"_sort{len(tree.expressions)}"
    tree.select(exp.alias_(key.copy(), name, quoted=True), copy=False)
    return name


def _passed(tree: exp.Query, datasets: Sequence[Dataset]) -> list[Column | None]:
    """For each output column the contract's, where it is a dataset's column as it is."""
    if not isinstance(tree, exp.Select):
        return [None] * len(tree.selects)
    source = tree.args.get("from_")
    scans = [source.this, *(join.this for join in tree.args.get("joins") or [])] if source else []
    numbers = {s.alias: stand_in(s) for s in scans if isinstance(s, exp.Table)}
    called = {alias: datasets[number] for alias, number in numbers.items() if number is not None}
    certain = len(scans) == 1 and not tree.args.get("group")
    found: list[Column | None] = []
    for item in tree.expressions:
        inner = item.unalias()
        dataset = called.get(inner.table) if isinstance(inner, exp.Column) else None
        column = next((c for c in dataset.columns if c.name.lower() == inner.name.lower()), None) if dataset else None
        if column and not certain:
            column = Column(column.name, column.type, True, column.doc, column.unit)
        found.append(column)
    return found
