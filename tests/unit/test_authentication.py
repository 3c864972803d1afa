"""Static tokens, sessions and passwords: the files, what is believed, and how much work garbage makes."""

from __future__ import annotations

import base64
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.config import Config, load
from flight_server.errors import ConfigError, DatasetError, Error, Unauthenticated, Unavailable
from flight_server.model import ANONYMOUS, Caller
from flight_server.service.auth import Authentication, authentication, identities
from flight_server.service.auth import passwords as passwords_module
from flight_server.service.auth.identities import Identities
from flight_server.service.auth.passwords import Passwords
from flight_server.service.auth.tokens import Sessions, digest, new_token
from tests.fix_identity import HASHER, PASSWORD
from tests.waiting import until

SECRET = b"s" * 32
TOKEN = "af_" + "t" * 43
TOKENS = f'[[token]]\nname = "app"\nsha256 = "{digest(TOKEN)}"\nroles = ["pm"]\nclaims = {{ desk = "emea", p = [1] }}\n'
HASH = HASHER.hash(PASSWORD)
USERS = f'[[user]]\nname = "erin"\nargon2 = "{HASH}"\nroles = ["pm"]\n'


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {"tokens": tmp_path / "tokens.toml", "passwords": tmp_path / "passwords.toml"}
    found["tokens"].write_text(TOKENS)
    found["passwords"].write_text(USERS)
    return found


def build(auth: dict[str, Any], secret: bytes = SECRET, **sections: Any) -> Authentication:
    return Authentication(Config(auth=auth, **sections), secret)


def basic(name: str, password: str, padded: bool = True) -> str:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return "Basic " + (text if padded else text.rstrip("="))


def code(checked: Authentication, *headers: str, name: str = "authorization") -> str:
    try:
        checked.identify({name: list(headers)} if headers else {})
    except Error as error:
        return error.code
    return "ok"


def test_without_authentication_everybody_is_anonymous() -> None:
    checked = build({})
    assert not checked.required
    assert checked.identify({"authorization": ["Bearer whatever"]}).caller is ANONYMOUS


def test_with_authentication_nobody_is(files: dict[str, Path]) -> None:
    checked = build({"tokens": files["tokens"]})
    assert checked.required
    assert code(checked) == "no-credential"
    assert code(checked, "Bearer anonymous") == "bad-credential"


def test_a_static_token_names_its_caller(files: dict[str, Path]) -> None:
    caller = build(files).identify({"Authorization": [f"bearer {TOKEN}"]}).caller
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
def test_anything_else_is_refused(files: dict[str, Path], headers: list[str]) -> None:
    assert code(build(files), *headers) == "bad-credential"


@given(st.text(max_size=200))
def test_no_header_does_more_than_be_refused(text: str) -> None:
    checked = build({"jwt_keys": "/nowhere", "jwt_issuer": "i", "jwt_audience": "a"})
    assert code(checked, text) in ("bad-credential", "no-credential")


def test_an_expired_token_says_so(files: dict[str, Path]) -> None:
    files["tokens"].write_text(TOKENS.replace("roles", "expires = 2020-01-01\nroles"))
    assert code(build(files), f"Bearer {TOKEN}") == "expired-credential"
    files["tokens"].write_text(TOKENS.replace("roles", "expires = 2999-01-01T00:00:00Z\nroles"))
    assert code(build(files), f"Bearer {TOKEN}") == "ok"


@pytest.mark.parametrize("padded", [True, False])
def test_a_password_is_answered_with_a_token_that_is_believed(files: dict[str, Path], padded: bool) -> None:
    checked = build(files)
    identity = checked.identify({"authorization": [basic("erin", PASSWORD, padded)]})
    assert identity.caller is not None
    assert (identity.caller.name, identity.fresh) == ("erin", True)
    again = checked.identify({"authorization": [f"Bearer {identity.bearer}"]})
    assert again.caller == identity.caller
    assert not again.fresh


def test_a_colon_in_a_password_is_part_of_it(files: dict[str, Path]) -> None:
    files["passwords"].write_text(USERS.replace(HASH, HASHER.hash("a:b:c")))
    assert code(build(files), basic("erin", "a:b:c")) == "ok"


def test_another_replica_with_the_same_secret_believes_it_and_one_with_another_does_not(
    files: dict[str, Path],
) -> None:
    bearer = build(files).identify({"authorization": [basic("erin", PASSWORD)]}).bearer
    assert code(build(files), f"Bearer {bearer}") == "ok"
    assert code(build(files, b"another"), f"Bearer {bearer}") == "bad-credential"


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


