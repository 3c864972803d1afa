"""`athena-flight auth` and `tls`: what they write works, is private, and nothing secret is shown twice."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from flight_server.cli import main
from flight_server.config import Budget, Config
from flight_server.service.auth import Authentication
from flight_server.service.spending import Spending
from tests.fix_identity import Lake


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, in a folder, with `typed` on standard input."""

    def call(folder: Path, *arguments: str, typed: str = "") -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        said = capsys.readouterr()
        return Done(ended.value.code if isinstance(ended.value.code, int) else 0, said.out, said.err)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "athena-flight.toml").write_text('[auth]\ntokens = "t.toml"\npasswords = "p.toml"\n')
    return tmp_path


def test_a_new_token_is_printed_once_stored_hashed_and_believed(run: Run, folder: Path) -> None:
    (folder / "p.toml").touch()
    done = run(folder, "auth", "token", 'a "b" ü', "--role", "pm", "--claim", "p=[1,2]", "--claim", "desk=emea")
    token = done.stdout.strip()
    assert token.startswith("af_")
    assert token not in (folder / "t.toml").read_text()
    assert oct((folder / "t.toml").stat().st_mode & 0o777) == "0o600"
    said = json.loads(run(folder, "auth", "whoami", typed=token + "\n").stdout)
    assert said == {"name": 'a "b" ü', "roles": ["pm"], "claims": {"p": [1, 2], "desk": "emea"}, "budget": None}


def test_a_budget_is_told_with_what_its_file_has(run: Run, folder: Path) -> None:
    (folder / "p.toml").touch()
    token = run(folder, "auth", "token", "alice").stdout.strip()
    settings = folder / "athena-flight.toml"
    settings.write_text(f"{settings.read_text()}\n[budget]\nusd_per_day = 2.0\n")
    budget = json.loads(run(folder, "auth", "whoami", typed=token).stdout)["budget"]
    assert (budget["usd_per_day"], budget["spent_usd"], budget["left_usd"]) == (2.0, None, None)
    settings.write_text(f'{settings.read_text()}file = "{folder}/spent.db"\n')
    # To look makes no file.
    assert json.loads(run(folder, "auth", "whoami", typed=token).stdout)["budget"]["spent_usd"] is None
    assert not (folder / "spent.db").exists()
    with closing(Spending(Budget(file=folder / "spent.db"))) as spending:
        spending._add(spending._today().isoformat(), "alice", 0.5, 2.0)
    budget = json.loads(run(folder, "auth", "whoami", typed=token).stdout)["budget"]
    assert (budget["spent_usd"], budget["left_usd"]) == (0.5, 1.5)


def test_tokens_are_added_and_old_ones_stay(run: Run, folder: Path) -> None:
    (folder / "p.toml").touch()
    tokens = [run(folder, "auth", "token", name).stdout.strip() for name in ("one", "two")]
    for name, token in zip(("one", "two"), tokens, strict=True):
        assert json.loads(run(folder, "auth", "whoami", typed=token).stdout)["name"] == name


def test_an_expired_token_is_told(run: Run, folder: Path) -> None:
    (folder / "p.toml").touch()
    token = run(folder, "auth", "token", "old", "--expires", "2999-01-01").stdout.strip()
    tokens = folder / "t.toml"
    tokens.write_text(tokens.read_text().replace("2999-01-01", "2020-01-01"))
    done = run(folder, "auth", "whoami", "--token", token)
    assert (done.returncode, "[expired-credential]" in done.stderr) == (1, True)


