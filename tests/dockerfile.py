"""A Dockerfile as data: its stages with their instructions, and what .dockerignore lets into the build.

Only what this project's Dockerfile uses is understood; anything else is an error, so that no step is left out unseen.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[1]
# Of these nothing is left to carry out: they are read from the stage.
_SAID = {"EXPOSE", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD", "USER"}
_DONE = {"ARG", "ENV", "WORKDIR", "COPY", "RUN"}


@dataclass(frozen=True)
class Instruction:
    """`name` in capitals, `value` with its lines joined."""

    name: str
    value: str

    @property
    def arguments(self) -> list[str]:
        """The list in brackets, as HEALTHCHECK's CMD, ENTRYPOINT, CMD and VOLUME have it here; else the words."""
        start = self.value.find("[")
        if start >= 0 and self.value.endswith("]"):
            return [str(word) for word in json.loads(self.value[start:])]
        return shlex.split(self.value)


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    instructions: list[Instruction]

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]

    @property
    def command(self) -> list[str]:
        """What a container runs."""
        return self.last("ENTRYPOINT").arguments + self.last("CMD").arguments


def stages(path: Path = ROOT / "Dockerfile") -> list[Stage]:
    """The stages in order, without comments."""
    found: list[Stage] = []
    # Without it, the parser writes into the folder that it is given.
    for each in DockerfileParser(str(path), env_replace=False).structure:
        name, value = each["instruction"], each["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            found.append(Stage(base, alias, []))
        elif name in _SAID | _DONE:
            found[-1].instructions.append(Instruction(name, value))
        elif name != "COMMENT":
            raise AssertionError(f"{path}: {name} is not carried out by tests/image.py")
    return found


def context(folder: Path) -> None:
    """Fill `folder` with what a build would be sent: this checkout, less what .dockerignore names."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in exclude_paths(str(ROOT), [line for line in lines if line and not line.startswith("#")]):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
