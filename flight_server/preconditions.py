"""What settings need of each other and of this machine: `serve` refuses to start for it, `config check` names it all.

Nothing is opened but the files that settings name, nothing is written, and no network is used. What one value must be
is config's business; what stands in the files of datasets is `athena-flight check`'s, but for the policies.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import boto3

from flight_server.config import Auth, Config
from flight_server.datasets import policies
from flight_server.errors import ConfigError, SetupError
from flight_server.service import tls
from flight_server.service.audit import STDOUT
from flight_server.service.auth import Authentication, identities
from flight_server.tables.catalog import database
from flight_server.telemetry import traces

# Settings that name files which must be there at start; keys of a token issuer may come later.
_CREDENTIALS = ("tokens", "passwords", "certificates")
_TLS = ("certificate", "key", "client_ca")
# Checks the settings only: nothing is signed with it.
_NO_SECRET = b"none"
_SQLITE = b"SQLite format 3\x00"


def problems(config: Config) -> list[SetupError]:
    """All that keeps a server from starting with these settings, each with the setting or the file it is about."""
    asks: list[Callable[[Config], Iterator[SetupError]]] = [
        *(_authentication, _tls, _exposure, _athena, _catalog, _ports, _datasets, _audit, _budget, _traces, _temporary)
    ]
    return [error for ask in asks for error in ask(config)]


def port_beside(config: Config, setting: Literal["http_port", "health_port"]) -> int:
    """The configured port; whoever asks for any free Flight port is not after the well-known ones beside it."""
    named = setting in config.server.model_fields_set
    return int(getattr(config.server, setting)) if named or config.server.port != 0 else 0


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def region(config: Config, needed_for: str) -> str:
    """The AWS region, of the settings or of the usual chain. Raises ConfigError where neither names one."""
    found = config.aws.region or boto3.Session().region_name
    if found is None:
        raise ConfigError(f"setting 'aws.region': needed for {needed_for}; the AWS chain names none either")
    return str(found)


def athena_results(config: Config) -> str:
    """The prefix of the result store. Raises ConfigError where there is none."""
    root = config.athena.results
    if not root.startswith("s3://"):
        raise ConfigError(f"setting 'athena.results': the Athena engine needs an s3:// prefix, got {root!r}")
    return root


def _raised(check: Callable[[], object]) -> Iterator[SetupError]:
    try:
        check()
    except SetupError as error:
        yield error


def _unreadable(section: str, name: str, path: Path | None) -> Iterator[ConfigError]:
    if path is not None:
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            yield ConfigError(f"setting '{section}.{name}': cannot read {str(path)!r}: {error.strerror}")


def _authentication(config: Config) -> Iterator[SetupError]:
    """Each file by itself, and then what the good ones, or those that are not set, need of other settings."""
    wrong: dict[str, None] = {}
    for name in _CREDENTIALS:
        path = getattr(config.auth, name)
        alone = Auth(**{name: path})
        unreadable: list[SetupError] = [*_unreadable("auth", name, path)]
        for error in unreadable or _raised(functools.partial(identities.load, alone)):
            wrong[name] = None
            yield error
    good = config.model_copy(update={"auth": config.auth.model_copy(update=wrong)})
    yield from _raised(lambda: Authentication(good, _NO_SECRET))


def _tls(config: Config) -> Iterator[SetupError]:
    found = {name: [*_unreadable("tls", name, getattr(config.tls, name))] for name in _TLS}
    for errors in found.values():
        yield from errors
    if not found["certificate"] and not found["key"]:
        yield from _raised(lambda: tls.check_pair(config.tls))
    if not found["client_ca"]:
        yield from _raised(lambda: tls.check_clients(config.tls))


def _exposure(config: Config) -> Iterator[SetupError]:
    """Whoever reaches the port must be asked who they are. A gate of certificates names nobody."""
    auth, host = config.auth, config.server.host
    required = config.tls.client == "identity" or bool(auth.tokens or auth.passwords or auth.jwt_keys)
    if not required and not is_loopback(host) and not config.server.insecure_allow_remote:
        yield ConfigError(
            f"setting 'server.host': {host!r} is reached from other machines, and nobody is asked who they are; set up "
            "[auth], or say server.insecure_allow_remote = true (--insecure-allow-remote)"
        )


def _athena(config: Config) -> Iterator[SetupError]:
    if "athena" in config.server.engines:
        yield from _raised(lambda: athena_results(config))
        yield from _raised(lambda: region(config, "the Athena engine"))
    elif config.catalog.kind == "glue":
        yield from _raised(lambda: region(config, "a Glue catalog"))


def _catalog(config: Config) -> Iterator[SetupError]:
    try:
        file = database(config.catalog)
    except SetupError as error:
        yield error
        return
    # Its folder is made at start where it is not there.
    if file is not None and (reason := _obstacle(file, folders_made=True)):
        yield ConfigError(f"setting 'catalog.uri': cannot use {str(file)!r}: {reason}")
    warehouse = config.catalog.warehouse
    if "://" not in warehouse and (reason := _obstacle(Path(warehouse) / "any", folders_made=True)):
        yield ConfigError(f"setting 'catalog.warehouse': cannot use {warehouse!r}: {reason}")


def _ports(config: Config) -> Iterator[SetupError]:
    taken = {config.server.port: "server.port"}
    beside: list[Literal["http_port", "health_port"]] = ["http_port"]
    if config.server.health:
        beside.append("health_port")
    for name in beside:
        port = port_beside(config, name)
        if port and port in taken:
            yield ConfigError(f"setting 'server.{name}': {port} is {taken[port]!r} already")
        taken.setdefault(port, f"server.{name}")


def _datasets(config: Config) -> Iterator[SetupError]:
    directory = config.datasets.directory
    if not directory.is_dir():
        yield ConfigError(f"setting 'datasets.directory': there is no folder {str(directory)!r}")
    else:
        yield from _raised(lambda: policies.load(directory))


def _audit(config: Config) -> Iterator[SetupError]:
    file = config.audit.file
    if file not in (None, STDOUT) and (reason := _obstacle(Path(file))):
        yield ConfigError(f"setting 'audit.file': cannot append to {file!r}: {reason}")


def _budget(config: Config) -> Iterator[SetupError]:
    file = config.budget.file
    if file is None:
        return
    reason = _obstacle(file)
    if not reason and file.exists():
        with file.open("rb") as opened:
            begin = opened.read(len(_SQLITE))
        reason = "it is no SQLite file" if begin not in (b"", _SQLITE) else ""
    if reason:
        yield ConfigError(f"setting 'budget.file': {str(file)!r} cannot be used: {reason}")


def _traces(config: Config) -> Iterator[SetupError]:
    if config.telemetry.endpoint is not None:
        yield from _raised(traces.check)


def _temporary(_: Config) -> Iterator[SetupError]:
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        # Python has tried to write a file into each of them.
        tried = str(error.strerror).partition(" in ")[2] or "any folder"
        way_out = "make room, mount one that can be written, or name one with the variable TMPDIR"
        yield ConfigError(f"there is no place for temporary files in {tried}: {way_out}")


def _obstacle(file: Path, *, folders_made: bool = False) -> str:
    """Why a file could not be written or made, in the system's words; "" where it can. Nothing is touched."""
    if file.is_dir():
        return os.strerror(errno.EISDIR)
    folder = file.parent
    while folders_made and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.exists():
        return os.strerror(errno.ENOENT)
    if not folder.is_dir():
        return os.strerror(errno.ENOTDIR)
    allowed = os.access(file, os.W_OK) if file.exists() else os.access(folder, os.W_OK | os.X_OK)
    return "" if allowed else os.strerror(errno.EACCES)
