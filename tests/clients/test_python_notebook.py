"""The example notebook runs in a kernel of its own against a running server, and is committed without outputs."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from flight_server.server import Server
from tests.fix_client import ROOT, client_env

NOTEBOOK = ROOT / "clients" / "python" / "examples" / "portfolio.ipynb"


@pytest.fixture
def kernel_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this very Python, whatever else is installed on the machine."""
    folder = tmp_path / "kernels" / "this"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(
        f'{{"argv": {command!r}, "display_name": "this", "language": "python"}}'.replace("'", '"')
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return "this"


def test_notebook_pulls_joins_and_plots(demo_server: Server, kernel_name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    env = client_env(ATHENA_FLIGHT_URL=f"grpc://localhost:{demo_server.port}", IPYTHONDIR=str(tmp_path))
    client = NotebookClient(
        notebook, timeout=60, kernel_name=kernel_name, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=env)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert any("<td>daily_prices</td>" in data.get("text/html", "") for data in shown)
    assert any("max_drawdown" in data["text/plain"] for data in shown)
    # The chart is a page with its data in it: all three series, each from 1 on.
    chart = shown[-1]["text/html"]
    assert "vegaEmbed" in chart
    for series in ("portfolio", "aapl", "ibm"):
        assert f'"series": "{series}", "growth": 1.0' in chart


def test_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