def test_a_password_is_read_from_standard_input_and_changed_in_place(run: Run, folder: Path) -> None:
    assert run(folder, "auth", "password", "erin", "--role", "pm", typed="first\n").returncode == 0
    assert run(folder, "auth", "password", "zoe", typed="other\n").returncode == 0
    assert run(folder, "auth", "password", "erin", typed="second\n").returncode == 0
    text = (folder / "p.toml").read_text()
    assert text.count("[[user]]") == 2
    assert not {"first", "second", "other"} & set(text.split('"'))
    checked = Authentication(Config(auth={"passwords": folder / "p.toml"}), b"x")
    users = checked.identities
    assert users.users["erin"].caller.roles == {"pm"}
    assert checked._passwords.check(users, "erin", "second").caller.name == "erin"
    assert checked._passwords.check(users, "zoe", "other").caller.name == "zoe"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("auth", "token", "anonymous"), "cannot be a caller's name"),
        (("auth", "token", "x", "--role", "*"), "'*' is none"),
        (("auth", "token", "x", "--claim", "desk"), "is not NAME=VALUE"),
        (("auth", "token", "x", "--claim", 'p={"a":1}'), "a claim is text"),
        (("auth", "password", "x"), "the password is empty"),
        (("auth", "whoami"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    run: Run, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(folder, *arguments, typed="\n")
    assert done.returncode != 0
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert {path.name for path in folder.iterdir()} == {"athena-flight.toml"}


def test_without_a_file_the_setting_is_named(run: Run, tmp_path: Path) -> None:
    assert "auth.tokens" in run(tmp_path, "auth", "token", "x").stderr
    assert "auth.passwords" in run(tmp_path, "auth", "password", "x", typed="y\n").stderr


def test_development_certificates_are_private_and_not_overwritten(run: Run, folder: Path) -> None:
    assert run(folder, "tls", "dev-cert", "--client", "alice", "--host", "db.example").returncode == 0
    made = {path.name: oct(path.stat().st_mode & 0o777) for path in (folder / ".tls").iterdir()}
    assert made == dict.fromkeys(("ca.pem", "server.pem", "server.key", "client.pem", "client.key"), "0o600")
    before = (folder / ".tls" / "server.key").read_bytes()
    again = run(folder, "tls", "dev-cert")
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    assert (folder / ".tls" / "server.key").read_bytes() == before


def test_explain_and_run_as_somebody_show_what_that_caller_gets(
    run: Run, policed: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "DATASETS__DIRECTORY": policed.folder / "sql",
        "CATALOG__URI": f"sqlite:///{policed.folder}/catalog.db",
        "CATALOG__WAREHOUSE": policed.folder / "warehouse",
        "AUTH__TOKENS": policed.folder / "tokens.toml",
    }.items():
        monkeypatch.setenv(f"ATHENA_FLIGHT_{name}", str(value))
    shown = json.loads(run(tmp_path, "explain", "nav", "--as", "alice").stdout)
    assert '"n"."port_id" IN (1, 2)' in shown["sql"]
    assert [(each["name"], each["kind"]) for each in shown["row_filters"]] == [
        ("p.nav#1", "row_filter"),
        ("p.nav.desk", "mask"),
    ]
    assert shown["row_filters"][0]["reason"] == (
        "only rows that the caller's 'portfolios' admits; not for the roles risk. "
        "Portfolio managers see their own portfolios."
    )
    assert "no usable claim 'portfolios'" in run(tmp_path, "explain", "nav", "--as", "dave").stdout
    rows = [len(run(tmp_path, "run", "nav", "--as", name).stdout.splitlines()) for name in ("alice", "bob", "dave")]
    assert [rows[0] - rows[2], rows[1] - rows[2]] == [4, 2]
    assert "did you mean 'alice'?" in run(tmp_path, "explain", "nav", "--as", "alic").stderr
    assert "unknown-dataset" in run(tmp_path, "explain", "secret_limits", "--as", "alice").stderr


def test_a_token_that_would_be_good_for_nobody_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens.toml"
    with pytest.raises(SystemExit) as ended:
        main(["auth", "token", "notebooks", "--expires", "2020-01-01", "--file", str(file)])
    assert ended.value.code == 2
    assert "has begun (UTC)" in capsys.readouterr().err
    assert not file.exists()


def test_help_of_a_token_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["auth", "token", "--help"])
    assert "To withdraw it, delete its entry from the file." in " ".join(capsys.readouterr().out.split())


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for words in (["version"], ["--version"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""
