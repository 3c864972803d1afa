"""`athena-flight tls dev-cert`: certificates for trying TLS out. For service, take those of your own authority."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flight_server.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

app = typer.Typer(no_args_is_help=True, help="Certificates for trying TLS out.")


@app.callback()
def _group() -> None:
    """Keeps the name of the one command in the command line."""


@app.command("dev-cert")
def dev_cert(
    directory: Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Where the files go.")] = Path(".tls"),
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Name or address of the server besides localhost; again for more."),
    ] = None,
    client: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a client certificate of this name too.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long they are good.")] = 30,
) -> None:
    """Make a certificate authority, whose key is not kept, and a server certificate for localhost signed by it.

    Example: athena-flight tls dev-cert --client alice
    """
    for each in host or ():
        _check_name(each, "--host")
    if client is not None:
        _check_name(client, "--client")
    made = make(("localhost", "127.0.0.1", "::1", *(host or ())), client, days)
    for name in made:
        if (directory / name).exists():
            raise ConfigError(f"{directory / name} exists; delete it, or say another --dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
            print(directory / name)
    except OSError as error:
        reason = f"{error.strerror}; say another --dir"
        raise ConfigError(f"cannot write certificates to {str(directory)!r}: {reason}") from error


def make(hosts: tuple[str, ...], client: str | None, days: int) -> dict[str, bytes]:
    """PEM files by name: ca.pem, server.pem, server.key, and client.pem, client.key for a `client`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("athena-flight dev CA", authority_key, None, authority_key, days, None, None)
    found = {"ca.pem": _pem(authority)}
    wanted = [("server", hosts[0], [_general_name(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH)]
    if client is not None:
        wanted.append(("client", client, [x509.DNSName(client)], ExtendedKeyUsageOID.CLIENT_AUTH))
    for file, name, names, usage in wanted:
        key = ec.generate_private_key(ec.SECP256R1())
        found[f"{file}.pem"] = _pem(_certificate(name, key, authority, authority_key, days, names, usage))
        found[f"{file}.key"] = _key_pem(key)
    return found


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    days: int,
    names: list[x509.GeneralName] | None,
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), critical=True
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _check_name(name: str, option: str) -> None:
    # A common name has 64 signs at most.
    if len(name) > 64 or not re.fullmatch(r"[\w.:*-]+", name, re.ASCII):
        raise typer.BadParameter(
            f"{name!r} cannot stand in a certificate: 1 to 64 letters, digits, '.', '-' or '_'; a host in another "
            "script in its form xn--…",
            param_hint=option,
        )


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
