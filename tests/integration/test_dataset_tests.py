"""`athena-flight test`: cases over real Iceberg tables, and what is tested without any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.authoring.run_tests import run_tests
from flight_server.config import Config
from flight_server.errors import DatasetError

Edit = Callable[..., Path]
FREE = ["example", "with last, most", "with most", "with no optional parameter"]


def outcomes(config: Config) -> dict[str, tuple[str, ...]]:
    return {outcome.case: outcome.problems for outcome in run_tests(config)}


def test_cases_pass_and_the_contract_is_tested_too(folder_config: Config) -> None:
    assert outcomes(folder_config) == dict.fromkeys(["both days", *FREE], ())


# Parameters, what is expected of them, and the problem said; none for a case that passes.
CASES = [
    ('stock = "A", first = 2024-01-03', "rows = [{ close = 2.28 }]\nmax_files = 1", ""),
    ('stock = "A", first = 2024-01-03', "rows = [{ close = 2.25 }]", "row 1: close is 2.28, expected 2.25"),
    ('stock = "A", first = 2024-01-03', "rows = [{ close = 2.25 }]\napprox = 0.1", ""),
    ('stock = "A", first = 2024-01-03', "rows = []", "expected 0 rows, got 1"),
    ('stock = "A", first = 2024-01-03', "max_files = 0", "it reads 1 files, at most 0 are expected"),
    ('stock = "A", first = 2024-01-03', 'error = "range"', "expected the error 'range', got 1 rows"),
    ('stock = "A"', "rows = []", "it failed: [missing-parameter] closes needs 'first' (date), for example"),
    ('stock = "A", first = 2024-02-01, last = 2024-01-01', 'error = "range"', ""),
    ('stock = "A", first = 2024-02-01, last = 2024-01-01', 'error = "rule-violated"', ""),
    ('stock = "A"', 'error = "first"', ""),
    ('stock = "A"', 'error = "missing-parameter"', ""),
    ('stock = "ABCDEFGHIJ", first = 2024-02-01', 'error = "stock"', ""),
    ('stock = "ABCDEFGHIJ", first = 2024-02-01', 'error = "bad-parameter"', ""),
    ('stock = "A", first = 2024-02-01, lats = 2024-01-01', 'error = "unknown-parameter"', ""),
    ('stock = "A"', 'error = "stock"', "expected the error 'stock', got [missing-parameter] closes needs 'first'"),
    ('stock = "A"', 'error = "rnage"', "error = 'rnage' is no code, rule or parameter; did you mean 'range'?"),
]


def test_a_case_that_is_not_met_says_why(folder_config: Config, folder: Path) -> None:
    inputs = (folder / "closes.test.toml").read_text().partition("[[case]]")[0]
    written = [f'[[case]]\nname = "{n}"\nparams = {{ {p} }}\n{expected}\n' for n, (p, expected, _) in enumerate(CASES)]
    (folder / "closes.test.toml").write_text(inputs + "".join(written))
    found = outcomes(folder_config)
    for number, (params, expected, problem) in enumerate(CASES):
        said = "; ".join(found[str(number)])
        assert said.startswith(problem), (params, expected)
        assert bool(said) == bool(problem), (params, expected)


def test_the_contract_is_tested_without_any_case(folder_config: Config, folder: Path, edit: Edit) -> None:
    edit("closes.sql", ('-- key     = ["day"]', '-- key     = ["close"]'))
    rows = '[inputs."market.prices"]\nrows = [{ stock = "A", day = 2024-01-02 }, { stock = "A", day = 2024-01-03 }]\n'
    (folder / "closes.test.toml").write_text(rows)
    found = outcomes(folder_config)
    assert list(found) == FREE
    assert found["with no optional parameter"] == ("key: more than one row has close = None",)
    edit("closes.sql", ('"float32" }', '"float32", null = false }'))
    assert "promises no nulls" in outcomes(folder_config)["with no optional parameter"][0]


def test_every_choice_of_an_enum_is_asked(folder_config: Config, folder: Path, edit: Edit) -> None:
    edit("closes.sql", ('"string", max_length = 9, example = "A"', '"enum", choices = ["A", "B"], example = "A"'))
    found = outcomes(folder_config)
    assert [case for case in found if case.startswith("stock")] == ["stock = B"]


def test_without_an_example_of_a_required_parameter_only_the_cases_run(folder_config: Config, edit: Edit) -> None:
    edit("closes.sql", (', example = "A"', ""))
    assert list(outcomes(folder_config)) == ["both days"]


def test_examples_that_break_a_rule_are_said(folder_config: Config, edit: Edit) -> None:
    edit("closes.sql", ("example = 2024-12-31", "example = 2023-12-31"))
    assert "give the parameters examples that go together" in outcomes(folder_config)["example"][0]


def test_today_is_that_of_the_file(folder_config: Config, folder: Path, edit: Edit) -> None:
    edit("closes.sql", ('"date", example = 2024-01-01', '"date", default = "today - 1d"'))
    edit("closes.test.toml", (", first = 2024-01-01", ""), ("[inputs", "today = 2024-01-03\n[inputs"))
    assert outcomes(folder_config)["both days"] == ()
    edit("closes.test.toml", ("today = 2024-01-03", "today = 2024-01-04"))
    assert outcomes(folder_config)["both days"][0] == "expected 2 rows, got 1"


def test_inputs_come_from_csv_files_too(folder_config: Config, folder: Path) -> None:
    (folder / "prices.csv").write_text("day,stock,close\n2024-01-05,A,7.5\n")
    (folder / "closes.test.toml").write_text(
        '[inputs."market.prices"]\ncsv = "prices.csv"\n'
        '[[case]]\nname = "x"\nparams = { stock = "A", first = 2024-01-01 }\n'
        "rows = [{ day = 2024-01-05, close = 7.5 }]\n"
    )
    assert outcomes(folder_config)["x"] == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("market.prices", "market.pirces", "inputs: there is no DDL of 'market.pirces'; did you mean 'market.prices'?"),
        (
            "shares = 90",
            "shraes = 90",
            "inputs.market.prices: column 'shraes' is not in the table; did you mean 'shares'?",
        ),
        ("shares = 90", "shares = 9.5", "inputs.market.prices: row 3: shares = 9.5 is no int64"),
        ('{ stock = "B", ', "{ ", "inputs.market.prices: row 3: 'stock' must not be null"),
    ],
)
def test_inputs_that_do_not_fit_are_named(folder_config: Config, edit: Edit, old: str, new: str, message: str) -> None:
    edit("closes.test.toml", (old, new))
    with pytest.raises(DatasetError) as caught:
        outcomes(folder_config)
    assert message in str(caught.value)


def test_a_test_file_without_dataset_is_an_error(folder_config: Config, folder: Path) -> None:
    (folder / "close.test.toml").write_text("")
    with pytest.raises(DatasetError, match=r"this file tests no dataset; did you mean 'closes\.test\.toml'"):
        outcomes(folder_config)


def test_a_dataset_for_athena_is_tested_on_duckdb(folder_config: Config, edit: Edit) -> None:
    edit("closes.sql", ("-- ///\nSELECT", '--\n-- [route]\n-- engine = "athena"\n-- ///\nSELECT'))
    assert outcomes(folder_config)["both days"] == ()


def test_versions_have_their_own_files(folder_config: Config, folder: Path) -> None:
    (folder / "closes.v2.sql").write_text((folder / "closes.sql").read_text().replace("version = 1", "version = 2"))
    (folder / "closes.v2.test.toml").write_text((folder / "closes.test.toml").read_text())
    found = [(outcome.dataset.version, outcome.path.name) for outcome in run_tests(folder_config, "closes")]
    assert (1, "closes.test.toml") in found
    assert (2, "closes.v2.test.toml") in found
