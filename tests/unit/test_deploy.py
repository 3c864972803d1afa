"""deploy/: what is written there is valid for the tool that reads it, and says the same as the server's settings.

Schemas: Kubernetes' own (kubernetes-validate), the Compose Specification's (check-jsonschema), ECS's as botocore has it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator

from flight_server import config
from tests.dockerfile import stages

DEPLOY = Path(__file__).parents[2] / "deploy"
IMAGE = stages()[-1]
USER = int(IMAGE.last("USER").value.partition(":")[0])
# These are resources of others: their schemas are not Kubernetes' own.
FOREIGN = {"Kustomization", "ServiceMonitor"}
OBJECTS: dict[str, Any] = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((DEPLOY / "k8s").glob("*.yaml"))
}
TASK: dict[str, Any] = json.loads((DEPLOY / "ecs-task.json").read_text(encoding="utf-8"))
TASK_CONTAINER = TASK["containerDefinitions"][0]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
POD = OBJECTS["deployment.yaml"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
PORTS = {"flight": config.Server().port, "http": config.Server().http_port}
# serve.py ends the process this long after the grace period, at the latest.
END_S = 3


def env_of(pairs: list[dict[str, str]]) -> dict[str, str]:
    return {pair["name"]: pair.get("value", "secret") for pair in pairs}


ENVIRONMENTS = {
    "ecs": env_of(TASK_CONTAINER["environment"]) | env_of(TASK_CONTAINER["secrets"]),
    "k8s": env_of(CONTAINER["env"]),
    "compose tables": COMPOSE["tables"]["environment"],
    "compose server": COMPOSE["server"]["environment"],
}


def loaded(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], file: Path | None = None) -> config.Config:
    """The settings as the server would have them with exactly this environment."""
    for name in os.environ:
        if name.startswith("ATHENA_FLIGHT_"):
            monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return config.load(file)


@pytest.fixture
def k8s_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Config:
    """The settings of a pod: its ConfigMap and its environment."""
    file = tmp_path / "athena-flight.toml"
    file.write_text(OBJECTS["configmap.yaml"]["data"]["athena-flight.toml"])
    return loaded(monkeypatch, ENVIRONMENTS["k8s"], file)


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_every_variable_is_a_setting(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, env)
    for name in env:
        if name.startswith("ATHENA_FLIGHT_"):
            section, _, field = name.removeprefix("ATHENA_FLIGHT_").lower().partition("__")
            assert field in type(getattr(found, section)).model_fields, name
        else:
            assert name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


@pytest.mark.parametrize("name", [name for name, found in OBJECTS.items() if found["kind"] not in FOREIGN])
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_kustomization_has_all_but_the_foreign() -> None:
    own = {name for name, found in OBJECTS.items() if found["kind"] not in FOREIGN}
    assert set(OBJECTS["kustomization.yaml"]["resources"]) == own


def test_pod_has_no_rights_and_can_write_only_to_tmp() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] == POD["securityContext"]["fsGroup"] == USER
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp"} == set(IMAGE.last("VOLUME").arguments)
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_pods_settings_name_files_that_are_mounted(k8s_config: config.Config) -> None:
    mounts = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert CONTAINER["args"][:2] == ["serve", "--config"]
    for path in (CONTAINER["args"][2], k8s_config.auth.tokens, k8s_config.tls.certificate, k8s_config.tls.key):
        assert str(Path(path or "").parent) in mounts


def test_pod_is_reached_and_asks_who_comes(k8s_config: config.Config) -> None:
    assert k8s_config.server.host == "0.0.0.0"
    assert k8s_config.auth.tokens is not None
    assert not k8s_config.server.insecure_allow_remote
    assert {port["name"]: port["containerPort"] for port in CONTAINER["ports"]} == PORTS | {
        "health": config.Server().health_port
    }
    assert {port["name"]: port["port"] for port in OBJECTS["service.yaml"]["spec"]["ports"]} == PORTS
    allowed = [rule["ports"][0]["port"] for rule in OBJECTS["networkpolicy.yaml"]["spec"]["ingress"]]
    assert allowed == list(PORTS.values())


def test_labels_find_the_pods() -> None:
    labels = OBJECTS["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        OBJECTS["deployment.yaml"]["spec"]["selector"]["matchLabels"],
        OBJECTS["service.yaml"]["spec"]["selector"],
        OBJECTS["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"],
        OBJECTS["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    service = OBJECTS["service.yaml"]["metadata"]["labels"]
    assert OBJECTS["servicemonitor.yaml"]["spec"]["selector"]["matchLabels"].items() <= service.items()


def test_probes_ask_for_life_and_readiness_apart() -> None:
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    # A catalog out of reach makes /readyz red: restarting for it would end streams that are well.
    assert [probes[name]["path"] for name in ("startup", "liveness", "readiness")] == ["/livez", "/livez", "/readyz"]


def test_rolling_update_never_has_fewer_replicas() -> None:
    spec = OBJECTS["deployment.yaml"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert spec["replicas"] > OBJECTS["poddisruptionbudget.yaml"]["spec"]["minAvailable"]


def test_pod_is_not_killed_before_its_grace_is_over(k8s_config: config.Config) -> None:
    sleep = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > sleep + k8s_config.server.grace_s + END_S


def test_pods_disk_and_memory_hold_what_the_settings_allow(k8s_config: config.Config) -> None:
    written = _written(k8s_config)
    disk = next(_bytes(volume["emptyDir"]["sizeLimit"]) for volume in POD["volumes"] if volume["name"] == "tmp")
    resources = CONTAINER["resources"]
    assert written < disk < _bytes(resources["requests"]["ephemeral-storage"])
    memory = _bytes(k8s_config.duckdb.memory) + k8s_config.results.read_bytes_max
    assert memory < _bytes(resources["limits"]["memory"]) * 0.6


def test_ecs_takes_the_task() -> None:
    """With botocore's model of RegisterTaskDefinition; what a service checks besides is not in it."""
    ecs = botocore.session.get_session().get_service_model("ecs")
    shape = ecs.operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    assert ParamValidator().validate(TASK, shape).generate_report() == ""


