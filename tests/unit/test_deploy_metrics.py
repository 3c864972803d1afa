"""The Grafana dashboard and the Prometheus alerts ask for metrics, labels and values that the server has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.metrics import MetricWrapperBase

from flight_server.errors import CODES
from flight_server.telemetry import metrics

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/athena-flight.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
# What Prometheus adds to every sample.
TARGET = {"job", "instance"}
VALUES = {
    "code": {"ok", *CODES},
    "cache": {"hit", "miss", "off"},
    "method": {"DoGet", "GetFlightInfo", "GetSchema", "ListFlights", "DoAction"},
}
# What the person on call must see, by the metric that shows it.
SHOWN = {
    "calls": "athena_flight_calls_total",
    "seconds in all": "athena_flight_call_seconds_bucket",
    "seconds to the first batch": "athena_flight_first_batch_seconds_bucket",
    "rows": "athena_flight_rows_total",
    "bytes": "athena_flight_bytes_total",
    "running": "athena_flight_queries_running",
    "queued": "athena_flight_queries_queued",
    "cache": "athena_flight_answers_total",
    "Athena queries": "athena_flight_engine_queries_total",
    "scanned bytes": "athena_flight_scanned_bytes_total",
    "dollars": "athena_flight_usd_total",
    "poller lag": "athena_flight_poll_lag_seconds",
    "memory budget": "athena_flight_read_bytes",
    "waiting calls": "athena_flight_calls_queued",
    "slow readers": "athena_flight_streams_unread",
    "kept results": "athena_flight_local_result_bytes",
}


def _samples() -> dict[str, set[str]]:
    """The labels of every time series that a server exports, by its name."""
    found = {sample.name: set(sample.labels) for metric in PROCESS_COLLECTOR.collect() for sample in metric.samples}
    found["up"] = set()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            described = next(iter(metric.describe()))
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(described.type, [""])
            for suffix in suffixes:
                found[described.name + suffix] = {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
    return found


SAMPLES = _samples()


def _selectors(expression: str) -> tuple[list[promql.VectorSelector], set[str]]:
    """The series that an expression asks for, and the labels that it groups by."""
    selectors: list[promql.VectorSelector] = []
    grouped: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)

    promql.walk(promql.parse(expression.replace("$__rate_interval", "5m")), visit)
    return selectors, grouped


def _queries() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        yield from ((f"{panel['title']} {target['refId']}", target["expr"]) for target in panel["targets"])
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


QUERIES = dict(_queries())


@pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES.keys())
def test_query_asks_for_what_is_exported(expression: str) -> None:
    selectors, grouped = _selectors(expression)
    assert selectors
    for selector in selectors:
        assert selector.name in SAMPLES
        labels = SAMPLES[selector.name] | TARGET
        assert grouped <= labels
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels
            if matcher.name in VALUES:
                assert set(matcher.value.split("|")) <= VALUES[matcher.name]


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_legend_names_labels_that_are_grouped_by(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        _, grouped = _selectors(target["expr"])
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped


@pytest.mark.parametrize("metric", SHOWN.values(), ids=SHOWN.keys())
def test_dashboard_shows(metric: str) -> None:
    assert any(metric in target["expr"] for panel in PANELS for target in panel["targets"])


def test_both_ends_of_durations_are_shown() -> None:
    for metric in ("athena_flight_first_batch_seconds", "athena_flight_call_seconds"):
        found = {expr.split(",")[0] for expr in QUERIES.values() if expr.startswith("histogram") and metric in expr}
        assert {"histogram_quantile(0.5", "histogram_quantile(0.99"} <= found


def test_panels_have_their_own_ids_and_places_and_say_what_they_mean() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)


def test_every_alert_is_tried_as_it_fires() -> None:
    """tests/soak/test_promtool.py runs them."""
    cases = yaml.safe_load((ROOT / "deploy/prometheus/alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_alert_leads_to_an_entry_of_the_runbook(rule: dict[str, Any]) -> None:
    runbook = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("## Runbook")[2]
    assert f"**{rule['annotations']['runbook']}**" in runbook
    assert rule["labels"]["severity"] in {"page", "ticket"}
