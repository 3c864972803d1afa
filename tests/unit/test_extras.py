"""What is said where an optional dependency is missing: an extra that exists, and a command that can be typed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import cast

import pytest

from flight_server.cli import plot
from flight_server.errors import SetupError, to_install
from flight_server.model.contract import Dataset
from tests.dockerfile import stages

ROOT = Path(__file__).parents[2]
SOURCES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "flight_server").rglob("*.py")}
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "clients").glob("*/README.md")]


def extras(folder: Path = ROOT) -> set[str]:
    with (folder / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["project"]["optional-dependencies"])


def test_messages_name_extras_that_exist() -> None:
    calls = [
        node
        for text in SOURCES.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == to_install.__name__
    ]
    assert {ast.literal_eval(call.args[0]) for call in calls} == extras() - {"dev"}


def test_no_message_says_pip_in_words_of_its_own() -> None:
    assert [path.name for path, text in SOURCES.items() if "pip install" in text] == ["errors.py"]


def test_pages_name_extras_that_exist() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    ours = re.findall(r"'\.(/clients/python)?\[([\w,]+)\]'", text)
    assert ours
    for client, named in ours:
        assert set(named.split(",")) <= extras(ROOT / "clients/python" if client else ROOT)
    assert "'athena-flight[" not in text


def test_a_checkout_is_installed_from_where_it_is() -> None:
    assert to_install("otlp") == f"type {sys.executable} -m pip install -e '{ROOT}[otlp]'"


def test_elsewhere_the_image_is_built_with_it(tmp_path: Path) -> None:
    said = [to_install(extra, tmp_path) for extra in ("otlp", "demo")]
    assert [line.rpartition(" ")[2] for line in said] == ["EXTRAS=otlp", "EXTRAS=otlp,demo"]
    assert "EXTRAS" in {each.value.partition("=")[0] for each in stages()[0].all("ARG")}


def test_plot_without_plotext_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(SetupError) as error:
        plot.draw(cast(Dataset, None), [])
    assert error.value.message == f"--plot needs plotext; {to_install('plot')}"
