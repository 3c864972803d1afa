"""TLS of the Flight port: what pyarrow is given. gRPC speaks TLS 1.2 and 1.3 and nothing older (tests/e2e/test_tls.py).

Certificates are read once: pyarrow has no way to change them in a running server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flight_server.config import Tls
from flight_server.errors import ConfigError


def options(settings: Tls) -> dict[str, Any]:
    """Arguments for FlightServerBase; none without TLS. Raises ConfigError for what does not fit or cannot be read."""
    if not enabled(settings):
        if settings.client != "none" or settings.client_ca:
            raise ConfigError("setting 'tls.client': client certificates need TLS; set tls.certificate and tls.key")
        return {}
    found: dict[str, Any] = {"tls_certificates": [(_read("certificate", settings), _read("key", settings))]}
    if settings.client != "none":
        found |= {"verify_client": True, "root_certificates": _read("client_ca", settings)}
    elif settings.client_ca:
        raise ConfigError('setting \'tls.client_ca\': has no effect without tls.client = "gate" or "identity"')
    return found


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
