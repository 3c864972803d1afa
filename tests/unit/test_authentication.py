"""Credentials: static tokens, sessions and passwords, what is believed, and what garbage gets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.config import load
from flight_server.errors import ConfigError, Unauthenticated
from flight_server.model import ANONYMOUS, Caller
from flight_server.service.auth import identities
from flight_server.service.auth.identities import Identities
from flight_server.service.auth.tokens import Sessions, digest
from tests.fix_credentials import HASH, SECRET, TOKEN, TOKENS, USERS, basic, build, code
from tests.fix_identity import HASHER, PASSWORD


def test_without_authentication_everybody_is_anonymous() -> None:
    checked = build({})
    assert not checked.required
    assert checked.identify({"authorization": ["Bearer whatever"]}).caller is ANONYMOUS


def test_with_authentication_nobody_is(credential_files: dict[str, Path]) -> None:
    checked = build({"tokens": credential_files["tokens"]})
    assert checked.required
    assert code(checked) == "no-credential"
    assert code(checked, "Bearer anonymous") == "bad-credential"


def test_a_static_token_names_its_caller(credential_files: dict[str, Path]) -> None:
    caller = build(credential_files).identify({"Authorization": [f"bearer {TOKEN}"]}).caller
    assert caller is not None
    assert caller == Caller("app", frozenset({"pm"}), {"desk": "emea", "p": (1,)})


@pytest.mark.parametrize(
    "headers",
    [
        ["Bearer"],
        ["Bearer "],
        [TOKEN],
        [f"Token {TOKEN}"],
        [f"Bearer {TOKEN} x"],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
        [f"Bearer {digest(TOKEN)}"],
        ["Bearer " + "a" * 9000],
        ["Bearer a.b.c"],
        ["Bearer é"],
        ["Bearer afs1."],
        ["Bearer afs1.e30=.0"],
        ["Bearer aft1.e30=.0"],
        ["Basic"],
        ["Basic !!!"],
        ["Basic " + base64.b64encode(b"no colon").decode()],
        ["Basic " + base64.b64encode(b"\xff:\xff").decode()],
        ["Negotiate abc"],
        [""],
    ],
)
def test_anything_else_is_refused(credential_files: dict[str, Path], headers: list[str]) -> None:
    assert code(build(credential_files), *headers) == "bad-credential"


@given(st.text(max_size=200))
def test_no_header_does_more_than_be_refused(text: str) -> None:
    checked = build({"jwt_keys": "/nowhere", "jwt_issuer": "i", "jwt_audience": "a"})
    assert code(checked, text) in ("bad-credential", "no-credential")


def test_an_expired_token_says_so(credential_files: dict[str, Path]) -> None:
    credential_files["tokens"].write_text(TOKENS.replace("roles", "expires = 2020-01-01\nroles"))
    assert code(build(credential_files), f"Bearer {TOKEN}") == "expired-credential"
    credential_files["tokens"].write_text(TOKENS.replace("roles", "expires = 2999-01-01T00:00:00Z\nroles"))
    assert code(build(credential_files), f"Bearer {TOKEN}") == "ok"


@pytest.mark.parametrize("padded", [True, False])
def test_a_password_is_answered_with_a_token_that_is_believed(credential_files: dict[str, Path], padded: bool) -> None:
    checked = build(credential_files)
    identity = checked.identify({"authorization": [basic("erin", PASSWORD, padded)]})
    assert identity.caller is not None
    assert (identity.caller.name, identity.fresh) == ("erin", True)
    again = checked.identify({"authorization": [f"Bearer {identity.bearer}"]})
    assert again.caller == identity.caller
    assert not again.fresh


def test_a_colon_in_a_password_is_part_of_it(credential_files: dict[str, Path]) -> None:
    credential_files["passwords"].write_text(USERS.replace(HASH, HASHER.hash("a:b:c")))
    assert code(build(credential_files), basic("erin", "a:b:c")) == "ok"


def test_another_replica_with_the_same_secret_believes_it_and_one_with_another_does_not(
    credential_files: dict[str, Path],
) -> None:
    bearer = build(credential_files).identify({"authorization": [basic("erin", PASSWORD)]}).bearer
    assert code(build(credential_files), f"Bearer {bearer}") == "ok"
    assert code(build(credential_files, b"another"), f"Bearer {bearer}") == "bad-credential"


def test_a_session_ends_with_its_time_its_user_and_its_password() -> None:
    found = Identities(users={"erin": identities.Holder(ANONYMOUS, HASH)})
    sessions = Sessions(SECRET, 1000)
    token = sessions.issue("erin", HASH)
    assert sessions.caller(found, token) is ANONYMOUS
    with pytest.raises(Unauthenticated, match="expired-credential"):
        sessions.caller(found, Sessions(SECRET, -1).issue("erin", HASH))
    for other in (Identities(), Identities(users={"erin": identities.Holder(ANONYMOUS, HASHER.hash(PASSWORD))})):
        with pytest.raises(Unauthenticated, match="bad-credential"):
            sessions.caller(other, token)


def test_every_changed_byte_of_a_session_token_is_noticed() -> None:
    found = Identities(users={"erin": identities.Holder(ANONYMOUS, HASH)})
    sessions = Sessions(SECRET, 1000)
    token = sessions.issue("erin", HASH)
    for place in range(len("afs1."), len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(Unauthenticated, match="bad-credential"):
            sessions.caller(found, changed)


def test_a_session_token_holds_no_password_and_no_hash() -> None:
    token = Sessions(SECRET, 1000).issue("erin", HASH)
    text = token + base64.urlsafe_b64decode(token.split(".")[1]).decode()
    assert PASSWORD not in text
    assert HASH.split("$")[-1] not in text
    assert digest(HASH)[:32] not in text


def test_settings_that_do_not_go_together_are_refused(credential_files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"auth.passwords.*gate"):
        build(credential_files, tls={"client": "identity"})
    with pytest.raises(ConfigError, match=r"auth.certificates"):
        build({"certificates": credential_files["tokens"]})


def test_a_wrong_setting_does_not_show_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    for line in ("ticket_secert = 'planted-7f'", "ticket_secret = ['planted-7f']"):
        file.write_text(f"[server]\n{line}\n")
        with pytest.raises(ConfigError, match=r"server\.ticket_sec") as caught:
            load(file)
        assert "planted-7f" not in str(caught.value)
