"""Tokens of an issuer: which are believed, and how its keys are read and rotated."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from flight_server.config import Auth
from flight_server.errors import ConfigError, ServerError, Unauthenticated
from flight_server.service.auth import jwt as ours
from flight_server.service.auth.jwt import JwtVerifier
from tests.fix_identity import AUDIENCE, ISSUER, TOKEN_TTL_S, Issuer, unsigned


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def settings(issuer: Issuer, tmp_path: Path) -> Auth:
    (tmp_path / "jwks.json").write_text(json.dumps(issuer.jwks()))
    return Auth(jwt_keys=str(tmp_path / "jwks.json"), jwt_issuer=ISSUER, jwt_audience=AUDIENCE)


@pytest.fixture
def verifier(settings: Auth) -> JwtVerifier:
    return JwtVerifier(settings)


def code(verifier: JwtVerifier, token: str) -> str:
    try:
        verifier.caller(token)
    except Unauthenticated as error:
        return error.code
    return "ok"


def test_name_roles_and_claims_come_from_the_token(verifier: JwtVerifier, issuer: Issuer) -> None:
    caller = verifier.caller(issuer.token(level=3, ratio=0.5, staff=True, deep={"x": 1}, mixed=[1, None]))
    assert (caller.name, caller.roles) == ("jane", frozenset({"pm"}))
    named = {"portfolios", "level", "ratio", "staff", "deep", "mixed"}
    assert {k: v for k, v in caller.claims.items() if k in named} == {
        "portfolios": (4,),
        "level": 3,
        "ratio": 0.5,
        "staff": True,
    }


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_three_algorithms_are_accepted(verifier: JwtVerifier, issuer: Issuer, key: str, algorithm: str) -> None:
    assert code(verifier, issuer.token(key, algorithm)) == "ok"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ok"),
        ({"exp": 1_600_000_000}, "expired-credential"),
        ({"exp": None}, "bad-credential"),
        ({"exp": "soon"}, "bad-credential"),
        ({"nbf": 4_000_000_000}, "bad-credential"),
        ({"iat": 4_000_000_000}, "bad-credential"),
        ({"aud": "other"}, "bad-credential"),
        ({"aud": ["other", AUDIENCE]}, "ok"),
        ({"aud": None}, "bad-credential"),
        ({"aud": []}, "bad-credential"),
        ({"iss": ISSUER + "/"}, "bad-credential"),
        ({"iss": [ISSUER]}, "bad-credential"),
        ({"iss": None}, "bad-credential"),
        ({"sub": None}, "bad-credential"),
        ({"sub": ""}, "bad-credential"),
        ({"sub": "a\nb"}, "bad-credential"),
        ({"sub": "x" * 201}, "bad-credential"),
        ({"sub": "anonymous"}, "bad-credential"),
    ],
)
def test_claims_of_the_token_are_checked(
    verifier: JwtVerifier, issuer: Issuer, changes: dict[str, Any], expected: str
) -> None:
    assert code(verifier, issuer.token(**changes)) == expected


def test_clocks_may_differ_by_the_leeway_and_no_more(settings: Auth, issuer: Issuer) -> None:
    now = issuer.claims()["exp"] - TOKEN_TTL_S
    verifier = JwtVerifier(settings.model_copy(update={"jwt_leeway_s": 30.0}))
    assert code(verifier, issuer.token(exp=now - 20)) == "ok"
    assert code(verifier, issuer.token(exp=now - 40)) == "expired-credential"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "HS384", "HS512", "RS384", "PS256", "ES384", "", None]
)
def test_other_algorithms_are_refused_whatever_the_signature(
    verifier: JwtVerifier, issuer: Issuer, algorithm: str | None
) -> None:
    signature = issuer.token().rpartition(".")[2]
    for end in ("", signature):
        token = unsigned({"alg": algorithm, "kid": "rsa", "typ": "JWT"}, issuer.claims(), end)
        assert code(verifier, token) == "bad-credential"


def test_a_token_cannot_choose_another_kind_of_check_for_a_key(verifier: JwtVerifier, issuer: Issuer) -> None:
    wrong = [
        issuer.token("rsa", "RS256", kid="ec"),
        issuer.token("ec", "ES256", kid="rsa"),
        issuer.token("ed", "EdDSA", kid="ec"),
        issuer.token("rsa", "RS256", kid="nobody"),
        issuer.token("rsa", "RS256", kid=None),
        issuer.token("rsa", "RS256", kid="../../etc/passwd"),
        unsigned({"alg": "RS256", "kid": ["rsa"]}, issuer.claims(), "AAAA"),
        unsigned({"alg": "RS256", "kid": 1}, issuer.claims(), "AAAA"),
    ]
    assert {code(verifier, token) for token in wrong} == {"bad-credential"}


def test_keys_in_the_token_are_not_believed(verifier: JwtVerifier) -> None:
    mine = Issuer()
    for header in ({"jwk": mine.jwk("rsa")}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example"}):
        token = jwt.encode(mine.claims(), mine.keys["rsa"], "RS256", {"kid": "rsa", **header})
        assert code(verifier, token) == "bad-credential"


def test_another_signer_is_refused(verifier: JwtVerifier) -> None:
    assert code(verifier, Issuer().token()) == "bad-credential"


def test_short_keys_and_symmetric_keys_of_a_set_are_not_used(settings: Auth, issuer: Issuer, tmp_path: Path) -> None:
    short = Issuer({"rsa": rsa.generate_private_key(public_exponent=65537, key_size=1024)})
    listed = [*short.jwks()["keys"], {"kty": "oct", "kid": "secret", "k": "AAAA", "alg": "HS256"}, issuer.jwk("ec")]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": listed}))
    verifier = JwtVerifier(settings)
    with pytest.warns(match="below the minimum"):
        token = short.token()
    assert code(verifier, token) == "bad-credential"
    assert code(verifier, issuer.token("ec", "ES256")) == "ok"


def test_a_key_for_another_use_is_not_used(settings: Auth, issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [issuer.jwk("rsa") | {"use": "enc"}, issuer.jwk("ec")]}))
    assert code(JwtVerifier(settings), issuer.token()) == "bad-credential"


def test_two_keys_of_one_name_are_ambiguous(settings: Auth, issuer: Issuer, tmp_path: Path) -> None:
    other = Issuer()
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [issuer.jwk("rsa"), other.jwk("rsa")]}))
    assert code(JwtVerifier(settings), issuer.token()) == "bad-credential"


@given(
    st.text(max_size=300)
    | st.from_regex(r"[A-Za-z0-9_\-=]{0,60}\.[A-Za-z0-9_\-=]{0,60}\.[A-Za-z0-9_\-=]{0,60}", fullmatch=True)
)
def test_garbage_is_refused_and_nothing_else_is_raised(verifier: JwtVerifier, token: str) -> None:
    assert code(verifier, token) == "bad-credential"


def test_deep_json_is_refused(verifier: JwtVerifier) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 3000 + b"]" * 3000).decode().rstrip("=")
    assert code(verifier, f"{deep}.{deep}.AAAA") == "bad-credential"


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (["pm", "risk"], {"pm", "risk"}),
        ("pm risk", {"pm", "risk"}),
        (["*", "pm"], {"pm"}),
        ("*", set()),
        ([1, None, "pm"], {"pm"}),
        ({"pm": True}, set()),
        (None, set()),
    ],
)
def test_roles_are_words_and_never_the_star(
    verifier: JwtVerifier, issuer: Issuer, roles: Any, expected: set[str]
) -> None:
    assert verifier.caller(issuer.token(roles=roles)).roles == expected


def test_roles_can_lie_deeper(settings: Auth, issuer: Issuer) -> None:
    verifier = JwtVerifier(settings.model_copy(update={"jwt_roles_claim": "realm_access.roles"}))
    assert verifier.caller(issuer.token(realm_access={"roles": ["risk"]})).roles == {"risk"}
    flat: dict[str, Any] = {"realm_access.roles": ["pm"], "realm_access": "x"}
    assert verifier.caller(issuer.token(**flat)).roles == {"pm"}
    assert verifier.caller(issuer.token(realm_access=["roles"])).roles == frozenset()


@contextmanager
def served(answers: list[bytes | int]) -> Iterator[tuple[str, list[str]]]:
    """A JWKS endpoint that gives the last of `answers` again and again: a body, or a status."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = answers[0] if len(answers) == 1 else answers.pop(0)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"" if isinstance(answer, int) else answer)

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as endpoint:
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{endpoint.server_port}/jwks", asked
        endpoint.shutdown()