def test_wrong_user_and_wrong_password_are_told_apart_by_nothing(files: dict[str, Path]) -> None:
    checked = build(files)
    texts = []
    for header in (basic("erin", "wrong"), basic("nobody", "wrong"), basic("nobody", PASSWORD)):
        with pytest.raises(Unauthenticated) as caught:
            checked.identify({"authorization": [header]})
        texts.append(str(caught.value))
    assert len(set(texts)) == 1


def test_an_unknown_user_costs_a_check_too() -> None:
    found = Identities(users={"erin": identities.Holder(ANONYMOUS, HASHER.hash(PASSWORD))})
    passwords = Passwords(1, 1000)
    decoy = passwords._decoy(found)
    assert decoy.rpartition("$")[0].rpartition("$")[0] == HASH.rpartition("$")[0].rpartition("$")[0]


def test_many_wrong_passwords_for_one_user_end_in_busy_without_a_check(files: dict[str, Path]) -> None:
    checked = build({**files, "password_failures_max": 3})
    assert [code(checked, basic("erin", "wrong")) for _ in range(5)] == ["bad-credential"] * 3 + ["busy"] * 2
    assert code(checked, basic("erin", PASSWORD)) == "busy"
    assert code(checked, basic("other", "wrong")) == "bad-credential"


def test_passwords_are_checked_no_more_than_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = [0], [0]
    lock, two = threading.Lock(), threading.Barrier(2, timeout=30)

    class Slow:
        def verify(self, *_: str) -> bool:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            # None is done before another is under way, and each goes on for a moment in which a third could come.
            two.wait()
            time.sleep(0.02)
            with lock:
                running[0] -= 1
            return True

    monkeypatch.setattr(passwords_module, "PasswordHasher", Slow)
    names = [f"erin{number}" for number in range(12)]
    found = Identities(users={name: identities.Holder(ANONYMOUS, HASH) for name in names})
    passwords = Passwords(2, 1000)
    threads = [threading.Thread(target=passwords.check, args=(found, name, "x")) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most[0] == 2
    monkeypatch.setattr(passwords_module, "_WAIT_S", 0.0)
    taken = Passwords(1, 1000)
    taken._turns.take("somebody else")
    with pytest.raises(Unavailable, match="busy"):
        taken.check(found, "erin0", "x")


def test_guesses_at_once_are_no_more_than_guesses_one_after_the_other(files: dict[str, Path]) -> None:
    checked = build({**files, "password_failures_max": 3})
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda guess: said.append(code(checked, basic("erin", guess))), args=(f"guess {n}",))
        for n in range(20)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(said) == ["bad-credential"] * 3 + ["busy"] * 17


def test_those_who_wait_for_a_check_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "_QUEUE_MAX", 2)
    monkeypatch.setattr(passwords_module, "_WAIT_S", 20.0)
    passwords, found = Passwords(1, 1000), Identities()
    done = passwords._turns.take("somebody else")
    refused: list[str] = []

    def wait(name: str) -> None:
        with pytest.raises(Unauthenticated):
            passwords.check(found, name, "x")
        refused.append(name)

    threads = [threading.Thread(target=wait, args=(name,)) for name in ("one", "two")]
    for each in threads:
        each.start()
    until(lambda: passwords._turns.queued == 2)
    with pytest.raises(Unavailable, match="busy"):
        passwords.check(found, "three", "x")
    done()
    for each in threads:
        each.join()
    assert sorted(refused) == ["one", "two"]


def test_an_endless_password_is_refused_without_a_check(files: dict[str, Path]) -> None:
    checked = build({**files, "password_failures_max": 1})
    assert code(checked, basic("erin", "x" * 2000)) == "bad-credential"
    assert code(checked, basic("erin", PASSWORD)) == "ok"


def test_changed_files_are_read_again_and_wrong_ones_are_not_taken(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_LOOK_S", 0.0)
    checked, other = build(files), new_token()
    files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(other)))
    os.utime(files["tokens"], ns=(1, 1))
    assert [code(checked, f"Bearer {each}") for each in (TOKEN, other)] == ["bad-credential", "ok"]
    files["tokens"].write_text("[[token]]\nname = ")
    os.utime(files["tokens"], ns=(2, 2))
    assert code(checked, f"Bearer {other}") == "ok"
    files["tokens"].unlink()
    assert code(checked, f"Bearer {other}") == "ok"
    files["tokens"].write_text(TOKENS)
    os.utime(files["tokens"], ns=(3, 3))
    assert code(checked, f"Bearer {TOKEN}") == "ok"


