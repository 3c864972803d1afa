"""docs/operations.md names every setting with its default and reason, every metric, log event and error code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from flight_server.config import Config
from flight_server.datasets import system
from flight_server.errors import CODES
from flight_server.model import Dataset
from flight_server.telemetry import metrics

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ROWS = {line.split("|")[1].strip(): line for line in OPERATIONS.splitlines() if line.startswith("|")}
SETTINGS = [
    (f"{section}.{name}", setting)
    for section, kind in Config.model_fields.items()
    for name, setting in kind.annotation.model_fields.items()  # type: ignore[union-attr]
]


@pytest.mark.parametrize(("name", "setting"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_setting_has_its_default_and_its_reason(name: str, setting: object) -> None:
    default = setting.get_default(call_default_factory=True)  # type: ignore[attr-defined]
    said = "unset" if default is None else f"`{default}`"
    assert ROWS[f"`{name}`"] == f"| `{name}` | {said} | {setting.description} |"  # type: ignore[attr-defined]


def test_no_setting_is_told_of_that_is_not_there() -> None:
    told = {name.strip("`") for name in ROWS if re.fullmatch(r"`[a-z]+\.[a-z_0-9]+`", name)}
    assert told == {name for name, _ in SETTINGS}


def test_every_metric_is_told_of() -> None:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            described = next(iter(metric.describe()))
            name = described.name + ("_total" if described.type == "counter" else "")
            assert any(row.startswith(f"`{name}`") for row in ROWS), name


def test_every_log_event_is_told_of() -> None:
    # The name of an event can be chosen by a condition: "a" if … else "b".
    pattern = re.compile(
        r"log\.(?:debug|info|warning|error|exception)\(\s*\"([a-z_]+)\"(?: if [^,]*? else \"([a-z_]+)\")?"
    )
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flight_server").rglob("*.py"))
    found = {event for pair in pattern.findall(source) for event in pair if event}
    assert {"serving", "datasets_good_again"} <= found
    for event in found:
        assert f"`{event}`" in ROWS, event


def test_every_span_is_told_of() -> None:
    pattern = re.compile(r"traces\.(?:span|iterated|begin|stepped)\(\s*\"([a-z ]+)\"")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "flight_server").rglob("*.py"))
    found = set(pattern.findall(source))
    assert {"plan", "engine", "stream", "read part"} <= found
    for span in found:
        assert f"`{span}`" in ROWS, span


@pytest.mark.parametrize("own", system.load(["operator"]), ids=lambda own: own.name)
def test_every_dataset_of_the_servers_own_is_told_of_with_its_parameters(own: Dataset) -> None:
    parameters = ", ".join(f"`{name}`" for name in own.params)
    assert ROWS[f"`{own.name}`"].endswith(f"| {parameters} |")


@pytest.mark.parametrize("check", ["files", "catalog", "datasets", "audit", "disk", "engine:…"])
def test_every_check_of_readiness_is_told_of(check: str) -> None:
    # The names are those of test_health.py, which asks a real server.
    assert f"`{check}`" in ROWS


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_is_told_of(code: str) -> None:
    assert f"`{code}`" in ROWS
    assert code in (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
