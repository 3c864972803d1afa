"""From query text to one statement: Athena's own grammar (UNLOAD, CTAS) here, everything else by sqlglot.

Parsing is all there is: names are not looked up, nothing runs. A text that does not parse raises SyntaxProblem, which
Athena answers to StartQueryExecution; what parses and makes no sense is found by the engine and ends as FAILED.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from tests.fakes.athena.errors import QueryFailed, SyntaxProblem


@dataclass(frozen=True)
class Statement:
    """One parsed statement. `kind` and `sub` are StatementType and SubstatementType of the API."""

    kind: str
    sub: str
    # The SELECT or WITH of a query, UNLOAD, CTAS, INSERT; the whole tree of the others.
    tree: exp.Expr | None = None
    table: exp.Table | None = None
    location: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    # IF [NOT] EXISTS, WITH NO DATA.
    lenient: bool = False
    no_data: bool = False


def parse(text: str, parameters: list[str] | None = None) -> Statement:
    """The statement that `text` says, with each `?` replaced by the SQL text of its parameter."""
    text = text.strip().rstrip(";").rstrip()
    if not text:
        raise SyntaxProblem("Query string cannot be empty")
    first = re.match(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*([A-Za-z]+|\()", text, re.S)
    word = first.group(1).upper() if first else ""
    if word in ("SHOW", "DESCRIBE", "DESC"):
        return Statement("UTILITY", word if word == "SHOW" else "DESCRIBE", exp.Literal.string(text))
    text = _splice(text, parameters)
    if word == "EXPLAIN":
        return _explain(text)
    if word == "UNLOAD":
        return _unload(text)
    if word == "CREATE" and (ctas := _ctas(text)):
        return ctas
    return _plain(text, word)


def _splice(text: str, parameters: list[str] | None) -> str:
    """Parameters are SQL text on AWS too; each must be one expression, and their number must be right."""
    places = [t for t in _tokens(text) if t.token_type is TokenType.PLACEHOLDER]
    values = parameters or []
    if len(places) != len(values):
        message = f"line 1:1: Incorrect number of parameters: expected {len(places)} but found {len(values)}"
        raise QueryFailed("INVALID_PARAMETER_USAGE", message)
    for place, value in reversed(list(zip(places, values, strict=True))):
        _parse_sql(f"SELECT {value}")
        if len(_parse_sql(f"SELECT {value}").expressions) != 1:
            raise SyntaxProblem(f"line 1:1: parameter {value!r} is not one expression")
        text = f"{text[: place.start]}{value}{text[place.end + 1 :]}"
    return text


def _tokens(text: str) -> list[Token]:
    try:
        return Trino().tokenize(text)
    except TokenError as error:
        raise SyntaxProblem(f"line 1:1: mismatched input: {error}") from error


def _parse_sql(text: str) -> exp.Expr:
    try:
        trees = [t for t in sqlglot.parse(text, read="athena") if t is not None]
    except ParseError as error:
        raise _syntax(error) from error
    except TokenError as error:
        raise SyntaxProblem(f"line 1:1: mismatched input: {error}") from error
    if len(trees) != 1:
        raise SyntaxProblem(f"Only one sql statement is allowed. Got: {text}")
    return trees[0]


def _syntax(error: ParseError) -> SyntaxProblem:
    first = error.errors[0] if error.errors else {}
    word = str(first.get("highlight", ""))
    column = max(1, int(first.get("col") or 1) - len(word) + 1)
    what = str(first.get("description", error)).split("<")[0].strip()
    return SyntaxProblem(f"line {first.get('line') or 1}:{column}: mismatched input {word!r}. {what}")


def _plain(text: str, word: str) -> Statement:
    tree = _parse_sql(text)
    match tree:
        case exp.Query() | exp.Values():
            return Statement("DML", "SELECT", tree)
        case exp.Insert():
            target = tree.this
            names = tuple(c.name for c in target.expressions) if isinstance(target, exp.Schema) else ()
            source = tree.expression
            with_ = tree.args.get("with_")
            if with_ is not None:
                source.set("with_", with_)
            return Statement("DML", "INSERT", source, table=target.find(exp.Table), columns=names)
        case exp.Delete():
            return Statement("DML", "DELETE", tree.args.get("where"), table=tree.this)
        case exp.Drop(kind="TABLE"):
            return Statement("DDL", "DROP_TABLE", tree, _dropped(tree), lenient=bool(tree.args.get("exists")))
        case exp.Drop(kind="SCHEMA" | "DATABASE"):
            return Statement("DDL", "DROP_DATABASE", tree, _dropped(tree), lenient=bool(tree.args.get("exists")))
        case exp.Create(kind="TABLE") if isinstance(tree.this, exp.Schema):
            name = tree.this.this
            lenient = bool(tree.args.get("exists"))
            return Statement("DDL", "CREATE_TABLE", tree, name, options={"text": text}, lenient=lenient)
        case exp.Create(kind="SCHEMA" | "DATABASE"):
            return Statement("DDL", "CREATE_DATABASE", tree, tree.this, lenient=bool(tree.args.get("exists")))
        case exp.Command():
            if found := re.fullmatch(r"OPTIMIZE\s+(\S+)\s+REWRITE\s+DATA\s+USING\s+BIN_PACK", text, re.I):
                return Statement("DML", "OPTIMIZE", table=exp.to_table(found[1], dialect="trino"))
            if word in ("OPTIMIZE", "VACUUM", "PREPARE", "EXECUTE", "DEALLOCATE", "MSCK", "ANALYZE", "CALL", "ALTER"):
                return Statement("DDL", word, tree)
            raise SyntaxProblem(f"line 1:1: mismatched input {word!r}. Expecting: 'SELECT', 'WITH', 'UNLOAD', …")
        case exp.Merge() | exp.Update() | exp.Alter() | exp.Create() | exp.Drop():
            return Statement("DDL" if isinstance(tree, exp.Alter | exp.Create | exp.Drop) else "DML", word, tree)
    raise SyntaxProblem(f"line 1:1: mismatched input {word!r}. Expecting: 'SELECT', 'WITH', 'UNLOAD', …")


def _dropped(tree: exp.Drop) -> exp.Table:
    names: list[exp.Table] = tree.args.get("tables") or [tree.this]
    if len(names) != 1:
        raise SyntaxProblem("line 1:1: mismatched input ','. Expecting: <EOF>")
    return names[0]


def _explain(text: str) -> Statement:
    match = re.match(r"\s*EXPLAIN(\s+ANALYZE)?(\s*\([^)]*\))?\s", text, re.I)
    end = match.end() if match else 0
    return Statement("UTILITY", "EXPLAIN", _parse_sql(_blank(text[:end]) + text[end:]))


def _unload(text: str) -> Statement:
    """`UNLOAD (query) TO 's3://…' [WITH (key = value, …)]`, found on the tokens so that strings cannot mislead."""
    tokens = _tokens(text)
    if len(tokens) < 2 or tokens[1].token_type is not TokenType.L_PAREN:
        raise SyntaxProblem("line 1:8: mismatched input. Expecting: '('")
    close = _closing(tokens, 1)
    rest = tokens[close + 1 :]
    if len(rest) < 2 or rest[0].text.upper() != "TO" or rest[1].token_type is not TokenType.STRING:
        raise SyntaxProblem(f"line {tokens[close].line}:{tokens[close].col}: mismatched input. Expecting: 'TO'")
    options = _options(rest[2:]) if len(rest) > 2 else {}
    tree = _query(text, tokens[1].end + 1, tokens[close].start)
    return Statement("DML", "UNLOAD", tree, location=rest[1].text, options=options)


def _ctas(text: str) -> Statement | None:
    """`CREATE TABLE [IF NOT EXISTS] name [WITH (…)] AS query [WITH [NO] DATA]`; None when it is another CREATE."""
    tokens = _tokens(text)
    words = [t.text.upper() for t in tokens]
    if words[:2] != ["CREATE", "TABLE"]:
        return None
    lenient = words[2:5] == ["IF", "NOT", "EXISTS"]
    at = start = 5 if lenient else 2
    while at < len(tokens) and words[at] not in ("WITH", "AS", "("):
        at += 1
    name = text[tokens[start].start : tokens[at - 1].end + 1]
    options: dict[str, Any] = {}
    if at < len(tokens) and words[at] == "WITH":
        close = _closing(tokens, at + 1)
        options = _options(tokens[at : close + 1])
        at = close + 1
    if at >= len(tokens) or words[at] != "AS":
        return None
    last = len(tokens)
    no_data = words[-3:] == ["WITH", "NO", "DATA"]
    if words[-1] == "DATA":
        last -= 3 if no_data else 2
    tree = _query(text, tokens[at].end + 1, tokens[last - 1].end + 1)
    table = exp.to_table(name, dialect="trino")
    return Statement("DDL", "CREATE_TABLE_AS_SELECT", tree, table, "", options, lenient=lenient, no_data=no_data)


def _query(text: str, start: int, end: int) -> exp.Expr:
    tree = _parse_sql(_blank(text[:start]) + text[start:end])
    if isinstance(tree, exp.Subquery) and not tree.args.get("alias"):
        tree = tree.this
    if not isinstance(tree, exp.Query | exp.Values):
        raise SyntaxProblem(f"line 1:{start + 1}: mismatched input. Expecting: 'SELECT', 'WITH', 'VALUES'")
    return tree


def _blank(text: str) -> str:
    """Spaces of the same shape, so that positions in error messages are those of the whole text."""
    return re.sub(r"[^\n]", " ", text)


def _closing(tokens: list[Token], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[at].token_type, 0)
        if depth == 0:
            return at
    raise SyntaxProblem(f"line {tokens[-1].line}:{tokens[-1].col}: mismatched input '<EOF>'. Expecting: ')'")


def _options(tokens: list[Token]) -> dict[str, Any]:
    """`WITH (key = 'text' | 1 | true | ARRAY['a', 'b'], …)` as a dict with lower-case keys."""
    if len(tokens) < 3 or tokens[0].text.upper() != "WITH" or tokens[1].token_type is not TokenType.L_PAREN:
        raise SyntaxProblem(f"line {tokens[0].line}:{tokens[0].col}: mismatched input {tokens[0].text!r}")
    options: dict[str, Any] = {}
    at = 2
    while at < len(tokens) - 1:
        if at + 2 >= len(tokens) or tokens[at + 1].token_type is not TokenType.EQ:
            raise SyntaxProblem(f"line {tokens[at].line}:{tokens[at].col}: mismatched input. Expecting: '='")
        key, value = tokens[at].text.lower(), tokens[at + 2]
        if value.text.upper() == "ARRAY":
            end = next(i for i in range(at, len(tokens)) if tokens[i].token_type is TokenType.R_BRACKET)
            options[key] = [t.text for t in tokens[at + 3 : end] if t.token_type is TokenType.STRING]
            at = end + 1
        else:
            number = value.token_type is TokenType.NUMBER
            flag = {"true": True, "false": False}.get(value.text.lower())
            plain: Any = int(value.text) if number else value.text
            options[key] = flag if flag is not None and value.token_type is not TokenType.STRING else plain
            at += 3
        if at < len(tokens) and tokens[at].token_type is TokenType.COMMA:
            at += 1
    return options
