"""Row filters and masks: checked against the tables, and put around every scan of a bound tree.

A scan becomes a subquery under the same alias that reads all columns of the table, masked ones replaced, and only the
rows that the filters admit. So nothing that a query says about the scan, whatever its alias, nesting or spelling, can
see past it. Filters and masks themselves see the unmasked values. A claim that is missing, empty or does not fit its
column admits no rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from flight_server.errors import DatasetError, InvalidRequest, ServerError, nearest
from flight_server.model import AppliedPolicy, Caller, Mask, Policies, Read, Reading, RowFilter, TablePin
from flight_server.plan import allowed
from flight_server.plan.claims import bind_claims, claim_of, missing

# Column names and Athena types of a table, in order, as the planner's schemas have them.
Columns = Mapping[str, str]
# What a scan may carry besides its name and alias; anything else in it is refused, as its meaning over a subquery is
# not known.
_SCAN_PARTS = frozenset({"this", "db", "catalog", "alias", "joins", "laterals"})


@dataclass(frozen=True, slots=True)
class TablePolicies:
    """What holds for one table and one caller."""

    row_filters: tuple[RowFilter, ...] = ()
    masks: tuple[Mask, ...] = ()

    @property
    def all(self) -> tuple[RowFilter | Mask, ...]:
        return (*self.row_filters, *self.masks)

    @property
    def masked(self) -> frozenset[str]:
        """Columns whose stored values the query does not see: nothing may be concluded from what it says of them."""
        return frozenset(mask.column for mask in self.masks)

    @property
    def reads(self) -> frozenset[str]:
        """Columns that the policies themselves read."""
        return frozenset(column.name.lower() for each in self.all for column in _tree(each).find_all(exp.Column))


def problems(policies: Policies, columns_of: Callable[[str], Columns | None] | None = None) -> list[DatasetError]:
    """What is wrong with the policies, by their text alone or held against the tables.

    `columns_of` gives the columns of a table, None where there is no such table.
    """
    found: list[DatasetError] = []
    for policy in policies.all:
        messages = list(_problems(policy.table, _tree(policy)))
        if columns_of:
            messages += _unknown(policy, columns_of(policy.table))
        found += [DatasetError(policy.path, policy.line, 1, message) for message in messages[:1]]
    return found


def _unknown(policy: RowFilter | Mask, columns: Columns | None) -> Iterator[str]:
    """What the policy names and the table does not have."""
    if columns is None:
        yield f"there is no table {policy.table!r}, and a policy of no table would hold for nothing"
        return
    named = [column.name for column in _tree(policy).find_all(exp.Column)]
    for name in [*named, policy.column] if isinstance(policy, Mask) else named:
        if name.lower() not in columns:
            yield f"{policy.table} has no column {name!r}{nearest(name, columns)}"


def _tree(policy: RowFilter | Mask) -> exp.Expr:
    return policy.where if isinstance(policy, RowFilter) else policy.value


def _problems(table: str, tree: exp.Expr) -> Iterator[str]:
    """What the expression alone tells."""
    for node in tree.find_all(exp.Query, exp.Subquery, exp.Star, exp.AggFunc, exp.Window, exp.Unnest):
        yield f"a policy is an expression over one row of its table; {node.key.upper()} is not allowed in it"
    for placeholder in tree.find_all(exp.Placeholder):
        dot = placeholder.parent
        if placeholder.name != "caller" or not isinstance(dot, exp.Dot) or isinstance(dot.parent, exp.Dot):
            yield f"the only placeholders of a policy are :caller.name and :caller.<claim>, not :{placeholder.name}"
    for column in tree.find_all(exp.Column):
        if column.table:
            yield f"write the column {column.name!r} alone: a policy names columns of its own table only"
    try:
        allowed.check(exp.select(tree.copy()).from_(exp.to_table(table)))
    except InvalidRequest as error:
        yield error.message


def holding(policies: Policies, caller: Caller) -> dict[str, TablePolicies]:
    """The policies that hold for the caller, by table."""
    found: dict[str, TablePolicies] = {}
    tables = {each.table for each in policies.all}
    for table in sorted(tables):
        filters = tuple(f for f in policies.row_filters if f.table == table and not f.exempt & caller.roles)
        masks = tuple(m for m in policies.masks if m.table == table and not m.exempt & caller.roles)
        if filters or masks:
            found[table] = TablePolicies(filters, masks)
    return found


def guard(policies: Policies, held: Mapping[str, TablePolicies], caller: Caller) -> str:
    """Digest of what a plan under the policies `held` depends on: their text, which hold, and the claims they name."""
    if not held:
        return ""
    each = [policy for table in held.values() for policy in table.all]
    # As text, for to Python 1, 1.0 and True are equal, and to SQL they are not.
    claims = {name: repr(claim_of(caller, name)) for policy in each for name in policy.claims}
    found = repr((policies.digest, [policy.name for policy in each], sorted(claims.items())))
    return hashlib.sha256(found.encode(errors="surrogatepass")).hexdigest()


def reading(
    called: tuple[str, ...],
    pins: Mapping[str, TablePin],
    held: Mapping[str, TablePolicies],
    columns: Mapping[str, Columns],
    caller: Caller,
) -> Reading:
    """What is seen of the tables at `pins` under the policies `held`, in the words that `put_around_scans` puts in."""
    return Reading(
        tuple(_read(pin, held.get(name), columns[name], caller) for name, pin in sorted(pins.items())), called
    )


def _read(pin: TablePin, policies: TablePolicies | None, columns: Columns, caller: Caller) -> Read:
    if policies is None:
        return Read(pin.table, pin.snapshot_id)
    alias = exp.to_identifier(pin.table.rpartition(".")[2])
    filters = tuple(_text(_admitted(each, alias, columns, caller)) for each in policies.row_filters)
    masks = {each.column: _text(_masked(each, alias, columns, caller)) for each in policies.masks}
    return Read(pin.table, pin.snapshot_id, filters, masks)


def _text(tree: exp.Expr) -> str:
    return tree.unnest().sql("athena", comments=False)


def put_around_scans(
    tree: exp.Query, held: Mapping[str, TablePolicies], columns: Mapping[str, Columns], caller: Caller
) -> tuple[tuple[AppliedPolicy, ...], list[tuple[exp.Subquery, TablePolicies]]]:
    """Replace every scan in `tree` (qualified; changed in place) that policies hold for, and say which did and where.

    `columns`: of each table at its pin. Raises ServerError where a policy does not fit them.
    """
    applied: dict[str, AppliedPolicy] = {}
    places: list[tuple[exp.Subquery, TablePolicies]] = []
    for scan in list(allowed.tables(tree)):
        table = allowed.table_name(scan)
        if table not in held:
            continue
        place = _guarded(scan, held[table], columns[table], caller)
        scan.replace(place)
        places.append((place, held[table]))
        for policy in held[table].all:
            applied.setdefault(policy.name, _applied(policy, columns[table], caller))
    return tuple(applied.values()), places


def _guarded(scan: exp.Table, policies: TablePolicies, columns: Columns, caller: Caller) -> exp.Subquery:
    """The subquery that stands for `scan`."""
    for part, value in scan.args.items():
        if value and part not in _SCAN_PARTS:
            raise InvalidRequest("sql-refused", f"{part.upper()} of a table with a row policy is not allowed")
    alias = exp.to_identifier(scan.alias_or_name, quoted=True)
    values = {mask.column: _masked(mask, alias, columns, caller) for mask in policies.masks}
    items = [exp.alias_(values.get(name) or exp.column(name, table=alias.copy()), name) for name in columns]
    inner = exp.Table(this=scan.this.copy(), db=scan.args["db"].copy(), alias=exp.TableAlias(this=alias.copy()))
    query = exp.Select(expressions=items).from_(inner, copy=False)
    for each in policies.row_filters:
        query.where(_admitted(each, alias, columns, caller), copy=False)
    outer = (scan.args.get("alias") or exp.TableAlias(this=alias)).copy()
    return exp.Subquery(this=query, alias=outer, joins=scan.args.get("joins"), laterals=scan.args.get("laterals"))


def _admitted(row_filter: RowFilter, alias: exp.Identifier, columns: Columns, caller: Caller) -> exp.Expr:
    """The condition of the filter; no rows where a claim is missing."""
    found = bind_claims(_qualified(row_filter.where, row_filter.table, alias, columns), caller, columns)
    return exp.false() if found is None else found


def _masked(mask: Mask, alias: exp.Identifier, columns: Columns, caller: Caller) -> exp.Expr:
    """The value instead of the column, in the column's type; null where a claim is missing."""
    if mask.column not in columns:
        raise _unfit(mask.table)
    found = bind_claims(_qualified(mask.value, mask.table, alias, columns), caller, columns)
    return exp.Cast(this=found or exp.null(), to=exp.DataType.build(columns[mask.column], dialect="athena"))


