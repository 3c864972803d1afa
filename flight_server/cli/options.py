"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from flight_server import config as settings
from flight_server.model import Request
from flight_server.service import descriptors

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings; default athena-flight.toml."),
]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="CALLER", help="With the roles and claims of this user, token or certificate."),
]
Host = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.", show_default=False)]
Port = Annotated[int | None, typer.Option(metavar="PORT", help="Flight port; 0 = any.")]
InsecureAllowRemote = Annotated[
    bool, typer.Option("--insecure-allow-remote", help="Listen beyond loopback without authentication.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Dataset, as in its file's name.", show_default=False)]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PARAM=VALUE]...", help="A list repeats its name; a map is weights=1:0.6 weights=2:0.4."),
]


def server_flags(host: str | None, port: int | None, insecure_allow_remote: bool) -> dict[str, object]:
    """What the flags say of `[server]`; what is not given stays with the file and the environment."""
    given = {"host": host, "port": port, "insecure_allow_remote": insecure_allow_remote or None}
    return {name: value for name, value in given.items() if value is not None}


def request_of(name: str, pairs: list[str] | None, config: settings.Config) -> Request:
    """The request that the arguments write, decoded by what decodes a ticket: one meaning in both places."""
    written = []
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not PARAM=VALUE")
        written.append(f"{quote(key)}={quote(value)}")
    query = f"{name}{'&' if '?' in name else '?'}{'&'.join(written)}" if written else name
    return descriptors.decode(query.encode(errors="surrogateescape"), config.limits.request_bytes_max)
