"""The matrix behind client certificates: as a gate besides a credential, and as the identity itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pyarrow.flight as flight
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from flight_server.cli import tls as dev
from flight_server.server import Server
from tests.fix_identity import DATASETS, STATIC, Client, Lake, code_of
from tests.rpcs import IN_SQL, OTHERS, RPCS, Channel

Way = tuple[Client, Channel]
OPEN = {"nav", "public_names"}
# The server's mode, the certificate that is shown, the token that is sent; then what is let in.
LET_IN = {
    ("gate", "pricing", "alice"): OPEN,
    ("gate", "pricing", "carol"): set(DATASETS),
    ("identity", "pricing", ""): OPEN,
    ("identity", "auditor", ""): set(DATASETS),
    ("identity", "unlisted", ""): OPEN,
    ("identity", "unlisted", "carol"): set(DATASETS),
    ("identity", "auditor", "alice"): OPEN,
}
KEPT_OUT = {
    ("gate", "pricing", ""): "no-credential",
    ("gate", "pricing", "wrong"): "bad-credential",
    ("gate", "auditor", "late"): "expired-credential",
    ("identity", "pricing", "wrong"): "bad-credential",
    ("identity", "auditor", "late"): "expired-credential",
}
# These do not come as far as a credential: the connection is refused.
NO_CONNECTION = [
    (mode, shown, token) for mode in ("gate", "identity") for shown in ("", "stranger") for token in ("", "carol")
]
# With certificates as the identity pyarrow serves no Handshake (docs/security.md).
NO_HANDSHAKE = "unsupported"


@pytest.fixture(scope="module")
def ways(policed: Lake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str, str], Way]]:
    """Clients by the server's mode, the certificate's name and the token's."""
    folder = tmp_path_factory.mktemp("authority")
    root, signed = authority(("pricing", "auditor", "unlisted"))
    strange = authority(("stranger",))[1]
    shown = {"": {}, **{name: pem(each) for name, each in (signed | strange).items() if name != "localhost"}}
    for suffix, text in zip(("pem", "key"), signed["localhost"], strict=True):
        (folder / f"server.{suffix}").write_bytes(text)
    (folder / "ca.pem").write_bytes(root)
    named = folder / "certificates.toml"
    named.write_text(
        '[[certificate]]\nname = "pricing"\nroles = ["pm"]\nclaims = { portfolios = [4] }\n'
        '[[certificate]]\nname = "auditor"\nroles = ["risk"]\n'
    )
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for mode in ("gate", "identity"):
            settings: dict[str, Any] = {
                "certificate": folder / "server.pem",
                "key": folder / "server.key",
                "client_ca": folder / "ca.pem",
                "client": mode,
            }
            auth = {"certificates": named, "passwords": None} if mode == "identity" else {}
            servers[mode] = stack.enter_context(policed.serve(tls=settings, auth=auth))

        @functools.cache
        def connected(mode: str, name: str) -> flight.FlightClient:
            where = f"grpc+tls://localhost:{servers[mode].port}"
            return stack.enter_context(flight.connect(where, tls_root_certs=root, **shown[name]))

        def way(mode: str, name: str, token: str) -> Way:
            credentials = grpc.ssl_channel_credentials(
                root, shown[name].get("private_key"), shown[name].get("cert_chain")
            )
            address = f"localhost:{servers[mode].port}"
            client = Client(connected(mode, name), STATIC.get(token, token))
            return client, lambda: grpc.secure_channel(address, credentials)

        yield way


def authority(clients: tuple[str, ...]) -> tuple[bytes, dict[str, tuple[bytes, bytes]]]:
    """The certificate of a new authority, and certificate and key of a server and of clients that it has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = dev._certificate("authority", key, None, key, 2, None, None)
    found = {}
    for name in ("localhost", *clients):
        usage = ExtendedKeyUsageOID.SERVER_AUTH if name == "localhost" else ExtendedKeyUsageOID.CLIENT_AUTH
        own = ec.generate_private_key(ec.SECP256R1())
        made = dev._certificate(name, own, root, key, 2, [dev._general_name(name)], usage)
        found[name] = (dev._pem(made), dev._key_pem(own))
    return dev._pem(root), found


def pem(made: tuple[bytes, bytes]) -> dict[str, bytes]:
    return {"cert_chain": made[0], "private_key": made[1]}


@pytest.mark.parametrize("who", LET_IN, ids="-".join)
@pytest.mark.parametrize("rpc", RPCS)
def test_a_dataset_exists_for_whom_its_roles_let_in(ways: Any, rpc: str, who: tuple[str, str, str]) -> None:
    client, channel = ways(*who)
    said = {name: code_of(functools.partial(RPCS[rpc][1], client, name, channel)) for name in DATASETS}
    missing = "sql-refused" if rpc in IN_SQL else "unknown-dataset"
    assert said == {name: "ok" if name in LET_IN[who] else missing for name in DATASETS}


@pytest.mark.parametrize("who", LET_IN, ids="-".join)
@pytest.mark.parametrize("rpc", OTHERS)
def test_whom_the_mode_lets_in_is_let_in_everywhere(ways: Any, rpc: str, who: tuple[str, str, str]) -> None:
    client, channel = ways(*who)
    expected = NO_HANDSHAKE if (rpc, who[0]) == ("Handshake", "identity") else OTHERS[rpc][1]
    assert code_of(lambda: OTHERS[rpc][2](client, channel)) == expected


@pytest.mark.parametrize("who", KEPT_OUT, ids="-".join)
@pytest.mark.parametrize("rpc", [*RPCS, *OTHERS])
def test_whom_the_mode_keeps_out_is_kept_out_everywhere(ways: Any, rpc: str, who: tuple[str, str, str]) -> None:
    client, channel = ways(*who)
    call = functools.partial(RPCS[rpc][1], client, "nav") if rpc in RPCS else functools.partial(OTHERS[rpc][2], client)
    assert code_of(lambda: call(channel)) == KEPT_OUT[who]


@pytest.mark.parametrize("who", NO_CONNECTION, ids="-".join)
def test_without_a_certificate_of_the_authority_there_is_no_connection(ways: Any, who: tuple[str, str, str]) -> None:
    client, channel = ways(*who)
    with pytest.raises(flight.FlightUnavailableError):
        client.listed()
    with pytest.raises(grpc.RpcError) as caught:
        OTHERS["Handshake"][2](client, channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_each_sees_its_own_rows(ways: Any) -> None:
    seen = {"-".join(who): ways(*who)[0].ports() for who in LET_IN}
    assert seen == {
        "gate-pricing-alice": {1, 2},
        "gate-pricing-carol": {1, 2, 3, 4},
        "identity-pricing-": {4},
        "identity-auditor-": {1, 2, 3, 4},
        "identity-unlisted-": set(),
        "identity-unlisted-carol": {1, 2, 3, 4},
        "identity-auditor-alice": {1, 2},
    }
