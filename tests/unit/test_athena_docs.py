"""docs/athena.md and deploy/: every setting with its default, policies of what the code calls, one text for both."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyiceberg.catalog.glue as glue_catalog
import pytest

from flight_server.config import Config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "athena.md").read_text()
SETTINGS = dict(re.findall(r"^\| `((?:athena|results|lock|aws)\.\w+)` \| (.*?) \|", TEXT, re.MULTILINE))
# What Athena and S3's clients do in the caller's name, as AWS documents it.
BY_ATHENA = {"glue:GetDatabase", "s3:GetBucketLocation"}
BY_S3_CLIENTS = {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}


def calls(paths: list[Path], owner: str) -> set[str]:
    """`GetTable` for each `….<owner>.get_table(…)`."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                value = node.func.value
                if (isinstance(value, ast.Attribute) and value.attr == owner) or (
                    isinstance(value, ast.Name) and value.id == owner
                ):
                    found.add("".join(word.capitalize() for word in node.func.attr.split("_")))
    return found


def policy(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy" / name).read_text())
    return found


def actions(name: str) -> set[str]:
    listed = [action for statement in policy(name)["Statement"] for action in statement["Action"]]
    return set(listed)


def test_every_setting_is_there_with_its_default() -> None:
    config = Config()
    known = {
        f"{section}.{field}": value
        for section in ("athena", "results", "lock", "aws")
        for field, value in getattr(config, section)
    }
    assert set(SETTINGS) == set(known)
    for name, value in known.items():
        said = SETTINGS[name].strip("`")
        assert said == str(value) if value not in (None, "") else not re.fullmatch(r"[\d.]+", said), name


@pytest.mark.parametrize("name", ["iam-policy.json", "results-lifecycle.json"])
def test_what_is_shown_is_what_is_shipped(name: str) -> None:
    assert f"```json\n{(ROOT / 'deploy' / name).read_text()}```" in TEXT


@pytest.mark.parametrize("name", ["iam-policy.json", "iam-policy-maintain.json"])
def test_policies_have_the_form_of_policies(name: str) -> None:
    found = policy(name)
    assert found["Version"] == "2012-10-17"
    for statement in found["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Sid"].isalnum()
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(re.fullmatch(r"arn:aws:(athena|glue|s3):.+", resource) for resource in resources)
        assert "*" not in resources
        assert not any("*" in action for action in statement["Action"])


@pytest.mark.parametrize("name", ["iam-policy.json", "iam-policy-maintain.json"])
def test_actions_exist_and_are_for_their_resources(name: str) -> None:
    """As parliament knows them; what the words in capitals stand for has to look like it."""
    text = (ROOT / "deploy" / name).read_text()
    for word, stands_for in (("REGION", "eu-west-1"), ("ACCOUNT", "123456789012"), ("_BUCKET", "-bucket")):
        text = text.replace(word, stands_for)
    lint = str(Path(sys.executable).with_name("parliament"))
    done = subprocess.run([lint], input=text, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_athena_actions_are_those_that_the_code_calls() -> None:
    called = calls([ROOT / "flight_server/engines/athena/api.py"], "_client")
    assert {action for action in actions("iam-policy.json") if action.startswith("athena:")} == {
        f"athena:{call}" for call in called
    }


def test_glue_actions_are_those_that_the_code_calls() -> None:
    called = calls([Path(glue_catalog.__file__), ROOT / "flight_server/tables/locate.py"], "glue")
    # Nothing here drops a table or changes a database.
    unused = {"DeleteTable", "DeleteDatabase", "UpdateDatabase"}
    assert unused < called
    named = actions("iam-policy.json") | actions("iam-policy-maintain.json")
    assert {action for action in named if action.startswith("glue:")} == {f"glue:{call}" for call in called - unused}
    assert "glue:GetDatabase" in BY_ATHENA


def test_s3_actions_are_those_that_the_code_calls() -> None:
    sources = [ROOT / "flight_server/tables/lock.py", ROOT / "flight_server/cli/results.py"]
    called = {f"s3:{call}" for call in calls(sources, "_client")} | {"s3:ListBucket"}
    assert "list_objects_v2" in sources[1].read_text()
    for name in ("iam-policy.json", "iam-policy-maintain.json"):
        named = {action for action in actions(name) if action.startswith("s3:")}
        assert named <= called | BY_ATHENA | BY_S3_CLIENTS
    assert called <= actions("iam-policy.json")


def test_the_server_may_not_write_to_the_warehouse() -> None:
    for statement in policy("iam-policy.json")["Statement"]:
        if "WAREHOUSE_BUCKET/" in json.dumps(statement["Resource"]):
            assert statement["Action"] == ["s3:GetObject"]
