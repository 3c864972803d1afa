"""Where the server is and who asks: arguments of `connect`, then the environment, then a file.

The file is `athena-flight/client.toml` in the user's configuration folder (`$XDG_CONFIG_HOME`, or `~/.config`); none is
read from the working directory, because a folder that somebody sent should not choose the server. A credential of the
environment or the file goes only to the server that the same place names, or to any where it names none.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

_PREFIX = "ATHENA_FLIGHT_"


@dataclass(frozen=True, slots=True)
class Settings:
    """One server and one credential. `tls_roots`, `cert` and `key` are PEM files."""

    url: str
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_roots: Path | None = None
    cert: Path | None = None
    key: Path | None = field(default=None, repr=False)


_NAMES = [each.name for each in fields(Settings)]


def load(arguments: Mapping[str, str | Path | None], environ: Mapping[str, str] = os.environ) -> Settings:
    """The effective settings. Raises ValueError that names what is missing or unknown, and where."""
    file = config_file(environ)
    sources = [
        {name: str(value) for name, value in arguments.items() if value is not None},
        # Set to nothing is how scripts unset a variable.
        {name: environ[key] for name in _NAMES if environ.get(key := _PREFIX + name.upper())},
        _read(file),
    ]
    url = next((source["url"] for source in sources if "url" in source), None)
    if url is None:
        raise ValueError(
            f'no server is named: connect("grpc://localhost:8815"), or set {_PREFIX}URL, or write url in {file}'
        )
    found: dict[str, str] = {}
    for source in sources:
        if source.get("url", url) == url:
            found = source | found
    if "token" in found and "user" in found:
        # One of the two came from further away; the nearer one is meant.
        nearest = next(source for source in sources if "token" in source or "user" in source)
        found = {k: v for k, v in found.items() if k not in ("user", "password") or "token" not in nearest}
        if "token" not in nearest:
            del found["token"]
    if ("user" in found) != ("password" in found):
        raise ValueError("a user needs a password and a password a user; or give a token")
    if ("cert" in found) != ("key" in found):
        raise ValueError("a client certificate needs both cert and key, two PEM files")
    paths = {name: Path(found[name]) for name in ("tls_roots", "cert", "key") if name in found}
    return Settings(url, found.get("token"), found.get("user"), found.get("password"), **paths)


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file would be."""
    home = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "athena-flight" / "client.toml"


def _read(file: Path) -> dict[str, str]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: {error}") from error
    for name, value in found.items():
        if name not in _NAMES or not isinstance(value, str):
            raise ValueError(f"{file}: {name!r} is no setting, or no text; there are {', '.join(_NAMES)}")
    return found
