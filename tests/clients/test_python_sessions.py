"""Users with a password over a long time: sessions end, and servers start anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

import flight_client
from flight_client import Unauthenticated
from flight_client._credential import Credential
from flight_server import server
from flight_server.service.auth import tokens
from flight_server.telemetry import metrics
from tests.fix_identity import PASSWORD, Lake
from tests.waiting import until

THREADS = 8


@pytest.fixture
def logins(policed_server: server.Server) -> Callable[[], float]:
    """How many logins the server has answered since the test began."""

    def count() -> float:
        return metrics.CALLS.labels("Handshake", "", "ok")._value.get()

    before = count()
    return lambda: count() - before


@pytest.fixture
def erin(policed_server: server.Server) -> Iterator[flight_client.Connection]:
    url = f"grpc://localhost:{policed_server.port}"
    with flight_client.connect(url, user="erin", password=PASSWORD) as db:
        yield db


def test_one_login_serves_all_threads_whose_session_has_ended(
    logins: Callable[[], float], erin: flight_client.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = erin.nav()
    assert query.arrow().num_rows == 2
    for passed_s in (7200, 14400):
        # The server's clock: no session of before is good any more, and those made from now on are.
        monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda s=passed_s: time.time() + s))
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda _: query.arrow().num_rows, range(THREADS)))
        assert found == [2] * THREADS
    # The first one, and one for each end.
    until(lambda: logins() >= 3)
    assert logins() == 3


def test_a_server_that_starts_anew_is_logged_in_to_again(policed: Lake) -> None:
    anywhere = {"http_port": 0, "health_port": 0}
    # Each start has a secret of its own, and so forgets all sessions.
    with policed.serve(server={**anywhere, "ticket_secret": SecretStr("a" * 32)}) as first:
        port = first.port
        db = flight_client.connect(f"grpc://localhost:{port}", user="erin", password=PASSWORD)
        query = db.nav()
        assert query.arrow().num_rows == 2
    with policed.serve(server={**anywhere, "ticket_secret": SecretStr("b" * 32), "port": port}):
        assert query.arrow().num_rows == 2
    db.close()


def test_a_login_that_is_refused_is_told_and_tried_again_by_the_next_call() -> None:
    # Once at the start; then the password has been changed, and changed back.
    answers = iter(["first", Unauthenticated("bad-credential", "no"), "second"])

    def log_in() -> list[tuple[bytes, bytes]]:
        if isinstance(found := next(answers), Exception):
            raise found
        return [(b"authorization", found.encode())]

    credential = Credential(None, log_in)
    used = credential.headers
    with pytest.raises(Unauthenticated):
        credential.renewed(used, "bad-credential")
    assert credential.headers is used
    assert credential.renewed(used, "expired-credential")
    assert credential.headers == [(b"authorization", b"second")]
    # Somebody else who used the first one is late: there is another already.
    assert credential.renewed(used, "expired-credential")
    assert next(answers, None) is None
    assert not credential.renewed(credential.headers, "not-allowed")
    assert not Credential("static", None).renewed([], "expired-credential")
