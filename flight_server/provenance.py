"""Where each effective setting comes from, and what is in the file and the environment that no setting is.

For `athena-flight config`; what the settings are is config's business. Secrets are never shown, also not those in
the user part or the query of a URL.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from flight_server.config import (
    PREFIX,
    Config,
    file_of,
    from_file,
    from_tables,
    load,
    no_json,
    settings,
    unreadable,
    without_secrets,
    wrong_value,
)
from flight_server.errors import nearest

# Variables with our prefix that are the Python client's (docs/clients.md).
_CLIENT = frozenset({"URL", "TOKEN", "USER", "PASSWORD", "TLS_ROOTS", "CERT", "KEY"})
# Variables that Kubernetes sets in every pod for a Service whose name starts with athena-flight.
_SERVICE = re.compile(r"(?:.+_)?(?:SERVICE_(?:HOST|PORT(?:_.+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class _Given:
    """What was found before it was put together: the file's text and tables, the variables, and those as tables."""

    file: Path | None
    text: str
    contents: Mapping[str, object]
    variables: Mapping[str, str]
    environment: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting as it is in force. `source` is default, file:PATH, the name of a variable, or a flag."""

    setting: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: FILE:LINE, or the name of a variable."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def effective(path: Path | None, flags: Mapping[str, object]) -> list[Effective]:
    """All settings in their order; `flags` are those of `[server]`. Raises ConfigError as `load` does."""
    config = load(path, server=dict(flags)) if flags else load(path)
    found = _given(path)
    values = config.model_dump(mode="json")
    return [
        Effective(f"{section}.{name}", _shown(values[section][name]), _source(section, name, found, flags))
        for section, name in settings()
    ]


def problems(path: Path | None) -> list[Problem]:
    """Unknown keys of the file and the environment with the nearest known one, and values that are refused.

    Raises ConfigError for a file that cannot be read.
    """
    found = _given(path)
    unknown = [*_unknown_keys(found), *_unknown_variables(found)]
    return [*unknown, *_wrong_values(found)]


def known(path: Path | None) -> Config | None:
    """The settings in force, were it not for keys that no setting has; None where a value is refused."""
    found = _given(path)
    _, names = _known()
    given = {
        section: {
            name: value
            for name, value in {**_table(found.contents, section), **_table(found.environment, section)}.items()
            if f"{section}.{name}" in names
        }
        for section in Config.model_fields
    }
    try:
        return from_tables(given)
    except ValidationError:
        return None


def placed(path: Path | None, message: str) -> Problem:
    """A problem that was found elsewhere, with the place of the setting that its message begins with."""
    found = _given(path)
    named = re.match(r"settings? '([a-z]+)\.([a-z_]+)'", message)
    section, name = named.groups() if named else ("", "")
    if name in _table(found.environment, section):
        return Problem(_variable(section, name, found), message)
    given = name in _table(found.contents, section)
    return Problem(_line(found, section, name) if given else str(found.file or "settings"), message)


def _given(path: Path | None) -> _Given:
    """What the file and the environment say. Raises ConfigError for a file that is not there or no TOML."""
    file = file_of(path)
    text, contents = "", {}
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
            contents = tomllib.loads(text)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise unreadable(file, error) from error
    variables = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    try:
        environment = EnvSettingsSource(Config)()
    except SettingsError as error:
        raise no_json(error) from None
    return _Given(file, text, contents, variables, environment)


def _source(section: str, name: str, found: _Given, flags: Mapping[str, object]) -> str:
    if section == "server" and name in flags:
        return "--" + name.replace("_", "-")
    if name in _table(found.environment, section):
        return _variable(section, name, found)
    if name in _table(found.contents, section):
        return f"file:{found.file}"
    return "default"


def _variable(section: str, name: str, found: _Given) -> str:
    wanted, whole = f"{PREFIX}{section}__{name}".upper(), f"{PREFIX}{section}".upper()
    # One variable can also give a section as JSON, and several the keys of a table.
    exact = next((each for each in found.variables if each.upper() == wanted), None)
    return exact or (whole if any(each.upper() == whole for each in found.variables) else wanted)


def _table(contents: Mapping[str, object], section: str) -> Mapping[str, object]:
    table = contents.get(section)
    return table if isinstance(table, Mapping) else {}


def _unknown_keys(found: _Given) -> Iterator[Problem]:
    sections, names = _known()
    for section, table in found.contents.items():
        if section not in sections:
            yield Problem(_line(found, section, None), f"there is no section [{section}]{nearest(section, sections)}")
        elif not isinstance(table, Mapping):
            yield Problem(_line(found, section, None), f"{section} is a section: write [{section}]")
        else:
            for name in table:
                key = f"{section}.{name}"
                if key not in names:
                    yield Problem(_line(found, section, name), f"there is no setting {key!r}{nearest(key, names)}")


def _unknown_variables(found: _Given) -> Iterator[Problem]:
    sections, names = _known()
    variables = [f"{PREFIX}{name.replace('.', '__')}".upper() for name in names]
    known = {*variables, *(f"{PREFIX}{section}".upper() for section in sections)}
    for variable, value in sorted(found.variables.items()):
        rest = variable[len(PREFIX) :].upper()
        ours = rest not in _CLIENT and not _SERVICE.fullmatch(rest) and not _SERVICE_URL.match(value)
        # A setting that is a table has a variable for each of its keys.
        whole, _, key = variable.upper().rpartition("__")
        if ours and variable.upper() not in known and not (key and whole in variables):
            near = difflib.get_close_matches(variable.upper(), variables, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Problem(variable, f"no setting has this variable{hint}")


def _wrong_values(found: _Given) -> Iterator[Problem]:
    try:
        from_file(found.file)
    except ValidationError as error:
        for each in error.errors():
            section, name = str(each["loc"][0]), str(each["loc"][1]) if len(each["loc"]) > 1 else ""
            if each["type"] == "extra_forbidden" or not name:
                # Told as an unknown key already, or as no section.
                continue
            place = _line(found, section, name)
            if name in _table(found.environment, section):
                place = _variable(section, name, found)
            yield Problem(place, wrong_value(each))


def _known() -> tuple[list[str], list[str]]:
    return list(Config.model_fields), [f"{section}.{name}" for section, name in settings()]


def _line(found: _Given, section: str, name: str | None) -> str:
    """FILE:LINE of a key, as far as the text tells: the file alone for dotted and nested spellings."""
    inside = False
    header = re.compile(rf"\s*\[\s*\"?{re.escape(section)}\"?\s*\]")
    key = re.compile(rf"\s*\"?{re.escape(name or section)}\"?\s*=")
    for number, line in enumerate(found.text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            inside = bool(header.match(line))
            if name is None and inside:
                return f"{found.file}:{number}"
        elif key.match(line) and (inside or name is None):
            return f"{found.file}:{number}"
    return str(found.file)


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    shown = without_secrets(value)
    return shown if isinstance(shown, str) else json.dumps(shown)
