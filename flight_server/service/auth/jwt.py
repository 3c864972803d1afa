"""JSON Web Tokens of an identity provider (RFC 7519), checked with its public keys (JWKS, RFC 7517) by PyJWT.

The algorithm is the key's, never the token's choice: a token can only name a key of the set. Keys are read again after
`jwt_keys_ttl_s`, and at once (but not often) when a token names one that is not known, which is how keys are rotated.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from flight_server.config import Auth, without_secrets
from flight_server.errors import ConfigError, ServerError
from flight_server.model import ANONYMOUS, Caller
from flight_server.service.auth.identities import claims_of
from flight_server.service.auth.tokens import expired, refused
from flight_server.telemetry import log, metrics

_KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
# A key set has some kB; an issuer that sends more is none.
_JWKS_BYTES_MAX = 1 << 20
# Where nobody on the way can put other keys into an answer over http.
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class JwtVerifier:
    """Checks JWTs as the settings say. Raises ConfigError for settings that do not go together."""

    def __init__(self, settings: Auth) -> None:
        if not (settings.jwt_keys and settings.jwt_issuer and settings.jwt_audience):
            raise ConfigError("settings 'auth.jwt_keys', 'auth.jwt_issuer' and 'auth.jwt_audience' go together")
        self._settings = settings
        self._keys = Keys(settings.jwt_keys, settings)

    def read_keys(self) -> None:
        """Read the keys now. Where that fails it is logged, and the next call tries again."""
        self._keys.refresh(wait=False)

    def caller(self, token: str) -> Caller:
        """The caller of a token.

        Raises Unauthenticated (bad-credential, expired-credential), ServerError when there are no keys to check with.
        """
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            name, algorithm = header.get("kid"), header.get("alg")
            if algorithm not in settings.jwt_algorithms:
                raise refused("algorithm not accepted")
            key = self._keys.find(name, algorithm)
            if key is None:
                raise refused("no such key")
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
                leeway=settings.jwt_leeway_s,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except ExpiredSignatureError:
            raise expired() from None
        except (PyJWTError, ValueError, RecursionError) as error:
            raise refused(type(error).__name__) from None
        return _caller(claims, settings)


class Keys:
    """The public keys of an issuer, by name. `source` is a file or an https:// URL."""

    def __init__(self, source: str, settings: Auth) -> None:
        self._source = source
        self._settings = settings
        self._lock = threading.Lock()
        self._keys: list[jwt.PyJWK] = []
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        _check_source(source)

    def find(self, name: object, algorithm: str) -> jwt.PyJWK | None:
        """The key of that name for that algorithm; a token that names none can mean a set's only key.

        Raises ServerError while no keys can be read.
        """
        age = time.monotonic() - self._read_at
        stale_s = self._settings.jwt_stale_s
        if age > self._settings.jwt_keys_ttl_s:
            # Whoever comes while keys are being read again goes on with the old ones, when there are any.
            self.refresh(wait=age > stale_s)
        if time.monotonic() - self._read_at > stale_s:
            raise ServerError("internal", "the keys of the token issuer cannot be read; the server's log says why")
        found = self._match(name, algorithm)
        if found is None:
            self.refresh(wait=True)
            found = self._match(name, algorithm)
        return found

    def _match(self, name: object, algorithm: str) -> jwt.PyJWK | None:
        keys = self._keys
        named = keys if name is None and len(keys) == 1 else [key for key in keys if key.key_id == name]
        fitting = [key for key in named if _fits(key, algorithm)]
        return fitting[0] if len(fitting) == 1 and name != "" else None

    def refresh(self, *, wait: bool) -> None:
        """Read the keys again, unless that was tried a moment ago; without `wait` also unless somebody is at it."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            if time.monotonic() - self._tried_at < self._settings.jwt_refetch_s:
                return
            self._tried_at = time.monotonic()
            self._keys = _parse(_read(self._source, self._settings.jwt_fetch_s))
            self._read_at = time.monotonic()
            metrics.FILES_WRONG.labels("keys").set(0)
        except (OSError, ValueError, PyJWTError) as error:
            metrics.FILES_WRONG.labels("keys").set(1)
            log.error(
                "jwt_keys_unreadable", source=without_secrets(self._source), error=f"{type(error).__name__}: {error}"
            )
        finally:
            self._lock.release()


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    data = key._jwk_data  # what PyJWT derives from it has a default algorithm where the set says none
    if data.get("kty") != _KEY_TYPES[algorithm] or data.get("use", "sig") != "sig":
        return False
    return bool(data.get("alg", algorithm) == algorithm and key.algorithm_name == algorithm)


def _check_source(source: str) -> None:
    url = urlsplit(source)
    if url.scheme in ("http", "https") and (url.username or url.password):
        raise ConfigError("setting 'auth.jwt_keys': a URL with a password in it would be logged; keys are public")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ConfigError("setting 'auth.jwt_keys': keys over http could be anybody's; use https://")


def _read(source: str, fetch_s: float) -> bytes:
    if urlsplit(source).scheme not in ("http", "https"):
        return Path(source).read_bytes()
    # Redirects are not followed: they could lead away from https.
    with urllib.request.build_opener(_NoRedirects).open(source, timeout=fetch_s) as answer:
        found: bytes = answer.read(_JWKS_BYTES_MAX + 1)
    if len(found) > _JWKS_BYTES_MAX:
        raise ValueError("the key set is too long")
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _parse(text: bytes) -> list[jwt.PyJWK]:
    found = json.loads(text)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a JWKS: there is no list 'keys'")
    # Sets may hold keys for other uses; symmetric ones must never check anything here.
    public = [each for each in listed if isinstance(each, dict) and each.get("kty") in _KEY_TYPES.values()]
    return jwt.PyJWKSet.from_dict({"keys": public}).keys


def _caller(claims: Mapping[str, Any], settings: Auth) -> Caller:
    name = claims.get(settings.jwt_name_claim)
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable() or name == ANONYMOUS.name:
        raise refused("no usable name")
    roles = _at(claims, settings.jwt_roles_claim)
    listed = roles if isinstance(roles, list) else roles.split() if isinstance(roles, str) else []
    # '*' is no role that anybody can be given: it stands for "no authentication".
    return Caller(name, frozenset(r for r in listed if isinstance(r, str) and r != "*"), claims_of(claims))


def _at(claims: Mapping[str, Any], path: str) -> object:
    """The claim `path`; where there is none of that name, dots lead into objects (`realm_access.roles`)."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
