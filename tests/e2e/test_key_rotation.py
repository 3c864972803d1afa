"""Keys of the token issuer change while the server runs, read from a file and from a URL."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.flight as flight
import pytest

from tests.fix_identity import Client, Issuer, Lake, code_of
from tests.unit.test_jwt import jwks, served


@pytest.mark.parametrize("source", ["file", "URL"])
def test_new_keys_are_taken_at_once_and_withdrawn_ones_end(policed: Lake, tmp_path: Path, source: str) -> None:
    old, new = Issuer(), Issuer()
    first, both, last = jwks(old), jwks(old, new), json.dumps({"keys": [new.jwk("rsa") | {"kid": "key1"}]}).encode()
    answers: list[bytes | int] = [first]
    file = tmp_path / "jwks.json"

    def publish(keys: bytes) -> None:
        file.write_bytes(keys)
        answers[:] = [keys]

    publish(first)
    with served(answers) as (url, _):
        keys = {"jwt_keys": url if source == "URL" else str(file), "jwt_keys_ttl_s": 0.2, "jwt_refetch_s": 0.0}
        with policed.serve(auth=keys) as running, flight.connect(f"grpc://localhost:{running.port}") as client:

            def said(issuer: Issuer, kid: str) -> str:
                return code_of(Client(client, issuer.token(kid=kid)).ports)

            assert [said(old, "key0"), said(new, "key1"), said(new, "key0")] == [
                "ok",
                "bad-credential",
                "bad-credential",
            ]
            publish(both)
            assert [said(old, "key0"), said(new, "key1"), said(old, "key1")] == ["ok", "ok", "bad-credential"]
            publish(last)
            # Within the time to live; then nobody has it any more.
            while said(old, "key0") == "ok":
                pass
            assert [said(old, "key0"), said(new, "key1")] == ["bad-credential", "ok"]
            # The issuer is gone: what was read last stays in force.
            publish(b"<html>")
            assert [said(new, "key1"), said(old, "key0")] == ["ok", "bad-credential"]