def test_ecs_task_is_reached_and_asks_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, ENVIRONMENTS["ecs"])
    assert found.auth.jwt_keys
    assert found.auth.jwt_issuer
    assert found.auth.jwt_audience
    assert {port["name"]: port["containerPort"] for port in TASK_CONTAINER["portMappings"]} == PORTS
    # A secret is named, never written.
    assert not [name for name in env_of(TASK_CONTAINER["environment"]) if "SECRET" in name]
    assert all(secret["valueFrom"].startswith("arn:aws:secretsmanager:") for secret in TASK_CONTAINER["secrets"])


def test_ecs_task_has_no_rights_and_can_write_only_to_tmp() -> None:
    assert TASK_CONTAINER["readonlyRootFilesystem"] is True
    assert TASK_CONTAINER["user"] == f"{USER}:{USER}"
    assert TASK_CONTAINER["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["containerPath"]: mount["sourceVolume"] for mount in TASK_CONTAINER["mountPoints"]}
    assert mounts == {"/tmp": TASK["volumes"][0]["name"]}


def test_ecs_task_is_not_killed_before_its_grace_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, ENVIRONMENTS["ecs"])
    assert found.server.grace_s + END_S < TASK_CONTAINER["stopTimeout"] <= 120
    assert TASK["ephemeralStorage"]["sizeInGiB"] * 2**30 > _written(found)
    # An orchestrator's health check restarts: only for a process that is not alive.
    assert any(f":{found.server.http_port}/livez" in word for word in TASK_CONTAINER["healthCheck"]["command"])


def test_ecs_task_has_more_files_than_connections_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, ENVIRONMENTS["ecs"])
    limits = {limit["name"]: limit["hardLimit"] for limit in TASK_CONTAINER["ulimits"]}
    assert limits["nofile"] >= 2 * found.limits.connections_max


def test_compose_file_follows_the_specification() -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DEPLOY / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_server_is_published_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    server = COMPOSE["server"]
    assert server["ports"] == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    found = loaded(monkeypatch, ENVIRONMENTS["compose server"])
    assert int(server["stop_grace_period"].removesuffix("s")) > found.server.grace_s + END_S
    assert found.server.insecure_allow_remote
    assert server["read_only"] is True
    assert server["tmpfs"] == IMAGE.last("VOLUME").arguments


def test_compose_services_wait_for_what_exists() -> None:
    for service in COMPOSE.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_completed_successfully" or "healthcheck" in COMPOSE[needed]
    endpoint = urlsplit(COMPOSE["server"]["environment"]["ATHENA_FLIGHT_AWS__S3_ENDPOINT"])
    assert str(endpoint.port) in COMPOSE[str(endpoint.hostname)]["command"]


def test_compose_has_the_moto_that_is_tested_here() -> None:
    pins = (DEPLOY.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = re.search(r"'moto\[server\]==([\d.]+)'", COMPOSE["aws"]["build"]["dockerfile_inline"])
    assert found is not None
    assert f"moto=={found[1]}" in pins


def _written(found: config.Config) -> int:
    """Bytes that /tmp must take, and still be thought to have room."""
    kept = found.submitted.bytes_max + found.duckdb.results_bytes_max
    return _bytes(found.duckdb.temp_bytes_max) + kept + found.limits.disk_free_min


def _bytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", size).groups()  # type: ignore[union-attr]
    return int(number) * {"GB": 10**9, "Gi": 2**30, "Mi": 2**20}[unit]
