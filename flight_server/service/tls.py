"""TLS of the Flight port: what pyarrow is given. gRPC speaks TLS 1.2 and 1.3 and nothing older (tests/e2e/test_tls.py).

Certificates are read once: pyarrow has no way to change them in a running server. They are looked through before,
because of what gRPC does not like it says nothing but that the server did not start, and of what clients will not like,
nothing at all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from flight_server.config import Tls
from flight_server.errors import ConfigError


def options(settings: Tls) -> dict[str, Any]:
    """Arguments for FlightServerBase; none without TLS. Raises ConfigError for what does not fit or cannot be read."""
    check_pair(settings)
    check_clients(settings)
    if not enabled(settings):
        return {}
    found: dict[str, Any] = {"tls_certificates": [(_read("certificate", settings), _read("key", settings))]}
    if settings.client != "none":
        found |= {"verify_client": True, "root_certificates": _read("client_ca", settings)}
    return found


def check_pair(settings: Tls) -> None:
    """Raise ConfigError for what is wrong with the server's own certificate and its key."""
    if enabled(settings):
        _check_pair(settings, _read("certificate", settings), _read("key", settings))


def check_clients(settings: Tls) -> None:
    """Raise ConfigError for what is wrong with how clients show certificates."""
    if not enabled(settings):
        if settings.client != "none" or settings.client_ca:
            raise ConfigError("setting 'tls.client': client certificates need TLS; set tls.certificate and tls.key")
    elif settings.client != "none":
        _check_authorities(settings, _read("client_ca", settings))
    elif settings.client_ca:
        raise ConfigError('setting \'tls.client_ca\': has no effect without tls.client = "gate" or "identity"')


def enabled(settings: Tls) -> bool:
    return settings.certificate is not None or settings.key is not None


def _read(name: str, settings: Tls) -> bytes:
    path: Path | None = getattr(settings, name)
    if path is None:
        raise ConfigError(f"setting 'tls.{name}': is needed too")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"setting 'tls.{name}': cannot read {str(path)!r}: {error.strerror}") from error
    if b"-----BEGIN " not in text:
        raise ConfigError(f"setting 'tls.{name}': {str(path)!r} is no PEM file")
    return text


def _check_pair(settings: Tls, chain: bytes, key: bytes) -> None:
    certificates = _certificates("certificate", settings, chain)
    public, shown = _public_key(settings, key), repr(str(settings.key))
    if certificates[0].public_key() != public:
        if any(each.public_key() == public for each in certificates):
            raise ConfigError(
                f"setting 'tls.certificate': {str(settings.certificate)!r} must begin with the server's own certificate"
            )
        raise ConfigError(
            f"setting 'tls.key': {shown} is not the key of the certificate in {str(settings.certificate)!r}; "
            "give the two that were made together"
        )
    _check_time("certificate", settings, certificates[:1], "clients refuse it")


def _check_authorities(settings: Tls, text: bytes) -> None:
    _check_time("client_ca", settings, _certificates("client_ca", settings, text), "no client certificate is good")


def _certificates(name: str, settings: Tls, text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        # The parser's message is about bytes of the file; it may be the key's that is there instead.
        path = str(getattr(settings, name))
        raise ConfigError(f"setting 'tls.{name}': {path!r} holds no certificate that can be read") from error


def _public_key(settings: Tls, key: bytes) -> Any:
    shown = repr(str(settings.key))
    try:
        return load_pem_private_key(key, None).public_key()
    except TypeError as error:
        raise ConfigError(
            f"setting 'tls.key': {shown} has a passphrase, and nobody is there to type it; write it without one: "
            "openssl pkey -in OLD -out NEW"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"setting 'tls.key': {shown} holds no private key that can be read") from error


def _check_time(name: str, settings: Tls, certificates: list[x509.Certificate], outcome: str) -> None:
    """Raise ConfigError where none of the certificates is good now: with an old and a new authority, one is enough."""
    now, path = datetime.now(UTC), str(getattr(settings, name))
    if all(each.not_valid_after_utc < now for each in certificates):
        end = max(each.not_valid_after_utc for each in certificates)
        raise ConfigError(
            f"setting 'tls.{name}': {path!r} ended on {end:%Y-%m-%d %H:%M} UTC, and {outcome}; renew it (for trying "
            "out: `athena-flight tls dev-cert`)"
        )
    if all(each.not_valid_before_utc > now for each in certificates):
        begin = min(each.not_valid_before_utc for each in certificates)
        raise ConfigError(
            f"setting 'tls.{name}': {path!r} begins on {begin:%Y-%m-%d %H:%M} UTC, and before that {outcome}; look at "
            f"this machine's clock, which says {now:%Y-%m-%d %H:%M} UTC"
        )
