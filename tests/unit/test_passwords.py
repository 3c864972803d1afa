"""Passwords: nothing tells users apart, and guesses cost a bounded amount of work."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from flight_server.config import Auth
from flight_server.errors import Unauthenticated, Unavailable
from flight_server.model import ANONYMOUS
from flight_server.service.auth import identities
from flight_server.service.auth import passwords as passwords_module
from flight_server.service.auth.identities import Identities
from flight_server.service.auth.passwords import Passwords
from tests.fix_credentials import HASH, basic, build, code
from tests.fix_identity import HASHER, PASSWORD
from tests.waiting import until


def bounds(checks_max: int, **others: float) -> Auth:
    """Settings with a bound for checks, and none for failures that is met here; `queue_max`, `wait_s` as given."""
    waiting = {f"password_{name}": value for name, value in others.items()}
    return Auth(password_checks_max=checks_max, password_failures_max=1000, **waiting)  # type: ignore[arg-type]


def test_wrong_user_and_wrong_password_are_told_apart_by_nothing(credential_files: dict[str, Path]) -> None:
    checked = build(credential_files)
    texts = []
    for header in (basic("erin", "wrong"), basic("nobody", "wrong"), basic("nobody", PASSWORD)):
        with pytest.raises(Unauthenticated) as caught:
            checked.identify({"authorization": [header]})
        texts.append(str(caught.value))
    assert len(set(texts)) == 1


def test_an_unknown_user_costs_a_check_too() -> None:
    found = Identities(users={"erin": identities.Holder(ANONYMOUS, HASHER.hash(PASSWORD))})
    passwords = Passwords(bounds(1))
    decoy = passwords._decoy(found)
    assert decoy.rpartition("$")[0].rpartition("$")[0] == HASH.rpartition("$")[0].rpartition("$")[0]


def test_many_wrong_passwords_for_one_user_end_in_busy_without_a_check(credential_files: dict[str, Path]) -> None:
    checked = build({**credential_files, "password_failures_max": 3})
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
    passwords = Passwords(bounds(2))
    threads = [threading.Thread(target=passwords.check, args=(found, name, "x")) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most[0] == 2
    taken = Passwords(bounds(1, wait_s=0.0))
    taken._turns.take("somebody else")
    with pytest.raises(Unavailable, match="busy"):
        taken.check(found, "erin0", "x")


def test_guesses_at_once_are_no_more_than_guesses_one_after_the_other(credential_files: dict[str, Path]) -> None:
    checked = build({**credential_files, "password_failures_max": 3})
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


def test_those_who_wait_for_a_check_have_a_bound() -> None:
    passwords, found = Passwords(bounds(1, queue_max=2, wait_s=20.0)), Identities()
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


def test_an_endless_password_is_refused_without_a_check(credential_files: dict[str, Path]) -> None:
    checked = build({**credential_files, "password_failures_max": 1})
    assert code(checked, basic("erin", "x" * 2000)) == "bad-credential"
    assert code(checked, basic("erin", PASSWORD)) == "ok"