def test_a_file_that_is_being_written_is_left_a_moment_and_not_for_ever(files: dict[str, Path]) -> None:
    checked = build(files)
    for text in ("", TOKENS):
        # Emptied, and then written again: nobody is refused in between.
        files["tokens"].write_text(text)
        checked._looked_at -= authentication._LOOK_S
        assert code(checked, f"Bearer {TOKEN}") == "ok"
    # Written at every look, and a withdrawn token still ends.
    answers = []
    for _ in range(2):
        files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
        checked._looked_at -= authentication._LOOK_S
        answers.append(code(checked, f"Bearer {TOKEN}"))
    assert answers[-1] == "bad-credential"


def test_after_a_pause_nobody_is_let_in_beside_the_call_that_reads_the_files(files: dict[str, Path]) -> None:
    checked = build(files)
    files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
    os.utime(files["tokens"], ns=(1, 1))
    checked._looked_at -= 3600
    answers: list[str] = []
    late = threading.Thread(target=lambda: answers.append(code(checked, f"Bearer {TOKEN}")))
    with checked._looking:
        # As the call that came first does, which is not done yet.
        late.start()
        late.join(0.3)
        assert answers == []
        checked._read_changed()
    late.join()
    assert answers == ["bad-credential"]


def test_a_look_that_began_before_a_reload_does_not_undo_it(files: dict[str, Path]) -> None:
    checked = build(files)
    with checked.reading() as take:
        files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
        os.utime(files["tokens"], ns=(1, 1))
        # A look waits for the end of the reload, and then sees that the files are newer than what it read.
        checked._looked_at -= 3600
        late = threading.Thread(target=checked._look)
        late.start()
        take()
    late.join()
    checked._looked_at -= 3600
    assert code(checked, f"Bearer {TOKEN}") == "bad-credential"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("tokens", TOKENS + TOKENS, "twice"),
        ("tokens", TOKENS.replace("sha256", "sha265"), "sha256"),
        ("tokens", f'[[token]]\nname = "a"\nsha256 = "{TOKEN}"', "64 hex digits"),
        ("tokens", TOKENS.replace('["pm"]', '["*"]'), "'*' is none"),
        ("tokens", TOKENS.replace('"app"', '"anonymous"'), "cannot be a caller's name"),
        ("tokens", TOKENS.replace('"app"', '"a\\nb"'), "cannot be a caller's name"),
        ("tokens", TOKENS.replace('"app"', '""'), "cannot be a caller's name"),
        ("tokens", TOKENS.replace("[1]", "[[1]]"), "the claim 'p' must be"),
        ("tokens", TOKENS.replace("[1]", "1979-05-27"), "the claim 'p' must be"),
        ("tokens", TOKENS.replace("roles", 'expires = "never"\nroles'), "'expires' must be"),
        ("tokens", TOKENS.replace("[[token]]", "[[tokens]]"), "did you mean 'token'?"),
        ("tokens", f'token = "{TOKEN}"', "write each token as a table"),
        ("tokens", f"[[token]]\nname = {TOKEN}", "not TOML"),
        ("passwords", USERS + USERS, "twice"),
        ("passwords", USERS.replace(HASH, PASSWORD), "argon2id"),
        ("passwords", USERS.replace("argon2id", "argon2d"), "argon2id"),
        ("passwords", USERS.replace("argon2 =", "password ="), "argon2"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_without_its_secrets(
    files: dict[str, Path], kind: str, text: str, message: str
) -> None:
    files[kind].write_text(text)
    with pytest.raises(DatasetError) as caught:
        build(files)
    said = str(caught.value)
    assert message in said
    assert str(files[kind]) in said
    assert not any(secret in said for secret in (TOKEN, digest(TOKEN), PASSWORD, HASH))


def test_settings_that_do_not_go_together_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"auth.passwords.*gate"):
        build(files, tls={"client": "identity"})
    with pytest.raises(ConfigError, match=r"auth.certificates"):
        build({"certificates": files["tokens"]})


def test_callers_are_found_by_name(files: dict[str, Path]) -> None:
    found = build(files).identities
    assert found.names == ["app", "erin"]
    app = found.named("app")
    assert app is not None
    assert app.roles == {"pm"}
    assert found.named("nobody") is None


def test_no_repr_shows_a_hash_or_a_token(files: dict[str, Path]) -> None:
    checked = build(files)
    identity = checked.identify({"authorization": [basic("erin", PASSWORD)]})
    text = repr(checked.identities) + repr(identity)
    assert HASH not in text
    assert identity.bearer not in text


def test_a_wrong_setting_does_not_show_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    for line in ("ticket_secert = 'planted-7f'", "ticket_secret = ['planted-7f']"):
        file.write_text(f"[server]\n{line}\n")
        with pytest.raises(ConfigError, match=r"server\.ticket_sec") as caught:
            load(file)
        assert "planted-7f" not in str(caught.value)
