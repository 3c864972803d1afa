"""Planted secrets are in nothing that a server in this process says; values of claims are in its audit log alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from prometheus_client import generate_latest

from flight_server import telemetry
from flight_server.service.auth.tokens import digest
from tests.fix_identity import HASHER, Client, Lake


def test_planted_secrets_occur_nowhere(policed: Lake, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    token, password, secret, claim = ("planted-token-1f", "planted-password-2e", "planted-secret-3d" * 2, 987654321)
    hash_ = HASHER.hash(password)
    (folder / "t.toml").write_text(
        f'[[token]]\nname = "t"\nsha256 = "{digest(token)}"\nclaims = {{ portfolios = [{claim}] }}'
    )
    (folder / "p.toml").write_text(f'[[user]]\nname = "u"\nargon2 = "{hash_}"\n')
    auth = {"tokens": folder / "t.toml", "passwords": folder / "p.toml"}
    file = tmp_path / "audit.log"
    said: list[str] = []
    telemetry.configure("json", "debug")
    try:
        with policed.serve(auth=auth, server={"ticket_secret": secret}, audit={"file": str(file)}) as running:
            config = running.config
            said += [
                repr(config),
                str(config),
                config.model_dump_json(),
                repr(running),
                repr(running.flight.authentication),
            ]
            with flight.connect(f"grpc://localhost:{running.port}") as client:
                session = client.authenticate_basic_token("u", password)[1].decode()
                for credential in (token, session, f"{token}x", f"Basic {password}", f"{session}x", token.upper()):
                    mine = Client(client, credential)
                    for call in (
                        mine.ports,
                        mine.listed,
                        lambda m=mine: m.info("nav"),
                        lambda m=mine: m.info("nav?x=1"),
                    ):
                        try:
                            said.append(str(call()))
                        except (flight.FlightError, pa.ArrowException) as error:
                            said.append(str(error))
                said.append(json.dumps(Client(client, token).action("describe", {"dataset": "nav"})))
                said.append(str(Client(client, token).info("nav").serialize()))
            (folder / "t.toml").write_text(f'[[token]]\nname = "t"\nsha256 = "{token}"')
            said += [str(error) for error in running.reload()]
            said.append(generate_latest().decode())
    finally:
        # To where it wrote before, not to what is captured here.
        with capfd.disabled():
            telemetry.configure("console", "warning")
    said += [file.read_text(), *capfd.readouterr()]
    text = "\n".join(said)
    assert "bad-credential" in text
    assert "rpc" in text
    for planted in (token, password, secret, hash_, digest(token), session.removeprefix("Bearer ")):
        assert planted not in text, planted
    # Who sees which rows is what the audit log is for, and it alone has the values of claims.
    assert f"nav.port_id IN ({claim})" in file.read_text()
    assert str(claim) not in "\n".join(said[:-3] + said[-2:])
