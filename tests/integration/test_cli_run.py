"""The commands that answer in this process: output, files, exit codes, and what goes to which stream."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from flight_server.authoring import export
from flight_server.cli import main

ASKED = ("daily_prices", "ticker=AAPL", "start_date=2010-01-04", "end_date=2010-01-29")


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


Call = Callable[..., Done]


@pytest.fixture
def call(demo_file: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Call:
    """`athena-flight <words>` over the demo tables, in this process; standard output is no terminal."""

    def run(*words: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([words[0], "--config", str(demo_file), *words[1:]])
        said = capsysbinary.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err.decode())

    return run


def test_rows_in_a_pipe_are_tab_separated_and_complete(call: Call) -> None:
    done = call("run", *ASKED)
    assert (done.code, done.err) == (0, "")
    lines = [line.split("\t") for line in done.text.splitlines()]
    assert lines[0] == ["trade_date", "close", "adj_close", "gross_return", "ticker", "name", "sector"]
    assert lines[1][:2] == ["2010-01-04", "214.01"]
    assert len(lines) == 20


def test_lists_maps_and_the_query_form_are_taken(call: Call) -> None:
    done = call("run", "basket_value", "weights=1:1", "weights=5:0", "start_date=2010-01-04", "end_date=2010-01-04")
    assert done.text.splitlines()[1].startswith("2010-01-04\t27.5")
    same = call("run", "daily_prices?ticker=AAPL&start_date=2010-01-04", "end_date=2010-01-29")
    assert same.out == call("run", *ASKED).out


def test_csv_and_arrow_are_streamed_to_a_pipe(call: Call) -> None:
    csv = pa_csv.read_csv(io.BytesIO(call("run", *ASKED, "--format", "csv").out))
    arrow = pa.ipc.open_stream(call("run", *ASKED, "--format", "arrow").out).read_all()
    assert csv.num_rows == arrow.num_rows == 19
    assert arrow.schema.metadata[b"athena_flight.dataset"] == b"daily_prices"
    assert arrow.schema.field("close").type == pa.float32()


def test_files_are_written_by_their_suffix(call: Call, tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet", "a.arrow"):
        done = call("run", *ASKED, "-o", str(tmp_path / name))
        assert (done.code, done.out) == (0, b"")
        assert done.err == f"{tmp_path / name}: 19 rows\n"
    parquet = pq.read_table(tmp_path / "a.parquet")
    with pa.ipc.open_file(tmp_path / "a.arrow") as file:
        assert file.read_all().equals(parquet)
    assert parquet.column("close")[0].as_py() == pytest.approx(214.01, rel=1e-6)
    assert pa_csv.read_csv(tmp_path / "a.csv").num_rows == 19
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.arrow", "a.csv", "a.parquet"]


SCHEMA = pa.schema([("x", pa.int64())])


def _batches(count: int, allocated: list[int] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of 512 KiB; Arrow's memory at each step goes into `allocated`. With a negative count the last fails."""
    for number in range(abs(count)):
        yield pa.record_batch([pa.array(range(number, number + 65_536))], schema=SCHEMA)
        if allocated is not None:
            allocated.append(pa.total_allocated_bytes())
    if count < 0:
        raise RuntimeError("broke off")


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_a_result_that_breaks_off_leaves_what_was_there(form: export.Format, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        export.to_file(path, form, SCHEMA, _batches(-3))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with path.open() as opened:
        export.to_file(path, "csv", SCHEMA, _batches(1))
        # Who has the old file open goes on reading it, and never sees a mixture.
        assert opened.read() == "old"
    assert path.read_text().startswith('"x"\n0\n1\n')


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_memory_does_not_grow_with_the_result(form: export.Format, tmp_path: Path) -> None:
    allocated: list[int] = []
    assert export.to_file(tmp_path / "out", form, SCHEMA, _batches(40, allocated)) == 40 * 65_536
    # 20 MiB went through; two batches and what the writer needs for one may be there at a time.
    assert max(allocated[5:]) - allocated[4] < 4 << 20


def test_explain_is_json_with_both_queries(call: Call) -> None:
    done = call("explain", *ASKED[:3])
    plan = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert plan["params"] == {"ticker": "AAPL", "start_date": "2010-01-04"}
    assert plan["dropped"] == ["end_date"]
    assert plan["estimate"]["files"] > 0
    assert '"market_data"."us_stocks_price"' in plan["sql"]
    assert "iceberg_scan" in plan["engine_sql"].lower()


def test_datasets_are_listed_for_people_and_programs(call: Call) -> None:
    rows = [line.split("\t") for line in call("datasets").text.splitlines()]
    assert ["daily_prices", "1", "ticker, start_date, end_date?", "Daily prices"] in rows
    found = json.loads(call("datasets", "--json").out)
    assert [each["dataset"] for each in found] == [row[0] for row in rows]
    assert found[0]["columns"][0]["type"] == "string"


def test_version_and_check_and_test(call: Call, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(SystemExit):
        main(["version"])
    assert capsysbinary.readouterr().out.startswith(b"athena-flight 0.")
    done = call("check")
    assert (done.code, done.out) == (0, b"")
    assert "all right" in done.err
    done = call("test", "price_history")
    assert done.code == 0
    assert done.text.startswith("price_history\t")
    assert " passed, 0 failed" in done.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "daily_price"), 1, "error: [unknown-dataset] there is no dataset 'daily_price'; did you mean"),
        (("run", "daily_prices"), 1, "error: [missing-parameter] daily_prices needs 'ticker' (string)"),
        (("run", "daily_prices", "tiker=A"), 1, "error: [unknown-parameter] daily_prices has no parameter 'tiker'"),
        (("run", *ASKED[:3], "end_date=2000-01-01"), 1, "error: [rule-violated] "),
        (("run", *ASKED, "-o", "/nowhere/a.csv"), 1, "error: [bad-output] cannot write '/nowhere/a.csv': No such file"),
        (("run", "aggregate_stats", "tickers=AAPL", "start_date=2010-01-04", "--plot"), 1, "has no date to draw"),
        (("check", "daily_price"), 1, "1 wrong in "),
        (("new", "Bad"), 1, "error: [bad-dataset] 'Bad' is no dataset name"),
        (("test", "nope"), 1, "there is no dataset 'nope'"),
        (("check", "--against", "nonsense"), 1, "error: [bad-reference] git: "),
        (("run", "daily_prices", "ticker"), 2, "'ticker' is not PARAM=VALUE"),
        (("run", *ASKED, "--format", "json"), 2, "is not one of"),
        (("run", *ASKED, "--format", "parquet"), 2, "parquet needs --output"),
        (("run", *ASKED, "-o", "a.txt"), 2, "say --format"),
        (("run", *ASKED, "-o", "a.csv", "--plot"), 2, "leave out --format and --output"),
        (("run",), 2, "Missing argument"),
        (("serve", "--port", "x"), 2, "unable to parse string as an integer"),
    ],
)
def test_failures_are_one_line_on_stderr(call: Call, words: tuple[str, ...], code: int, message: str) -> None:
    done = call(*words)
    assert done.code == code
    # Usage errors stand in a box that breaks lines.
    assert message in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    if code == 1:
        assert done.err.count("\n") == 1


