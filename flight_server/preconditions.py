"""What settings need of each other and of this machine: `serve` refuses to start for it, `config check` names it all.

Nothing is opened but the files that settings name, and no network is used. What one value must be is config's
business; what stands in the files of datasets is `athena-flight check`'s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import boto3

from flight_server.config import Config
from flight_server.errors import ConfigError, SetupError
from flight_server.service import tls
from flight_server.service.auth import Authentication

# Sections and settings that name files which must be there at start; keys of a token issuer may come later.
_CREDENTIALS = (("auth", "tokens"), ("auth", "passwords"), ("auth", "certificates"))
_TLS = (("tls", "certificate"), ("tls", "key"), ("tls", "client_ca"))
# Checks the settings only: nothing is signed with it.
_NO_SECRET = b"none"


def problems(config: Config) -> list[SetupError]:
    """All that keeps a server from starting with these settings, each with the setting or the file it is about."""
    found: list[SetupError] = [*_unreadable(config, _CREDENTIALS), *_unreadable(config, _TLS)]
    # Each of these reads the files: one that is not there has been told already.
    asks: list[Callable[[Config], None]] = [_exposure, _athena_results, _region, _ports]
    if not list(_unreadable(config, _CREDENTIALS)):
        asks.insert(0, _authentication)
    if not list(_unreadable(config, _TLS)):
        asks.insert(0, _tls)
    for ask in asks:
        try:
            ask(config)
        except SetupError as error:
            found.append(error)
    return found


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


def _unreadable(config: Config, names: tuple[tuple[str, str], ...]) -> Iterator[ConfigError]:
    for section, name in names:
        path: Path | None = getattr(getattr(config, section), name)
        if path is None:
            continue
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            yield ConfigError(f"setting '{section}.{name}': cannot read {str(path)!r}: {error.strerror}")


def _authentication(config: Config) -> None:
    Authentication(config, _NO_SECRET)


def _tls(config: Config) -> None:
    tls.options(config.tls)


def _exposure(config: Config) -> None:
    """Whoever reaches the port must be asked who they are. A gate of certificates names nobody."""
    auth, host = config.auth, config.server.host
    required = config.tls.client == "identity" or bool(auth.tokens or auth.passwords or auth.jwt_keys)
    if not required and not is_loopback(host) and not config.server.insecure_allow_remote:
        raise ConfigError(
            f"setting 'server.host': {host!r} is reached from other machines, and nobody is asked who they are; set up "
            "[auth], or say server.insecure_allow_remote = true (--insecure-allow-remote)"
        )


def _athena_results(config: Config) -> None:
    if "athena" in config.server.engines:
        athena_results(config)


def _region(config: Config) -> None:
    if "athena" in config.server.engines:
        region(config, "the Athena engine")
    if config.catalog.kind == "glue":
        region(config, "a Glue catalog")


def _ports(config: Config) -> None:
    taken = {config.server.port: "server.port"}
    beside: list[Literal["http_port", "health_port"]] = ["http_port"]
    if config.server.health:
        beside.append("health_port")
    for name in beside:
        port = port_beside(config, name)
        if port and port in taken:
            raise ConfigError(f"setting 'server.{name}': {port} is {taken[port]!r} already")
        taken[port] = f"server.{name}"
