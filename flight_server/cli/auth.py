"""`athena-flight auth …`: make tokens and passwords, and say whose a credential is.

Secrets are shown once or typed, never stored and never taken as arguments where other users of the machine could read
them; `whoami --token` takes one for trying out, and `-` reads it from standard input.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.cli.options import ConfigFile
from flight_server.errors import ConfigError, DatasetError, nearest
from flight_server.model import Caller, Claim

_STDIN = "-"
app = typer.Typer(no_args_is_help=True, help="Make tokens and passwords; say whose a credential is.")

CallerName = Annotated[str, typer.Argument(metavar="NAME", help="Who the credential is for.")]
Roles = Annotated[list[str] | None, typer.Option("--role", metavar="ROLE", help="May be given again.")]
Claims = Annotated[
    list[str] | None,
    typer.Option("--claim", metavar="NAME=VALUE", help='desk=emea, level=3, portfolios=[1,2] or desks=["a","b"].'),
]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Instead of the file of the settings.")]


@app.command()
def token(
    name: CallerName,
    role: Roles = None,
    claim: Claims = None,
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) from which it is no longer good.")
    ] = None,
    file: File = None,
    config: ConfigFile = None,
) -> None:
    """Make a bearer token: it is printed once, and its hash added to the file of tokens.

    A running server takes it within seconds. To withdraw it, delete its entry from the file.

    Example: athena-flight auth token notebooks --role pm --claim 'portfolios=[1,2]'
    """
    from flight_server.service.auth.tokens import digest, new_token

    if expires is not None and expires.replace(tzinfo=UTC) <= datetime.now(UTC):
        raise typer.BadParameter(f"{expires:%Y-%m-%d} has begun (UTC): the token would be good for nobody")
    path = file or settings.load(config).auth.tokens
    if path is None:
        raise ConfigError("no file of tokens is set; set auth.tokens, or say --file")
    made = new_token()
    lines = [f"sha256 = {_toml(digest(made))}"]
    lines += [f"expires = {expires:%Y-%m-%d}"] if expires else []
    _append(path, "token", name, lines, role, claim)
    print(f"{path}: the hash of a token for {name!r}; the token itself is shown here only", file=sys.stderr)
    print(made)


@app.command()
def password(
    name: CallerName, role: Roles = None, claim: Claims = None, file: File = None, config: ConfigFile = None
) -> None:
    """Set a user's password, asked for on the terminal or read from standard input, and store its argon2 hash.

    Of a user who is in the file only the hash is replaced; tokens given for the old password end.

    Example: athena-flight auth password alice --role pm --claim 'portfolios=[1,2]'
    """
    from argon2 import PasswordHasher

    from flight_server.service.auth import identities

    found = settings.load(config)
    path = file or found.auth.passwords
    if path is None:
        raise ConfigError("no file of passwords is set; set auth.passwords, or say --file")
    known = identities.load(settings.Auth(passwords=path)).users if path.exists() else {}
    if name in known and (role or claim):
        raise ConfigError(f"{name!r} is in {path} with roles and claims of its own; change them there")
    hash_ = PasswordHasher().hash(_asked())
    if name in known:
        text = path.read_text(encoding="utf-8")
        _write(path, re.sub(rf"{re.escape(_toml(known[name].hash))}", lambda _: _toml(hash_), text, count=1))
    else:
        _append(path, "user", name, [f"argon2 = {_toml(hash_)}"], role, claim)
    print(f"{path}: a password for {name!r}", file=sys.stderr)


@app.command()
def whoami(
    given: Annotated[
        str, typer.Option("--token", metavar="TOKEN", help="Others see arguments: rather -, from standard input.")
    ] = _STDIN,
    config: ConfigFile = None,
) -> None:
    """Say whose a token is, with roles and claims, as the server with these settings would, and with its budget.

    What is spent stands in budget.file. Without one only the running server knows, and tells by its action whoami.

    Example: athena-flight auth whoami < token.txt
    """
    from flight_server.service.auth import Authentication

    found = settings.load(config)
    secret = found.server.ticket_secret
    # Without a configured secret nobody can open session tokens but the server that made them.
    authentication = Authentication(found, secret.get_secret_value().encode() if secret else os.urandom(32))
    value = sys.stdin.readline().strip() if given == _STDIN else given
    caller = authentication.identify({"authorization": [f"Bearer {value}"]}).caller
    assert caller is not None  # noqa: S101 - a header was given
    said = {"name": caller.name, "roles": sorted(caller.roles), "claims": dict(caller.claims)}
    print(json.dumps(said | {"budget": _budget(found.budget, caller)}, indent=2))


def _budget(budget: settings.Budget, caller: Caller) -> dict[str, object] | None:
    """What the server would say; without a file that is there, the limit alone."""
    from flight_server.service.spending import Spending

    kept = budget.file is not None and budget.file.exists()
    spending = Spending(budget if kept else budget.model_copy(update={"file": None}))
    try:
        account = spending.account(caller)
    finally:
        spending.close()
    if account is None:
        return None
    return account.json() if kept else account.json() | {"spent_usd": None, "left_usd": None}


def caller_named(config: settings.Config, name: str) -> Caller:
    """The caller of that name in the files of tokens, passwords and certificates, for `--as`. Raises ConfigError."""
    from flight_server.service.auth import identities

    known = identities.load(config.auth)
    caller = known.named(name)
    if caller is None:
        raise ConfigError(f"no token, user or certificate is named {name!r}{nearest(name, known.names)}")
    return caller


def parsed_claim(text: str) -> tuple[str, Claim]:
    """Name and value of `name=value`: JSON where it is JSON, else the text itself."""
    from flight_server.service.auth.identities import claims_of

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--claim")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    found = claims_of({name: parsed})
    if name not in found:
        raise typer.BadParameter(f"{text!r}: a claim is text, a number, true, false or a list", param_hint="--claim")
    return name, found[name]


def _asked() -> str:
    if sys.stdin.isatty():
        given = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    else:
        given = sys.stdin.readline().rstrip("\n")
    if not given:
        raise ConfigError("the password is empty")
    return given


def _append(
    path: Path, kind: str, name: str, lines: list[str], roles: list[str] | None, claims: list[str] | None
) -> None:
    block = [f"[[{kind}]]", f"name = {_toml(name)}", *lines]
    if roles:
        block.append(f"roles = [{', '.join(map(_toml, roles))}]")
    if claims:
        values = [parsed_claim(each) for each in claims]
        block.append(f"claims = {{ {', '.join(f'{_toml(key)} = {_value(value)}' for key, value in values)} }}")
    before = path.read_text(encoding="utf-8").rstrip("\n") + "\n\n" if path.exists() else ""
    _write(path, before + "\n".join(block) + "\n")


def _write(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner only, when what comes out can be read."""
    from flight_server.service.auth import identities

    path.parent.mkdir(parents=True, exist_ok=True)
    # Made with mode 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        field = "passwords" if "[[user]]" in text else "tokens"
        identities.load(settings.Auth.model_validate({field: new}))
        new.replace(path)
    except DatasetError as error:
        raise ConfigError(f"{path} was left as it is: {error.message}") from error
    finally:
        new.unlink(missing_ok=True)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(value: Claim) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
