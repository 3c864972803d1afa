"""`athena-flight new`: the starter passes as it is, over every table, and nothing is overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flight_server.authoring.check import check
from flight_server.authoring.new import create
from flight_server.authoring.run_tests import run_tests
from flight_server.config import Config, Datasets
from flight_server.errors import SetupError, TableError

DDL = Path(__file__).parents[2] / "sql" / "tables"


def test_a_starter_over_every_table_passes_check_and_test(folder_config: Config, tmp_path: Path) -> None:
    directory = tmp_path / "fresh"
    shutil.copytree(DDL, directory / "tables")
    names = [path.stem for path in sorted(DDL.glob("*.sql"))]
    for number, name in enumerate(names):
        create(directory, f"starter_{number}", name)
    assert check(directory) == []
    config = folder_config.model_copy(update={"datasets": Datasets(directory=directory)})
    found = list(run_tests(config))
    assert [outcome.problems for outcome in found if outcome.problems] == []
    assert {outcome.dataset.name for outcome in found} == {f"starter_{n}" for n in range(len(names))}


def test_the_default_table_is_the_first_with_dates(folder: Path) -> None:
    sql, test = create(folder, "mine")
    assert "FROM market.prices AS t" in sql.read_text()
    assert test.name == "mine.test.toml"
    assert check(folder) == []


@pytest.mark.parametrize("taken", ["mine.sql", "mine.test.toml"])
def test_what_exists_is_never_overwritten(folder: Path, taken: str) -> None:
    (folder / taken).write_text("precious")
    with pytest.raises(SetupError, match="it is left as it is"):
        create(folder, "mine")
    assert (folder / taken).read_text() == "precious"
    assert len(list(folder.glob("mine*"))) == 1


@pytest.mark.parametrize("name", ["Mine", "1st", "a-b", "../x", "", "a.v2"])
def test_a_name_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SetupError, match="is no dataset name"):
        create(folder, name)


def test_an_unknown_table_is_named_with_the_nearest(folder: Path) -> None:
    with pytest.raises(TableError, match=r"did you mean 'market\.prices'"):
        create(folder, "mine", "market.pirces")