def _qualified(tree: exp.Expr, table: str, alias: exp.Identifier, columns: Columns) -> exp.Expr:
    """A copy in which every column names the scan, so that nothing outside it can be meant."""
    whole = exp.Paren(this=tree.copy())
    for column in list(whole.find_all(exp.Column)):
        if column.name.lower() not in columns:
            raise _unfit(table)
        column.replace(exp.column(column.name.lower(), table=alias.copy()))
    return whole


def _unfit(table: str) -> ServerError:
    # The policy was checked at start; the table has changed since, or the request goes back before a column was there.
    return ServerError("internal", f"a policy of the table {table} does not fit its columns at this snapshot")


def _applied(policy: RowFilter | Mask, columns: Columns, caller: Caller) -> AppliedPolicy:
    unfit = missing(_tree(policy), caller, columns)
    claims = " and ".join(map(repr, policy.claims))
    if isinstance(policy, RowFilter):
        kind: Literal["row_filter", "mask"] = "row_filter"
        reason = "only rows that the policy admits"
        if unfit:
            reason = f"no rows: the credential has no usable claim {unfit!r}"
        elif claims:
            reason = f"only rows that the caller's {claims} admits"
    else:
        kind, reason = "mask", f"the column {policy.column} is masked"
    if policy.exempt:
        reason += f"; not for the roles {', '.join(sorted(policy.exempt))}"
    return AppliedPolicy(policy.name, kind, policy.table, f"{reason}. {policy.doc}" if policy.doc else reason)