def jwks(*issuers: Issuer) -> bytes:
    return json.dumps({"keys": [each.jwk("rsa") | {"kid": f"key{n}"} for n, each in enumerate(issuers)]}).encode()


def test_keys_are_asked_for_once_and_again_when_a_new_one_is_named(
    settings: Auth, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Issuer()
    with served([jwks(issuer), jwks(issuer, new)]) as (url, asked):
        verifier = JwtVerifier(settings.model_copy(update={"jwt_keys": url}))
        assert [code(verifier, issuer.token(kid="key0")) for _ in range(5)] == ["ok"] * 5
        assert len(asked) == 1
        # Invented names do not make the server ask again and again.
        assert {code(verifier, new.token(kid=f"key{n}")) for n in range(1, 9)} == {"bad-credential"}
        assert len(asked) == 1
        monkeypatch.setattr(ours, "_REFETCH_S", 0.0)
        assert code(verifier, new.token(kid="key1")) == "ok"
        assert len(asked) == 2


def test_a_withdrawn_key_ends_with_the_time_to_live(
    settings: Auth, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "_REFETCH_S", 0.0)
    with served([jwks(issuer), jwks(Issuer())]) as (url, _):
        verifier = JwtVerifier(settings.model_copy(update={"jwt_keys": url, "jwt_keys_ttl_s": 1e-9}))
        assert [code(verifier, issuer.token(kid="key0")) for _ in range(2)] == ["ok", "bad-credential"]


@pytest.mark.parametrize(
    "broken", [500, 302, b"<html>", b"[]", b'{"keys": []}', b'{"keys": 1}', b"x" * ((1 << 20) + 1)]
)
def test_while_the_issuer_is_out_the_last_keys_hold(
    settings: Auth, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, broken: bytes | int
) -> None:
    monkeypatch.setattr(ours, "_REFETCH_S", 0.0)
    with served([jwks(issuer), broken]) as (url, asked):
        verifier = JwtVerifier(settings.model_copy(update={"jwt_keys": url, "jwt_keys_ttl_s": 1e-9}))
        assert [code(verifier, issuer.token(kid="key0")) for _ in range(3)] == ["ok"] * 3
        assert "/elsewhere" not in asked
        monkeypatch.setattr(ours, "_STALE_S", 0.0)
        with pytest.raises(ServerError, match="internal"):
            verifier.caller(issuer.token(kid="key0"))


def test_without_any_keys_nobody_is_believed(settings: Auth, issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").unlink()
    verifier = JwtVerifier(settings)
    with pytest.raises(ServerError) as caught:
        verifier.caller(issuer.token())
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jwt_issuer": None}, "go together"),
        ({"jwt_audience": None}, "go together"),
        ({"jwt_keys": None}, "go together"),
        ({"jwt_keys": "http://issuer.example/jwks"}, "use https"),
        ({"jwt_keys": "https://user:pw@issuer.example/jwks"}, "password"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: Auth, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        JwtVerifier(settings.model_copy(update=changes))
    assert "pw@" not in str(caught.value)


def test_only_the_algorithms_of_the_settings_are_accepted(settings: Auth, issuer: Issuer) -> None:
    verifier = JwtVerifier(settings.model_copy(update={"jwt_algorithms": ("ES256",)}))
    assert [code(verifier, t) for t in (issuer.token(), issuer.token("ec", "ES256"))] == ["bad-credential", "ok"]


def test_an_elliptic_key_of_another_curve_is_not_used(settings: Auth, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    listed = dict(jwt.get_algorithm_by_name("ES384").to_jwk(key.public_key(), as_dict=True)) | {"kid": "ec"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [listed]}))
    token = jwt.encode(Issuer().claims(), key, "ES384", {"kid": "ec"})
    assert code(JwtVerifier(settings), token) == "bad-credential"
