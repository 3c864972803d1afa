"""Files of callers: when they are read again, and what is said of wrong ones."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flight_server.errors import DatasetError
from flight_server.service.auth import authentication
from flight_server.service.auth.tokens import digest, new_token
from tests.fix_credentials import HASH, TOKEN, TOKENS, USERS, basic, build, code
from tests.fix_identity import PASSWORD


def test_changed_files_are_read_again_and_wrong_ones_are_not_taken(
    credential_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_LOOK_S", 0.0)
    checked, other = build(credential_files), new_token()
    credential_files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(other)))
    os.utime(credential_files["tokens"], ns=(1, 1))
    assert [code(checked, f"Bearer {each}") for each in (TOKEN, other)] == ["bad-credential", "ok"]
    credential_files["tokens"].write_text("[[token]]\nname = ")
    os.utime(credential_files["tokens"], ns=(2, 2))
    assert code(checked, f"Bearer {other}") == "ok"
    credential_files["tokens"].unlink()
    assert code(checked, f"Bearer {other}") == "ok"
    credential_files["tokens"].write_text(TOKENS)
    os.utime(credential_files["tokens"], ns=(3, 3))
    assert code(checked, f"Bearer {TOKEN}") == "ok"


def test_a_file_that_is_being_written_is_left_a_moment_and_not_for_ever(credential_files: dict[str, Path]) -> None:
    checked = build(credential_files)
    for text in ("", TOKENS):
        # Emptied, and then written again: nobody is refused in between.
        credential_files["tokens"].write_text(text)
        checked._looked_at -= authentication._LOOK_S
        assert code(checked, f"Bearer {TOKEN}") == "ok"
    # Written at every look, and a withdrawn token still ends.
    answers = []
    for _ in range(2):
        credential_files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
        checked._looked_at -= authentication._LOOK_S
        answers.append(code(checked, f"Bearer {TOKEN}"))
    assert answers[-1] == "bad-credential"


def test_after_a_pause_nobody_is_let_in_beside_the_call_that_reads_the_files(credential_files: dict[str, Path]) -> None:
    checked = build(credential_files)
    credential_files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
    os.utime(credential_files["tokens"], ns=(1, 1))
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


def test_a_look_that_began_before_a_reload_does_not_undo_it(credential_files: dict[str, Path]) -> None:
    checked = build(credential_files)
    with checked.reading() as take:
        credential_files["tokens"].write_text(TOKENS.replace(digest(TOKEN), digest(new_token())))
        os.utime(credential_files["tokens"], ns=(1, 1))
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
        ("tokens", TOKENS.replace("sha256", "sha265"), "did you mean 'sha256'?"),
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
        ("passwords", USERS.replace("argon2 =", "argon ="), "did you mean 'argon2'?"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_without_its_secrets(
    credential_files: dict[str, Path], kind: str, text: str, message: str
) -> None:
    credential_files[kind].write_text(text)
    with pytest.raises(DatasetError) as caught:
        build(credential_files)
    said = str(caught.value)
    assert message in said
    assert str(credential_files[kind]) in said
    assert not any(secret in said for secret in (TOKEN, digest(TOKEN), PASSWORD, HASH))


def test_callers_are_found_by_name(credential_files: dict[str, Path]) -> None:
    found = build(credential_files).identities
    assert found.names == ["app", "erin"]
    app = found.named("app")
    assert app is not None
    assert app.roles == {"pm"}
    assert found.named("nobody") is None


def test_no_repr_shows_a_hash_or_a_token(credential_files: dict[str, Path]) -> None:
    checked = build(credential_files)
    identity = checked.identify({"authorization": [basic("erin", PASSWORD)]})
    text = repr(checked.identities) + repr(identity)
    assert HASH not in text
    assert identity.bearer not in text
