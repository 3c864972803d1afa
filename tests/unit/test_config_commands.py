"""`config show` and `config check`: precedence and sources, unknown keys with the nearest known one, and no secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flight_server import config
from flight_server.cli import main
from flight_server.errors import ConfigError

PLANTED = "planted-9f86d081"
FILE = """\
[server]
port = 9000
host = "127.0.0.2"

[limits]
calls_max = 7
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ATHENA_FLIGHT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "sql").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(FILE)
    return path


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Exit code and lines."""
    code = 0
    try:
        main(["config", "check", *words])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    return code, capsys.readouterr().out.splitlines()


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[str, str]]:
    """Setting → value and source."""
    with pytest.raises(SystemExit) as ended:
        main(["config", "show", *words])
    assert ended.value.code == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return {setting: (value, source) for setting, value, source in rows}


def test_file_then_variable_then_flag(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shown(capsys, "--config", str(file))
    assert found["server.port"] == ("9000", f"file:{file}")
    assert found["server.grace_s"] == ("20.0", "default")
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER__PORT", "9001")
    found = shown(capsys, "--config", str(file))
    assert found["server.port"] == ("9001", "ATHENA_FLIGHT_SERVER__PORT")
    assert found["server.host"] == ("127.0.0.2", f"file:{file}")
    found = shown(capsys, "--config", str(file), "--port", "9002", "--insecure-allow-remote")
    assert found["server.port"] == ("9002", "--port")
    assert found["server.insecure_allow_remote"] == ("true", "--insecure-allow-remote")
    assert config.load(file, server={"port": 9002}).server.port == 9002


def test_every_setting_is_shown_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys)
    assert list(found) == [f"{section}.{name}" for section, name in config.settings()]
    assert {source for _, source in found.values()} == {"default"}
    assert found["aws.region"] == ("unset", "default")


def test_the_file_of_the_working_directory_is_named(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.rename(file.parent / "athena-flight.toml")
    assert shown(capsys)["limits.calls_max"] == ("7", "file:athena-flight.toml")


def test_a_section_as_json_and_other_spellings_of_a_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATHENA_FLIGHT_LIMITS", '{"calls_max": 5}')
    monkeypatch.setenv("athena_flight_server__port", "9003")
    found = shown(capsys)
    assert found["limits.calls_max"] == ("5", "ATHENA_FLIGHT_LIMITS")
    assert found["server.port"] == ("9003", "athena_flight_server__port")


def test_no_secret_is_shown(capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER__TICKET_SECRET", PLANTED)
    file.write_text(
        f'[catalog]\nuri = "postgresql://me:{PLANTED}@db.example/catalog"\n'
        f'[auth]\njwt_keys = "https://login.example/keys?token={PLANTED}"\n'
    )
    found = shown(capsys, "--config", str(file))
    assert PLANTED not in repr(found)
    assert found["server.ticket_secret"] == ("**********", "ATHENA_FLIGHT_SERVER__TICKET_SECRET")
    assert found["catalog.uri"][0] == "postgresql://***@db.example/catalog"
    assert found["auth.jwt_keys"][0] == "https://login.example/keys?***"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql+psycopg://athena:{PLANTED}/{PLANTED}@db.example/catalog",
        f"postgresql://athena:{PLANTED}@{PLANTED}@db.example/catalog",
        f"postgresql://athena:a?{PLANTED} #{PLANTED}@db.example/catalog",
        f"postgresql://db.example/catalog?password={PLANTED} {PLANTED}",
        f"postgresql://athena:x@db.example/catalog?options=a b {PLANTED}",
    ],
)
def test_no_password_of_any_signs_is_shown(capsys: pytest.CaptureFixture[str], file: Path, address: str) -> None:
    file.write_text(f'[catalog]\nuri = "{address}"\n')
    assert PLANTED not in repr(shown(capsys, "--config", str(file)))
    assert PLANTED not in repr(config.load(file))
    assert PLANTED not in repr(config.without_secrets({"a": ("plain", [address])}))


def test_good_settings_are_good(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    assert checked(capsys, "--config", str(file)) == (0, ["the settings are good"])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[server]\nport = 1\nprot = 2\n", 3, "there is no setting 'server.prot'; did you mean 'server.port'?"),
        ("[limit]\ncalls_max = 2\n", 1, "there is no section [limit]; did you mean 'limits'?"),
        ("[log]\nlevel = 'info'\n\n[limits]\nlevel = 'x'\n", 5, "there is no setting 'limits.level'"),
        ("port = 1\n", 1, "there is no section [port]"),
        ("server = 1\n", 1, "server is a section: write [server]"),
        ("[limits]\ncalls_max = 0\n", 2, "setting 'limits.calls_max': Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_key_has_its_line_and_the_nearest_one(
    capsys: pytest.CaptureFixture[str], file: Path, text: str, line: int, message: str
) -> None:
    file.write_text(text)
    code, lines = checked(capsys, "--config", str(file))
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}:{line}: {message}")


def test_all_that_is_wrong_is_named_at_once(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER_PORT", "1")
    monkeypatch.setenv("ATHENA_FLIGHT_LOG__LEVL", PLANTED)
    monkeypatch.setenv("ATHENA_FLIGHT_LIMITS__CALLS_MAX", "many")
    file.write_text("server.prot = 1\n")
    assert checked(capsys, "--config", str(file)) == (
        1,
        [
            # A dotted key is found in the file, and no line is guessed for it.
            f"{file}: there is no setting 'server.prot'; did you mean 'server.port'?",
            "ATHENA_FLIGHT_LOG__LEVL: no setting has this variable; did you mean ATHENA_FLIGHT_LOG__LEVEL?",
            "ATHENA_FLIGHT_SERVER_PORT: no setting has this variable; did you mean ATHENA_FLIGHT_SERVER__PORT?",
            "ATHENA_FLIGHT_LIMITS__CALLS_MAX: setting 'limits.calls_max': Input should be a valid integer, unable to "
            "parse string as an integer (got 'many')",
        ],
    )


def test_a_key_of_a_table_has_a_variable_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATHENA_FLIGHT_BUDGET__CALLERS__ALICE", "2.5")
    assert checked(capsys) == (0, ["the settings are good"])
    assert shown(capsys)["budget.callers"] == ('{"alice": 2.5}', "ATHENA_FLIGHT_BUDGET__CALLERS")
    monkeypatch.setenv("ATHENA_FLIGHT_BUDGET__CALERS__ALICE", "2.5")
    assert checked(capsys)[1] == [
        "ATHENA_FLIGHT_BUDGET__CALERS__ALICE: no setting has this variable; did you mean ATHENA_FLIGHT_BUDGET__CALLERS?"
    ]


def test_variables_of_the_client_and_of_kubernetes_are_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("URL", "TOKEN", "USER", "PASSWORD", "TLS_ROOTS", "CERT", "KEY"):
        monkeypatch.setenv(f"ATHENA_FLIGHT_{name}", "x")
    # Kubernetes: "discovering services", environment variables of a Service named athena-flight.
    monkeypatch.setenv("ATHENA_FLIGHT_SERVICE_HOST", "10.0.0.11")
    monkeypatch.setenv("ATHENA_FLIGHT_SERVICE_PORT", "8815")
    monkeypatch.setenv("ATHENA_FLIGHT_SERVICE_PORT_FLIGHT", "8815")
    monkeypatch.setenv("ATHENA_FLIGHT_PORT", "tcp://10.0.0.11:8815")
    for rest in ("", "_PROTO", "_PORT", "_ADDR"):
        monkeypatch.setenv(f"ATHENA_FLIGHT_PORT_8815_TCP{rest}", "x")
    assert checked(capsys) == (0, ["the settings are good"])


def test_a_file_that_is_no_toml_or_not_there_is_one_line(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text("[server\n")
    for words in (["show"], ["check"]):
        with pytest.raises(SystemExit) as ended:
            main(["config", *words, "--config", str(file)])
        assert ended.value.code == 1
        said = (
            f"error: [bad-config] the configuration file {str(file)!r} is not TOML: Expected ']' at the end of a table"
        )
        assert capsys.readouterr().err.startswith(said)
    with pytest.raises(SystemExit):
        main(["config", "check", "--config", "absent.toml"])
    assert "there is no configuration file 'absent.toml'" in capsys.readouterr().err


def test_a_start_with_an_unknown_key_names_the_nearest(file: Path) -> None:
    file.write_text("[server]\nprot = 1\n")
    with pytest.raises(ConfigError, match=r"there is no setting 'server.prot'; did you mean 'server.port'\?"):
        config.load(file)
    file.write_text(f"[auht]\ntokens = '{PLANTED}'\n")
    with pytest.raises(ConfigError, match=r"there is no setting 'auht'; did you mean 'auth'\?") as raised:
        config.load(file)
    assert PLANTED not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nengines = ['athena']\n[aws]\nregion = 'eu-west-1'\n",
            "{file}: setting 'athena.results': the Athena engine needs an s3:// prefix, got ''",
        ),
        (
            "[server]\nengines = ['athena']\n[athena]\nresults = 's3://b/r'\n",
            "{file}: setting 'aws.region': needed for the Athena engine; the AWS chain names none either",
        ),
        (
            "[auth]\njwt_keys = 'keys.json'\n",
            "{file}:2: settings 'auth.jwt_keys', 'auth.jwt_issuer' and 'auth.jwt_audience' go together",
        ),
        ("[tls]\ncertificate = 'any.pem'\n", "{file}: setting 'tls.key': is needed too"),
        (
            "[tls]\nclient = 'gate'\n",
            "{file}:2: setting 'tls.client': client certificates need TLS; set tls.certificate and tls.key",
        ),
        ("[server]\nhttp_port = 8815\n", "{file}:2: setting 'server.http_port': 8815 is 'server.port' already"),
        ("[server]\nport = 8817\n", "{file}: setting 'server.health_port': 8817 is 'server.port' already"),
        ("[auth]\ntokens = 'no'\n", "{file}:2: setting 'auth.tokens': cannot read 'no': No such file or directory"),
        ("[auth]\ntokens = 's.toml'\n", "s.toml:1:1: there is no [[auth]]. Known are [[token]]"),
        (
            "[tls]\ncertificate = 'no'\nkey = 's.toml'\n",
            "{file}:2: setting 'tls.certificate': cannot read 'no': No such file or directory",
        ),
        (
            "[server]\nhost = '0.0.0.0'\n",
            "{file}:2: setting 'server.host': '0.0.0.0' is reached from other machines, and nobody is asked who they "
            "are; set up [auth], or say server.insecure_allow_remote = true (--insecure-allow-remote)",
        ),
    ],
)
def test_what_settings_need_of_each_other_is_told_by_check_and_by_serve(
    capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    file.write_text(text)
    (file.parent / "any.pem").write_text("-----BEGIN CERTIFICATE-----")
    assert checked(capsys, "--config", str(file)) == (1, [message.format(file=file)])
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--config", str(file)])
    assert ended.value.code == 1
    said = message.format(file=file).partition(": ")[2]
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("setting", ["duckdb.memory", "duckdb.temp_bytes_max", "system.memory"])
def test_a_size_is_a_number_with_a_unit(file: Path, setting: str) -> None:
    section, _, name = setting.partition(".")
    for good in ("2GB", "512 MiB", "1.5gb"):
        file.write_text(f"[{section}]\n{name} = '{good}'\n")
        assert getattr(getattr(config.load(file), section), name) == good
    for wrong in ("lots", "2", "GB", "-1GB"):
        file.write_text(f"[{section}]\n{name} = '{wrong}'\n")
        with pytest.raises(ConfigError) as raised:
            config.load(file)
        assert str(raised.value) == (
            f"setting '{setting}': a size is written as 2GB or 512MiB (got '{wrong}'); "
            "`athena-flight config check` names all"
        )
