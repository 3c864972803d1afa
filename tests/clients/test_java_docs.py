"""Every Java block of the pages runs, and prints what the page says; the example prints prices."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from flight_server.server import Server
from tests.fix_client import ROOT
from tests.fix_java import PROJECT, JavaClient

PAGES = {"clients/java/README.md": 6, "docs/clients.md": 5, "README.md": 1}
BLOCK = re.compile(r"^```java\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
URL = "grpc://localhost:8815"
# For blocks that show no imports, and beside those that do: java.base as jshell has it, and what the client hands out.
IMPORTS = ["io.athenaflight.client", "java.nio.file", "java.time", "java.util", "org.apache.arrow.vector"]
END = "--- end of block"


def program(page: str, url: str) -> tuple[str, list[str]]:
    """All blocks of a page as one program, and what it prints of each according to the page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    # A page of all clients has a part for this one; its JDBC program is run by tests/integration/test_clients_docs.py.
    _, part, rest = text.partition("\n## Java\n")
    blocks = BLOCK.findall(rest.partition("\n## ")[0] if part else text)
    lines = [
        line for code, _ in blocks for line in [*code.replace(URL, url).splitlines(), f'System.out.println("{END}");']
    ]
    imports = [f"import {package}.*;" for package in IMPORTS] + [line for line in lines if line.startswith("import ")]
    body = [line for line in lines if not line.startswith("import ")]
    main = ["class Page {", "public static void main(String[] args) throws Exception {", *body, "}", "}"]
    return "\n".join([*imports, *main]), [said.strip() for _, said in blocks]


def printed(java_client: JavaClient, page: str, folder: Path, url: str) -> tuple[list[str], list[str]]:
    source, said = program(page, url)
    file = folder / "Page.java"
    file.write_text(source, encoding="utf-8")
    found = java_client.run(str(file)).split(END)[:-1]
    return [each.strip() for each in found], said


def test_blocks_print_what_the_pages_say(java_client: JavaClient, demo_server: Server, tmp_path: Path) -> None:
    for page, blocks in PAGES.items():
        found, said = printed(java_client, page, tmp_path, f"grpc://localhost:{demo_server.port}")
        assert len(said) == blocks
        assert found == said


def test_the_example_prints_daily_prices(java_client: JavaClient, demo_server: Server) -> None:
    url = f"grpc://localhost:{demo_server.port}"
    found = java_client.run("io.athenaflight.client.examples.DailyPrices", url, "AAPL", "2010-01-04", "2010-01-06")
    assert found == "2010-01-04  214.01\n2010-01-05  214.38\n2010-01-06  210.97\n"


def test_opentelemetry_is_optional(java_client: JavaClient, demo_server: Server) -> None:
    jars = java_client.classpath.split(os.pathsep)
    without = os.pathsep.join(jar for jar in jars if "opentelemetry" not in jar)
    assert len(without) < len(java_client.classpath)
    url = f"grpc://localhost:{demo_server.port}"
    program = "io.athenaflight.client.examples.DailyPrices"
    found = replace(java_client, classpath=without).run(program, url, "AAPL", "2010-01-04", "2010-01-04")
    assert found == "2010-01-04  214.01\n"


def test_the_readme_names_the_project_and_its_flags() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    pom = ET.parse(PROJECT / "pom.xml").getroot()
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    for tag in ("groupId", "artifactId", "version"):
        assert f"<{tag}>{pom.findtext(f'm:{tag}', namespaces=space)}</{tag}>" in text
    flags = [found.text for found in pom.iter("{http://maven.apache.org/POM/4.0.0}module.flags")]
    assert flags
    for flag in " ".join(filter(None, flags)).split():
        assert flag.startswith("${") or f"`{flag}`" in text
    version = pom.findtext("m:properties/m:arrow.version", namespaces=space)
    assert f"`flight-core`\n{version}" in text
