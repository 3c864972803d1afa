"""What a query may name: catalog tables, UNNEST, VALUES, and the functions listed here. Everything else is refused.

This is the first of two walls around the engines; the second is DuckDB's own locked configuration (engines/duckdb.py)
or Athena's IAM role. The list is of what may be, not of what may not: a function that a later release of an engine or
of the parser learns is refused until somebody has looked at it. Functions whose answer changes from call to call
(now, random, uuid) are left out on purpose: a stored result would be wrong. A parameter with
`default = "today"` says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlglot import exp

from flight_server.errors import InvalidRequest, nearest
from flight_server.plan import foreign

_FUNCTION_NAMES = """
    abs acos asin atan atan2 cbrt ceil ceiling cos cosh degrees e exp floor from_base greatest infinity is_finite
    is_infinite is_nan least ln log log10 log2 mod nan pi pow power radians round sign sin sinh sqrt tan tanh to_base
    truncate width_bucket bitwise_and bitwise_or bitwise_xor bitwise_not bit_count
    arbitrary any_value approx_distinct approx_percentile array_agg avg bool_and bool_or checksum corr count count_if
    covar_pop covar_samp every geometric_mean histogram kurtosis map_agg max max_by min min_by multimap_agg
    regr_intercept regr_slope skewness stddev stddev_pop stddev_samp sum var_pop var_samp variance listagg string_agg
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
    chr codepoint concat concat_ws ends_with from_utf8 hamming_distance initcap left length char_length
    levenshtein_distance lower lpad ltrim normalize position regexp_count regexp_extract regexp_extract_all regexp_like
    regexp_replace regexp_split replace reverse right rpad rtrim soundex split split_part starts_with
    str_position strpos substr substring to_utf8 translate trim upper word_stem format
    all_match any_match array_distinct array_except array_intersect array_join array_max array_min array_position
    array_remove array_sort array_union array_length arrays_overlap cardinality contains element_at filter flatten
    none_match reduce sequence slice transform zip zip_with map map_concat map_entries map_filter map_from_entries
    map_keys map_values transform_keys transform_values row
    date date_add date_diff date_format date_parse date_trunc datediff day day_of_month day_of_week day_of_year
    dayofmonth dayofweek dayofyear extract format_datetime from_iso8601_date from_iso8601_timestamp from_unixtime hour
    last_day_of_month last_day millisecond minute month parse_datetime quarter second to_iso8601 to_unixtime week
    week_of_year weekofyear year year_of_week yearofweek yow at_timezone with_timezone timestamp
    cast try_cast try coalesce if nullif case typeof grouping
    json_array_contains json_array_get json_array_length json_extract json_extract_scalar json_format json_parse
    json_size crc32 md5 sha1 sha256 sha512 xxhash64 to_hex from_hex to_base64 from_base64 hex unhex
"""
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
# Known, and refused for their own reason.
_CHANGING_NAMES = """
    now random rand uuid shuffle current_date current_time current_timestamp localtime localtimestamp
