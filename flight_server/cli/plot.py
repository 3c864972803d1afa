"""Drawing a result on the terminal: one chart for each number, one line for each series, over the first date column."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from itertools import islice
from shutil import get_terminal_size

import pyarrow as pa

from flight_server.errors import SetupError, to_install
from flight_server.model import Column, Dataset

# A terminal shows a few hundred points a line; ten years of days for ten stocks is far more than it can.
_ROWS_MAX = 50_000
_CHARTS_MAX = 6
_SERIES_MAX = 8
_CHART_HEIGHT = 14


def draw(dataset: Dataset, batches: Iterable[pa.RecordBatch]) -> None:
    """Print the charts. Columns of the key that are no date tell the series apart: `meta_id=1`.

    Raises SetupError when there is nothing to draw, or plotext is not installed.
    """
    try:
        import plotext
    except ImportError as error:
        raise SetupError("bad-output", f"--plot needs plotext; {to_install('plot')}") from error
    days, numbers = _columns(dataset)
    names = [column.name for column in dataset.columns if column.name in dataset.key and column is not days]
    series: dict[str, list[tuple[datetime, dict[str, float]]]] = {}
    rows = 0
    for batch in batches:
        for row in batch.slice(0, _ROWS_MAX - rows).to_pylist():
            label = " ".join(f"{name}={row[name]}" for name in names)
            moment = _moment(row[days.name])
            if moment is not None:
                series.setdefault(label, []).append((moment, row))
        rows += batch.num_rows
        if rows >= _ROWS_MAX:
            break
    if not series:
        raise SetupError("bad-output", "the result has no rows to draw")
    width = get_terminal_size().columns
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, _CHART_HEIGHT * len(numbers))
    figure.subplots(len(numbers), 1)
    for position, column in enumerate(numbers, 1):
        chart = figure.subplot(position, 1)
        chart.plot_size(width, _CHART_HEIGHT)
        chart.theme("default" if sys.stdout.isatty() else "colorless")
        chart.title(f"{column.name}{f' ({column.unit})' if column.unit else ''}")
        chart.date("x").activate(form="%Y-%m-%d")
        for label, points in islice(series.items(), _SERIES_MAX):
            drawn = [(moment, row[column.name]) for moment, row in points if row[column.name] is not None]
            if drawn:
                signal = chart.signal([moment for moment, _ in drawn], [float(value) for _, value in drawn])
                signal.lines()
                signal.label(label)
                chart.draw(signal)
    text = str(figure.build())
    print(text if sys.stdout.isatty() else "\n".join(line.rstrip() for line in plotext.uncolorize(text).splitlines()))
    _note(rows, len(series), dataset, numbers)


def _columns(dataset: Dataset) -> tuple[Column, Sequence[Column]]:
    """The first column of dates or moments, and those of numbers that are not part of the key."""
    moments = [c for c in dataset.columns if pa.types.is_date(c.type) or pa.types.is_timestamp(c.type)]
    numbers = [
        column
        for column in dataset.columns
        if column.name not in dataset.key
        and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_decimal(column.type))
    ]
    if not moments or not numbers:
        raise SetupError("bad-output", f"{dataset.name} has no {'numbers' if moments else 'date'} to draw")
    return moments[0], numbers[:_CHARTS_MAX]


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return datetime(value.year, value.month, value.day) if isinstance(value, date) else None


def _note(rows: int, series: int, dataset: Dataset, numbers: Sequence[Column]) -> None:
    if rows >= _ROWS_MAX:
        print(f"the first {_ROWS_MAX:,} rows", file=sys.stderr)
    if series > _SERIES_MAX:
        print(f"the first {_SERIES_MAX} of {series} series", file=sys.stderr)
    if len(numbers) == _CHARTS_MAX:
        print(f"the first {_CHARTS_MAX} numbers of {dataset.name}", file=sys.stderr)
