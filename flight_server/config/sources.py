"""The settings as one object: flags over the environment over the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from flight_server.config.bounds import Budget, Cost, Limits, Submitted
from flight_server.config.sections import (
    Athena,
    Audit,
    Auth,
    Aws,
    Catalog,
    Datasets,
    DuckDB,
    Keeping,
    Lock,
    Log,
    Results,
    Server,
    Sql,
    System,
    Telemetry,
    Tls,
)
from flight_server.errors import ConfigError, nearest

PREFIX = "ATHENA_FLIGHT_"
DEFAULT_FILE = Path("athena-flight.toml")


class Config(BaseSettings):
    """The effective settings. Build with `load`; print with `model_dump(mode="json")`, which shows no secret."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__")

    server: Server = Server()
    auth: Auth = Auth()
    tls: Tls = Tls()
    audit: Audit = Audit()
    datasets: Datasets = Datasets()
    catalog: Catalog = Catalog()
    aws: Aws = Aws()
    duckdb: DuckDB = DuckDB()
    athena: Athena = Athena()
    results: Results = Results()
    kept: Keeping = Keeping()
    lock: Lock = Lock()
    limits: Limits = Limits()
    submitted: Submitted = Submitted()
    cost: Cost = Cost()
    budget: Budget = Budget()
    sql: Sql = Sql()
    telemetry: Telemetry = Telemetry()
    system: System = System()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file that `load` names."""
        file = TomlConfigSettingsSource(settings_cls, settings_cls.model_config.get("toml_file"))
        return init_settings, env_settings, file


def load(path: Path | None = None, **flags: dict[str, Any]) -> Config:
    """The effective settings: `flags` (section = {field: value}) over the environment over the file at `path`.

    Without `path`, `athena-flight.toml` of the working directory is read where there is one.
    Raises ConfigError that names the file, the setting and what is wrong with it.
    """
    file = file_of(path)
    try:
        return from_file(file, **flags)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise unreadable(file, error) from error
    except SettingsError as error:
        raise no_json(error) from None
    except ValidationError as error:
        raise ConfigError(f"{wrong_value(error.errors()[0])}; `athena-flight config check` names all") from error


def file_of(path: Path | None) -> Path | None:
    """The file that is read. Raises ConfigError where the one that was asked for is not there."""
    file = path or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if file is not None and not file.exists():
        raise ConfigError(f"there is no configuration file {str(file)!r}")
    if file is not None and file.is_dir():
        # pydantic-settings would read no file at all, and say nothing.
        raise ConfigError(f"{str(file)!r} is a folder; name the file in it")
    return file


def unreadable(file: Path | None, error: Exception) -> ConfigError:
    """What is said of a file that cannot be read as TOML; the parser's message has line and column."""
    if isinstance(error, OSError):
        reason = f"cannot be read: {error.strerror}"
    else:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"is not TOML: {error}"
    return ConfigError(f"the configuration file {str(file)!r} {reason}")


def no_json(error: SettingsError) -> ConfigError:
    """What is said of a variable that pydantic-settings cannot parse; which of a section's it is, it does not tell."""
    named = re.search(r'field "(\w+)"', str(error))
    return ConfigError(
        f"a variable {PREFIX}{named[1].upper() if named else ''}… holds no JSON; lists, tables and whole sections are "
        'written as JSON there: ["duckdb"], {"port": 8815}'
    )


def from_file(file: Path | None, **flags: dict[str, Any]) -> Config:
    """As `load`, with the errors of the libraries."""

    class FromFile(Config):
        model_config = SettingsConfigDict(toml_file=file)

    return FromFile(**flags)  # type: ignore[arg-type]


def from_tables(tables: Mapping[str, object]) -> Config:
    """Of these sections, without the file and the environment; with the errors of pydantic."""

    class FromTables(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    return FromTables(**tables)  # type: ignore[arg-type]


def settings() -> list[tuple[str, str]]:
    """Section and name of every setting, in order."""
    return [
        (section, name)
        for section, field in Config.model_fields.items()
        for name in field.annotation.model_fields  # type: ignore[union-attr]
    ]


def wrong_value(error: ErrorDetails) -> str:
    """What pydantic says of one setting, on one line and without anything that may be a secret."""
    setting = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = [f"{section}.{name}" for section, name in settings()]
        return f"there is no setting {setting!r}{nearest(setting, known if '.' in setting else Config.model_fields)}"
    # What was given can be a secret.
    shown = "" if "secret" in setting else f" (got {error['input']!r})"
    return f"setting {setting!r}: {error['msg'].removeprefix('Value error, ')}{shown}"
