"""All settings, read once into one frozen object: `athena-flight.toml`, then ATHENA_FLIGHT_… variables, then flags.

Every limit has its reason in its description; the description is its documentation (docs/operations.md is compared
with it). Nothing else in the package reads the environment, but provenance.py, which tells where a setting was found.
"""

from flight_server.config.bounds import Budget, Cost, Limits, Submitted
from flight_server.config.section import without_secrets
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
from flight_server.config.sources import (
    DEFAULT_FILE,
    PREFIX,
    Config,
    file_of,
    from_file,
    from_tables,
    load,
    no_json,
    settings,
    unreadable,
    wrong_value,
)

__all__ = [
    "DEFAULT_FILE",
    "PREFIX",
    "Athena",
    "Audit",
    "Auth",
    "Aws",
    "Budget",
    "Catalog",
    "Config",
    "Cost",
    "Datasets",
    "DuckDB",
    "Keeping",
    "Limits",
    "Lock",
    "Log",
    "Results",
    "Server",
    "Sql",
    "Submitted",
    "System",
    "Telemetry",
    "Tls",
    "file_of",
    "from_file",
    "from_tables",
    "load",
    "no_json",
    "settings",
    "unreadable",
    "without_secrets",
    "wrong_value",
]
