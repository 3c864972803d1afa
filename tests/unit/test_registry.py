"""Which datasets and versions a caller sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from flight_server.datasets import registry
from flight_server.datasets.registry import Registry
from flight_server.errors import NotFound
from flight_server.model import ANONYMOUS, Caller
from tests.fix_datasets import VALID

GUEST = Caller("guest")
MANAGER = Caller("manager", frozenset({"pm"}))


@pytest.fixture
def found(tmp_path: Path) -> Registry:
    """`open` in versions 1 and 2, `closed` for the role pm, `opening` in version 1 for everybody and 2 for pm."""
    two, closed = (
        VALID.replace("-- [rules]", "-- [rules]"),
        VALID.replace("-- [rules]", '-- [access]\n-- roles = ["pm"]'),
    )
    version = '-- version = 2\n-- title = "Sample"'
    (tmp_path / "open.sql").write_text(VALID)
    (tmp_path / "open.v2.sql").write_text(two.replace('-- title = "Sample"', version))
    (tmp_path / "closed.sql").write_text(closed)
    (tmp_path / "opening.sql").write_text(VALID)
    (tmp_path / "opening.v2.sql").write_text(closed.replace('-- title = "Sample"', version))
    made, errors = registry.load(tmp_path)
    assert errors == []
    return made


def refusal(found: Registry, name: str, version: int | None, caller: Caller) -> str:
    with pytest.raises(NotFound) as caught:
        found.get(name, version, caller)
    return str(caught.value)


def test_the_newest_version_is_given_unless_one_is_asked_for(found: Registry) -> None:
    assert found.get("open", None, GUEST).version == 2
    assert found.get("open", 1, GUEST).version == 1
    assert refusal(found, "open", 3, GUEST) == "[unknown-version] open has no version 3; it has 1, 2"


def test_a_dataset_that_is_closed_answers_as_one_that_does_not_exist(found: Registry) -> None:
    assert found.get("closed", None, MANAGER).name == "closed"
    assert found.get("closed", None, ANONYMOUS).name == "closed"
    for version in (None, 1, 2):
        assert refusal(found, "closed", version, GUEST) == refusal(found, "absent", version, GUEST).replace(
            "'absent'", "'closed'"
        )


def test_a_closed_dataset_is_never_suggested(found: Registry) -> None:
    assert "did you mean" not in refusal(found, "close", None, GUEST)
    assert "did you mean 'closed'?" in refusal(found, "close", None, MANAGER)


def test_a_version_that_is_closed_is_hidden_and_the_others_are_not(found: Registry) -> None:
    assert found.get("opening", 2, MANAGER).version == 2
    assert found.get("opening", 1, GUEST).version == 1
    assert refusal(found, "opening", 2, GUEST) == "[unknown-version] opening has no version 2; it has 1"


@pytest.mark.parametrize(
    ("caller", "glob", "names"),
    [
        (MANAGER, "*", ["closed", "open", "opening"]),
        (MANAGER, "open*", ["open", "opening"]),
        (MANAGER, "[co]?????", ["closed"]),
        (GUEST, "clos*", []),
        (GUEST, "open", ["open"]),
        (GUEST, "OPEN", []),
        (GUEST, "", []),
    ],
)
def test_only_what_may_be_used_is_listed(found: Registry, caller: Caller, glob: str, names: list[str]) -> None:
    assert [dataset.name for dataset in found.visible(caller, glob)] == names


@pytest.mark.parametrize("name", ["", "Open", "open.v2", "../open", "open\n", "오픈", "o" * 10_000, "\ud800"])
def test_a_name_that_is_none_is_refused_in_one_line(found: Registry, name: str) -> None:
    said = refusal(found, name, None, ANONYMOUS)
    assert said.startswith("[unknown-dataset] there is no dataset ")
    assert "\n" not in said
    assert len(said.encode()) < 400
