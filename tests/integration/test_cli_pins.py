"""`athena-flight pins`: what it lists, makes and removes in real tables, also where somebody was killed halfway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.flight as flight
import pytest
from pyiceberg.catalog import Catalog
from typer.testing import CliRunner, Result

from flight_server.cli import app
from flight_server.tables.catalog import find_table, open_catalog
from flight_server.tables.pins import Tags, listed
from tests.fix_identity import Client, Lake
from tests.processes import ROOT, toml

Run = Callable[..., Result]
# Makes a pin on two tables, and ends between the two commits as one that is killed does.
KILLED = """
import os, sys
from pathlib import Path
from flight_server.config import load
from flight_server.tables.catalog import open_catalog
from flight_server.tables.pins import Tags

class Killed(Tags):
    done = 0

    def _commit(self, name, change):
        if self.done:
            os._exit(9)
        self.done += 1
        return super()._commit(name, change)

getattr(Killed(open_catalog(load(Path(sys.argv[1])))), sys.argv[2])("half", eval(sys.argv[3]))
"""


@pytest.fixture
def settings(lake_copy: Lake) -> Path:
    path = lake_copy.folder / "settings.toml"
    path.write_text(toml(lake_copy.settings()))
    return path


@pytest.fixture
def lake(lake_copy: Lake) -> Iterator[Catalog]:
    with closing(open_catalog(lake_copy.settings())) as catalog:
        yield catalog


@pytest.fixture
def run(settings: Path) -> Run:
    return lambda *words: CliRunner().invoke(app, ["pins", *words, "--config", str(settings)])


def current(lake: Catalog, name: str) -> int:
    return find_table(lake, name).metadata.current_snapshot_id or 0


def rows(result: Result) -> list[list[str]]:
    assert (result.exit_code, result.stderr) == (0, "")
    return [line.split("\t")[:3] for line in result.stdout.splitlines()]


def killed(settings: Path, verb: str, argument: object) -> None:
    words = [sys.executable, "-c", KILLED, str(settings), verb, repr(argument)]
    assert subprocess.run(words, cwd=ROOT, check=False, timeout=120).returncode == 9


def test_a_pin_is_made_listed_and_removed(run: Run, lake: Catalog) -> None:
    assert rows(run()) == []
    both = [["end", name, str(current(lake, name))] for name in ("p.nav", "p.open")]
    assert rows(run("add", "end", "p.nav", "p.open")) == both
    one = [["mid", "p.open", str(current(lake, "p.open"))]]
    assert rows(run("add", "mid", f"p.open={one[0][2]}")) == one
    # The same again changes nothing.
    assert rows(run("add", "end", "p.open", "p.nav")) == both
    find_table(lake, "p.open").append(find_table(lake, "p.open").scan().to_arrow())
    assert rows(run()) == [*both, *one]
    moved = run("add", "end", "p.nav", "p.open")
    assert (moved.exit_code, moved.stdout) == (1, "")
    assert moved.stderr == "error: there is a pin 'end' already; choose another name, or remove it\n"
    assert rows(run("remove", "end")) == [["end", "p.nav", "removed"], ["end", "p.open", "removed"]]
    assert rows(run()) == one
    assert not [name for name in find_table(lake, "p.nav").properties if name.startswith("athena-flight.pin.")]


def test_without_tables_all_that_have_rows_are_kept(run: Run, lake: Catalog) -> None:
    made = rows(run("add", "all"))
    assert {row[1]: int(row[2]) for row in made} == {
        ".".join(name): current(lake, ".".join(name)) for name in lake.list_tables("p")
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["add", "1st", "p.nav"], 2, "is no name of a pin"),
        (["add", "end", "p.naw"], 1, "there is no table 'p.naw'; did you mean 'p.nav'?"),
        (["add", "end", "p.nav=x"], 1, "a snapshot is a whole number"),
        (["add", "other", "p.nav=1"], 1, "p.nav has no snapshot 1"),
        (["remove", "ent"], 1, "there is no pin 'ent'; did you mean 'end'?"),
    ],
)
def test_what_cannot_be_pinned_is_one_line(run: Run, lake: Catalog, words: list[str], code: int, said: str) -> None:
    Tags(lake).create("end", {"p.open": current(lake, "p.open")})
    refused = run(*words)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert said in refused.stderr
    assert [(pin.name, len(pin.tables)) for pin in listed(lake)] == [("end", 1)]


def test_a_pin_of_one_who_was_killed_is_shown_as_incomplete_and_removed(
    run: Run, lake: Catalog, settings: Path
) -> None:
    snapshots = {name: current(lake, name) for name in ("p.nav", "p.open")}
    killed(settings, "create", snapshots)
    shown = run()
    assert (shown.exit_code, shown.stderr) == (
        0,
        "half is incomplete; `athena-flight pins remove half` lets it go\n",
    )
    nav = ["half", "p.nav", str(snapshots["p.nav"])]
    assert [line.split("\t")[:3] for line in shown.stdout.splitlines()] == [nav, ["half", "p.open", "missing"]]
    again = run("add", "half", "p.nav", "p.open")
    assert (again.exit_code, "an incomplete pin 'half'" in again.stderr) == (1, True)
    assert rows(run("remove", "half")) == [["half", "p.nav", "removed"]]
    assert rows(run()) == []
    assert len(rows(run("add", "half", "p.nav", "p.open"))) == 2


def test_a_pin_whose_removal_was_killed_is_shown_as_incomplete_and_removed(
    run: Run, lake: Catalog, settings: Path
) -> None:
    Tags(lake).create("half", {name: current(lake, name) for name in ("p.nav", "p.open")})
    killed(settings, "remove", ["p.nav", "p.open"])
    assert [(pin.missing, [each.table for each in pin.tables]) for pin in listed(lake)] == [(("p.nav",), ["p.open"])]
    assert rows(run("remove", "half")) == [["half", "p.open", "removed"]]
    assert rows(run()) == []


def test_pins_of_another_engine_and_of_a_server_are_listed(run: Run, lake: Catalog, lake_copy: Lake) -> None:
    find_table(lake, "p.nav").manage_snapshots().create_tag(current(lake, "p.nav"), "spark").commit()
    with lake_copy.serve() as server, flight.connect(f"grpc://localhost:{server.port}") as client:
        operator = Client(client, lake_copy.issuer.token(sub="olga", roles=["operator"]))
        operator.action("pin", {"name": "served", "tables": ["p.open"]})
        assert [row[:2] for row in rows(run())] == [["served", "p.open"], ["spark", "p.nav"]]
        rows(run("remove", "spark"))
        rows(run("add", "typed", "p.nav"))
        assert {pin["name"] for pin in operator.action("pins", {})["pins"]} == {"served", "typed"}
