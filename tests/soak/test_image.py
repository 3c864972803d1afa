"""The Dockerfile's steps carried out without a Docker engine (tests/image.py), and a server run from what they leave."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server.config import Config, Server
from tests.image import Image, build, possible
from tests.processes import Process

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not possible(), reason="needs root, mount namespaces and `strip`"),
]
# The limit of the image, and what its base image may take of it. That was not measured: the published ones of this
# kind are said to take less, and no registry of images could be reached.
IMAGE_MAX, BASE_ALLOWED = 700_000_000, 150_000_000
TICKET = flight.Ticket(b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29")
# No name that a compiler, a linker or an installer of packages has.
BUILDERS = {"gcc", "cc", "c++", "g++", "ld", "as", "make", "strip", "pip", "pip3", "cargo"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, demo_config: Config) -> str:
    """The demo's catalog and warehouse as a volume that belongs to the image's user, where their metadata expect it."""
    inside = Path(demo_config.catalog.warehouse).parent
    outside = tmp_path_factory.mktemp("volumes") / "lake"
    shutil.copytree(inside, outside)
    for path in (outside, *outside.rglob("*")):
        shutil.chown(path, 10001, 10001)
    return f"{outside}:{inside}"


@contextmanager
def container(image: Image, config: Config, lake: str, **env: str) -> Iterator[tuple[Process, dict[str, str]]]:
    """The image's own command over the demo tables, on free ports, with nothing else set."""
    names = [name for name in Server.model_fields if name.endswith("port")]
    ports = {f"ATHENA_FLIGHT_SERVER__{name.upper()}": str(_free_port()) for name in names}
    found = {"CATALOG__URI": config.catalog.uri, "CATALOG__WAREHOUSE": config.catalog.warehouse}
    settings = ports | {f"ATHENA_FLIGHT_{key}": value for key, value in (found | env).items()}
    command, *arguments = image.run(image.stage.command, lake, env=settings)
    process = Process(arguments, command)
    try:
        yield process, settings
    finally:
        process.close()


def test_server_of_the_image_answers_is_healthy_and_ends_when_told(
    image: Image, demo_config: Config, lake: str
) -> None:
    with container(image, demo_config, lake, SERVER__INSECURE_ALLOW_REMOTE="true") as (server, env):
        address = json.loads(server.wait_for('"serving"'))["address"]
        assert address == f"grpc://0.0.0.0:{env['ATHENA_FLIGHT_SERVER__PORT']}"
        with flight.connect(address.replace("0.0.0.0", "127.0.0.1")) as client:
            rows = client.do_get(TICKET).read_all()
        assert rows.num_rows == 19
        health = image.run(image.stage.last("HEALTHCHECK").arguments, env=env)
        assert subprocess.run(health, check=False).returncode == 0
        who = Path(f"/proc/{server.child.pid}/status").read_text(encoding="ascii")
        assert "Uid:\t10001\t10001\t10001\t10001" in who
        assert "CapEff:\t0000000000000000" in who
        server.child.send_signal(signal.SIGTERM)
        assert server.child.wait(demo_config.server.grace_s + 5) == 0
        assert subprocess.run(health, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_image_does_not_serve_strangers(image: Image, demo_config: Config, lake: str) -> None:
    """It listens beyond loopback, so that with nobody to be asked who they are it does not start, and says why."""
    with container(image, demo_config, lake) as (server, _):
        assert "auth" in server.wait_for("server.host")
        assert server.child.wait(60) != 0


@pytest.mark.parametrize("path", ["/srv", "/srv/sql", "/opt/athena-flight", "/usr", "/etc"])
def test_nothing_but_tmp_is_writable(image: Image, path: str) -> None:
    def touch(folder: str) -> str:
        command = image.run(["sh", "-c", f"touch {folder}/new"])
        return subprocess.run(command, check=False, capture_output=True, text=True).stderr

    assert "Read-only file system" in touch(path)
    assert touch("/tmp") == ""


def test_image_is_below_its_limit(image: Image) -> None:
    size = sum(path.lstat().st_size for path in image.files())
    # `pytest -rP` shows it.
    print(f"{size / 1e6:.0f} MB besides the base image")
    assert size < IMAGE_MAX - BASE_ALLOWED


def test_image_has_no_tools_to_build_with_and_nothing_of_the_tests(image: Image) -> None:
    names = {path.name for path in image.files()}
    assert names & BUILDERS == set()
    top = {path.name for path in (image.root / "opt/athena-flight/lib").glob("python*/site-packages/*")}
    assert top & {"pip", "setuptools", "pandas", "pytest", "moto", "polars"} == set()
    assert not [path for path in image.files() if path.name.endswith(".test.toml")]


def test_every_module_of_the_server_loads(image: Image) -> None:
    """Taking out must have broken nothing, also what a first answer does not need."""
    lines = (
        "import importlib, pkgutil, flight_server",
        "found = [each.name for each in pkgutil.walk_packages(flight_server.__path__, 'flight_server.')]",
        "also = ['pyarrow.dataset', 'pyiceberg_core', 'opentelemetry.exporter.otlp.proto.http.trace_exporter']",
        "[importlib.import_module(name) for name in found + also if not name.endswith('__main__')]",
        "import boto3; [boto3.client(name, region_name='eu-west-1') for name in ('athena', 'glue', 's3', 'sts')]",
        "print(len(found))",
    )
    assert int(_python(image, lines)) == len(list(_modules()))


def test_every_library_loads(image: Image) -> None:
    """A library that was stripped and must not be is refused by the loader, and so is one whose needs were taken out."""
    lines = (
        "import ctypes, pathlib, pyarrow, sys",
        "found = [path for path in pathlib.Path(sys.prefix).rglob('*.so*') if path.is_file()]",
        "[ctypes.CDLL(str(path), ctypes.DEFAULT_MODE) for path in found]",
        "print(len(found))",
    )
    assert int(_python(image, lines)) > 50


def _python(image: Image, lines: tuple[str, ...]) -> str:
    command = image.run(["python", "-c", "\n".join(lines)])
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _modules() -> Iterator[Path]:
    package = Path(sys.modules["flight_server"].__file__ or "").parent
    for path in package.rglob("*.py"):
        if path != package / "__init__.py":
            yield path


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