"""
_CHANGING = frozenset(_CHANGING_NAMES.split())

# Nodes that the parser counts as functions and that print as operators.
_OPERATORS = (exp.And, exp.Or, exp.Xor, exp.Case, exp.Array, exp.Map, exp.Cast, exp.If, exp.Exists, exp.Any, exp.All)
_CALL = re.compile(r'"?([A-Za-z_][A-Za-z0-9_]*)"?\s*\(')
_SOURCES = (exp.Table, exp.Subquery, exp.Unnest, exp.Values, exp.Select, exp.SetOperation, exp.Paren)
# What may stand in the parentheses of a subquery: the parser takes DESCRIBE there too.
_IN_PARENTHESES = (exp.Query, exp.Table, exp.Values)


class Refused(InvalidRequest):
    """sql-refused, with the node at fault for those who know the file that it stands in."""

    def __init__(self, message: str, node: exp.Expr) -> None:
        super().__init__("sql-refused", message)
        self.node = node


def check(tree: exp.Query) -> None:
    """Raise Refused at the first thing in `tree` that is not allowed."""
    if not isinstance(tree, exp.Query):
        raise Refused(f"only a SELECT is run, not {tree.key.upper()}", tree)
    names = _cte_names(tree)
    for node in tree.walk():
        if isinstance(node, exp.Table):
            _check_table(node, names)
        elif isinstance(node, (exp.From, exp.Join)) and not isinstance(node.this, _SOURCES):
            raise Refused(
                f"FROM takes tables of the catalog, subqueries, UNNEST and VALUES, not {node.this.key.upper()}", node
            )
        elif isinstance(node, (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock)) and not isinstance(node, exp.Query):
            raise Refused(f"{node.key.upper()} is not allowed; only a SELECT is run", node)
        elif isinstance(node, exp.Subquery) and not isinstance(node.this, _IN_PARENTHESES):
            raise Refused(f"{node.this.key.upper()} is not allowed; only a SELECT is run", node)
        elif said := foreign.reason(node):
            raise Refused(said, node)
        elif isinstance(node, exp.TableSample):
            raise Refused("TABLESAMPLE is not allowed: its rows change from call to call", node)
        elif isinstance(node, (exp.Parameter, exp.SessionParameter)):
            raise Refused("variables are not allowed; use a parameter, :name", node)
        elif isinstance(node, exp.Unnest):
            if not isinstance(node.parent, (exp.From, exp.Join)):
                raise Refused("UNNEST stands in FROM", node)
        elif isinstance(node, exp.Func):
            _check_function(node)


def check_argument(node: exp.Expr) -> None:
    """Raise Refused for a query, or a function that is not listed, in an argument of a dataset call.

    Nothing of an argument is ever run; whoever tries is told the same as in every other place of a statement.
    """
    for part in node.walk():
        if isinstance(part, exp.Query):
            raise Refused("an argument of a dataset is a constant, not a query", part)
        if isinstance(part, exp.Func):
            _check_function(part)


def tables(tree: exp.Query) -> Iterator[exp.Table]:
    """Every scan of a catalog table in `tree`; names of CTEs are no tables."""
    names = _cte_names(tree)
    for node in tree.find_all(exp.Table):
        if node.db or node.name.lower() not in names:
            yield node


def table_name(node: exp.Table) -> str:
    """`database.table`, in lower case as Athena and Glue compare names."""
    return f"{node.db}.{node.name}".lower()


def table_names(tree: exp.Query) -> list[str]:
    """The tables that a tree reads, each once, sorted."""
    return sorted({table_name(node) for node in tables(tree)})


def _cte_names(tree: exp.Query) -> set[str]:
    return {cte.alias.lower() for cte in tree.find_all(exp.CTE)}


def _check_table(node: exp.Table, cte_names: set[str]) -> None:
    if not isinstance(node.this, exp.Identifier):
        raise Refused(f"the table function {_function_name(node.this)}() is not allowed in FROM", node)
    if node.catalog:
        raise Refused(f"{node.sql('athena')}: write database.table, without a catalog", node)
    if not node.db and node.name.lower() not in cte_names:
        raise Refused(f"the table {node.name!r} has no database; write database.table", node)
    if node.args.get("version") or node.args.get("when"):
        raise Refused("FOR VERSION and FOR TIMESTAMP are not written in SQL; ask with as_of", node)
    if "$" in node.name:
        raise Refused(f"the metadata table {node.name!r} is not allowed", node)


def _check_function(node: exp.Func) -> None:
    name = _function_name(node)
    if name in _CHANGING:
        raise Refused(f'{name} changes from call to call; use a parameter, for a date with default = "today"', node)
    if name not in FUNCTIONS and not isinstance(node, _OPERATORS):
        raise Refused(f"the function {name}() is not allowed{nearest(name, FUNCTIONS)}", node)


def _function_name(node: exp.Expr) -> str:
    """The name under which Athena would know the function."""
    if isinstance(node, exp.Anonymous) or not isinstance(node, exp.Func):
        return (node.name or node.key).lower()
    found = _CALL.match(node.sql("athena"))
    return (found[1] if found else node.sql_name()).lower()