def test_wrong_settings_and_unknown_commands(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for words, code, message in (
        (["check", "--config", "/nowhere.toml"], 1, b"error: [bad-config] there is no configuration file"),
        (["chekc"], 2, b"No such command 'chekc'"),
        ([], 2, b"Usage"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsysbinary.readouterr()
        assert ended.value.code == code
        assert message in said.err + said.out


def test_check_lists_what_is_wrong_on_stdout(
    folder: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text(f'[datasets]\ndirectory = "{folder}"\n')
    (folder / "closes.sql").write_text((folder / "closes.sql").read_text().replace("p.close,", "p.cloes AS close,"))
    with pytest.raises(SystemExit) as ended:
        main(["check", "--config", str(settings)])
    said = capsysbinary.readouterr()
    assert ended.value.code == 1
    assert said.out.decode() == f"{folder}/closes.sql:21:15: there is no column 'cloes' here; did you mean 'close'?\n"


@pytest.mark.parametrize("command", ["demo", "serve", "check", "test", "new", "explain", "run", "datasets"])
def test_help_has_an_example(command: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"athena-flight {command}" in " ".join(capsysbinary.readouterr().out.decode().split("Usage:")[1].split()[3:])


def test_help_lists_every_command_in_order(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsysbinary.readouterr().out.decode()
    # In the box of commands each stands first on its line.
    listed = [words[1] for line in out.partition("Commands")[2].splitlines() if len(words := line.split()) > 2]
    commands = ["demo", "serve", "check", "test", "new", "explain", "run", "datasets", "tables", "version"]
    assert [word for word in listed if word in commands] == commands


def test_plot_draws_a_line_for_each_stock(call: Call) -> None:
    done = call("run", "returns", "meta_ids=1", "meta_ids=4", "start_date=2012-01-03", "--plot")
    assert done.code == 0
    for part in ("adj_close (USD)", "simple_return (fraction)", "meta_id=1", "meta_id=4", "2012-"):
        assert part in done.text
    assert "\x1b" not in done.text


def _process(demo_file: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "flight_server", words[0], "--config", str(demo_file), *words[1:]]


def test_a_reader_that_goes_away_is_no_error_to_speak_of(demo_file: Path) -> None:
    words = _process(
        demo_file, "run", "price_history", *(f"meta_ids={n}" for n in range(1, 6)), "start_date=2000-01-01"
    )
    for form in ("table", "arrow"):
        with subprocess.Popen([*words, "--format", form], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.read(10)
            running.stdout.close()
            assert running.stderr.read() == b""


def test_a_terminal_gets_whole_columns_and_a_note(demo_file: Path) -> None:
    main_, side = pty.openpty()
    environment = os.environ | {"COLUMNS": "60", "TERM": "xterm"}
    with subprocess.Popen(_process(demo_file, "run", *ASKED[:3]), env=environment, stdout=side, stderr=side):
        os.close(side)
        said = b""
        while True:
            try:
                said += os.read(main_, 4096)
            except OSError:
                break
    os.close(main_)
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    assert re.search(r"2010-01-04 +214\.01", text)
    assert "without name, sector: the terminal is too narrow" in text
    assert "the first 40 rows" in text
    assert "2010-03-05" not in text


def test_a_missing_table_and_a_missing_dataset_say_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "one.sql").write_text(
        '-- /// dataset\n-- title = "One"\n-- [columns]\n-- n = { type = "int64" }\n-- ///\nSELECT t.n FROM shop.t AS t'
    )
    file = tmp_path / "s.toml"
    file.write_text(
        f'[datasets]\ndirectory = "{folder}"\n'
        f'[catalog]\nuri = "sqlite:///{tmp_path}/c.db"\nwarehouse = "{tmp_path}/w"\n'
    )
    for command in ("run", "explain"):
        with pytest.raises(SystemExit):
            main([command, "--config", str(file), "one"])
        assert capsys.readouterr().err == (
            "error: [internal] the table shop.t is not in the catalog; `athena-flight tables create` and `load` make it, "
            "`athena-flight demo` those of the demo\n"
        )
        with pytest.raises(SystemExit):
            main([command, "--config", str(file), "two"])
        assert capsys.readouterr().err == (
            "error: [unknown-dataset] there is no dataset 'two'; did you mean 'one'? `athena-flight datasets` names those "
            "there are\n"
        ).replace("; did you mean 'one'?", ".")
