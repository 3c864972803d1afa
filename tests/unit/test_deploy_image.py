"""The Dockerfile as text: hadolint's rules and this project's. tests/soak/test_image.py carries it out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flight_server import config
from tests.dockerfile import ROOT, context, stages

BUILD, IMAGE = stages()


def test_hadolint_finds_nothing() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    found = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 0)


def test_image_runs_as_a_user_without_rights_by_number() -> None:
    """Kubernetes' runAsNonRoot believes numbers only."""
    user, _, group = IMAGE.last("USER").value.partition(":")
    assert int(user) >= 10_000
    assert group == user
    assert IMAGE.instructions.index(IMAGE.last("USER")) > IMAGE.instructions.index(IMAGE.last("RUN"))


def test_packages_come_as_wheels_and_only_into_the_first_stage() -> None:
    installs = [each.value for each in BUILD.all("RUN") if " install " in each.value]
    assert installs
    assert all("--only-binary :all:" in each for each in installs)
    assert not [each for each in IMAGE.all("RUN") if "pip" in each.value or "apt" in each.value]


def test_both_stages_have_the_same_python() -> None:
    assert BUILD.base.replace("-bookworm", "-slim-bookworm") == IMAGE.base


def test_every_port_of_the_settings_is_exposed() -> None:
    ports = {value for name, value in config.Server() if name.endswith("port")}
    assert ports <= {int(port) for port in IMAGE.last("EXPOSE").value.split()}


def test_settings_of_the_image_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = (word.split("=", 1) for each in IMAGE.all("ENV") for word in each.arguments)
    for name, value in pairs:
        if name.startswith("ATHENA_FLIGHT_"):
            monkeypatch.setenv(name, value)
    found = config.load()
    assert found.server.host == "0.0.0.0"
    assert found.log.format == "json"


def test_build_is_sent_the_package_and_the_datasets_and_nothing_else(tmp_path: Path) -> None:
    """A secret beside the checkout's files, or a virtual environment, cannot reach a layer."""
    context(tmp_path)
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    top = {path.parts[0] for path in files}
    assert top - {".dockerignore", "Dockerfile"} == {
        "LICENSE", "README.md", "constraints.txt", "flight_server", "pyproject.toml", "sql",
    }  # fmt: skip
    assert {path.suffix for path in files if path.parts[0] == "flight_server"} <= {".py", ".sql", ".toml", ".typed"}
    assert {path.suffix for path in files if path.parts[0] == "sql"} <= {".sql", ".md", ".toml"}
    assert (tmp_path / "sql/policies.toml").is_file()
    assert not [path for path in files if path.name.endswith(".test.toml")]
    for stage in (BUILD, IMAGE):
        for copy in stage.all("COPY"):
            names = copy.arguments[:-1]
            assert names[0].startswith("--from=build") or all((tmp_path / name).exists() for name in names)
