"""Files of one token and one user, an `Authentication` over them, and what it says to a credential."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from flight_server.config import Config
from flight_server.errors import Error
from flight_server.service.auth import Authentication
from flight_server.service.auth.tokens import digest
from tests.fix_identity import HASHER, PASSWORD

SECRET = b"s" * 32
TOKEN = "af_" + "t" * 43
TOKENS = f'[[token]]\nname = "app"\nsha256 = "{digest(TOKEN)}"\nroles = ["pm"]\nclaims = {{ desk = "emea", p = [1] }}\n'
HASH = HASHER.hash(PASSWORD)
USERS = f'[[user]]\nname = "erin"\nargon2 = "{HASH}"\nroles = ["pm"]\n'


@pytest.fixture
def credential_files(tmp_path: Path) -> dict[str, Path]:
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
