"""Every error that athena-flight raises, split by who can act on it.

    Error                    code + one-line message
    ├── RequestError         the caller can mend the request
    │   ├── InvalidRequest     INVALID_ARGUMENT
    │   ├── NotFound           NOT_FOUND
    │   ├── Unauthenticated    UNAUTHENTICATED
    │   ├── Denied             PERMISSION_DENIED
    │   └── Unsupported        UNIMPLEMENTED
    ├── Unavailable          the caller can try again later (UNAVAILABLE)
    ├── TimedOut             the query took longer than its limit (DEADLINE_EXCEEDED)
    ├── Cancelled            somebody stopped the query (CANCELLED)
    ├── ServerError          the operator or the data owner can act (INTERNAL)
    │   ├── EngineFailed       the engine refused or broke off the query
    │   │   └── ResultLost       what it wrote is missing or damaged; running it again mends that
    │   └── ContractViolated   the result is not what the dataset promises
    └── SetupError           met by commands and at start, never sent to a client
        ├── DatasetError       a dataset file is wrong: path, line, column
        ├── ConfigError        a setting is wrong or missing
        └── TableError         a table cannot be created, loaded or shown

`CODES` lists the stable codes of protocol.md with the class that carries each; the wire's status follows from the
class (`service/status.py`). Nothing here knows about Flight.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_SOURCE = Path(__file__).parents[1]
_TOKEN = re.compile(r"<Token token_type: [^,]*, text: (.*?), line: .*?>", re.DOTALL)
_CLASS = re.compile(r"<class '[\w.]*\.(\w+)'>")
_OPERAND = re.compile(r"Required keyword: '\w+' missing for (\w+)")


class Error(Exception):
    """Base of all errors here. `code` is one of `CODES`; `message` is one line for a person, without the code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        # What was to be read, where the plan had got so far (model.Reading): for the audit log, never for a client.
        self.reading: object = None

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


class RequestError(Error):
    """The caller asked for something that cannot be answered; asking again unchanged gives the same answer."""


class InvalidRequest(RequestError):
    """The request is malformed, or a value in it breaks the dataset's contract."""


class NotFound(RequestError):
    """What was named does not exist, or must look so to this caller."""


class Unauthenticated(RequestError):
    """The credential is missing, wrong or expired."""


class Denied(RequestError):
    """The caller is known and may not do this."""


class Unsupported(RequestError):
    """The server has no such function."""


class Unavailable(Error):
    """Nothing is wrong with the request; trying again later can work."""


class TimedOut(Error):
    """The query ran into its time limit and was stopped."""


class Cancelled(Error):
    """The query was stopped by its client or by the operator."""


class ServerError(Error):
    """The request was fine; the engine, the data or the server was not."""


class EngineFailed(ServerError):
    """The engine refused or broke off the query. The message has its reason, and its query id where it gives one."""

    def __init__(self, message: str) -> None:
        super().__init__("engine-failed", message)


class ResultLost(EngineFailed):
    """A file of a result is missing or damaged, for good: the query must run again. No network trouble is this."""


class ContractViolated(ServerError):
    """The engine's result is not what the dataset's contract promises (type, null, order, key)."""

    def __init__(self, message: str) -> None:
        super().__init__("contract-violated", message)


class SetupError(Error):
    """Wrong files, settings or tables, met by a command or at start."""


class DatasetError(SetupError):
    """A dataset file is wrong. `line` and `column` count from 1 in the file at `path`; 0 = no such place."""

    def __init__(self, path: Path, line: int, column: int, message: str) -> None:
        super().__init__("bad-dataset", message)
        self.path = path
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = "".join(f":{n}" for n in (self.line, self.column) if n)
        return f"{self.path}{place}: {self.message}"


class ConfigError(SetupError):
    """A setting is wrong, unknown or missing."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-config", message)

    def __str__(self) -> str:
        return self.message


class TableError(SetupError):
    """A table cannot be created, loaded, shown or maintained; it was left as it was."""

    def __init__(self, message: str) -> None:
        super().__init__("bad-table", message)

    def __str__(self) -> str:
        return self.message


CODES: dict[str, type[Error]] = {
    "bad-request": InvalidRequest,
    "unknown-parameter": InvalidRequest,
    "missing-parameter": InvalidRequest,
    "bad-parameter": InvalidRequest,
    "rule-violated": InvalidRequest,
    "sql-refused": InvalidRequest,
    "scan-limit": InvalidRequest,
    "row-limit": InvalidRequest,
    "bad-ticket": InvalidRequest,
    "expired-ticket": InvalidRequest,
    "unknown-dataset": NotFound,
    "unknown-version": NotFound,
    "unknown-query": NotFound,
    "unknown-pin": NotFound,
    "no-credential": Unauthenticated,
    "bad-credential": Unauthenticated,
    "expired-credential": Unauthenticated,
    "not-allowed": Denied,
    "budget-spent": Denied,
    "busy": Unavailable,
    "draining": Unavailable,
    "engine-throttled": Unavailable,
    "timeout": TimedOut,
    "cancelled": Cancelled,
    "engine-failed": EngineFailed,
    "contract-violated": ContractViolated,
    "internal": ServerError,
    "unsupported": Unsupported,
}


def first_line(said: object, length_max: int = 200) -> str:
    """What a library says, as far as it may be shown.

    AWS services repeat on further lines what was signed, the session token among it, when they do not like a signature.
    """
    lines = str(said).splitlines()
    return lines[0][:length_max] if lines else ""


def nearest(name: str, known: Iterable[str], end: str = "") -> str:
    """`"; did you mean 'x'?"` for the known name closest to `name`, or `end` when none is close."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else end


def not_sql(description: str, near: str) -> str:
    """What sqlglot says of a text that it cannot parse, without the objects of Python that it shows.

    `near` is the word at which it stopped.
    """
    said = _TOKEN.sub(lambda found: "the end" if found[1] == "SENTINEL" else f"'{found[1]}'", description)
    said = _CLASS.sub(lambda found: found[1].upper(), said)
    said = _OPERAND.sub(r"\1 lacks what belongs to it", said)
    if said.startswith("Invalid expression") and near.strip():
        said = f"{near.strip()[:40]!r} is not expected here"
    return f"not SQL: {said}"


def to_install(extra: str, source: Path = _SOURCE) -> str:
    """What to type where an extra of pyproject.toml is not there.

    Nothing is published, so it depends on what this runs from: a checkout at `source`, or what was installed from one.
    """
    if (source / "pyproject.toml").is_file():
        return f"type {sys.executable} -m pip install -e '{source}[{extra}]'"
    extras = ",".join(dict.fromkeys(("otlp", extra)))
    return f"install athena-flight with the extra {extra!r}; its image, with docker build --build-arg EXTRAS={extras}"
