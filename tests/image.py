"""The image without a Docker engine: the Dockerfile's steps carried out in a folder that is then a root file system.

In place of the base images stands this machine's /usr, with a fresh virtual environment as /usr/local, which is where
those images have their Python. So what is shown is that the steps work, what they leave behind, and that a server runs
from it; not what the base images hold. Needs root and mount namespaces (`possible`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from tests.dockerfile import Instruction, Stage, context, stages

# Of /etc only what users, names and certificates need.
_ETC = (
    *("passwd", "group", "login.defs", "default", "hosts", "resolv.conf", "nsswitch.conf", "host.conf", "localtime"),
    *("ssl", "ca-certificates", "ca-certificates.conf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "pip.conf"),
)
# How this machine reaches its package index and whom it trusts: true of building anywhere, and of no image.
_BUILDING = ("PIP_", "SSL_CERT", "REQUESTS_CA", "CURL_CA", "http_proxy", "https_proxy", "no_proxy", "HTTP", "NO_PROXY")


def possible() -> bool:
    """Whether this process may make mount namespaces."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "chroot", "setpriv", "useradd", "strip"))):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Image:
    """A root file system with what a Dockerfile says of it. `build` makes one."""

    root: Path
    stage: Stage
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/bin"})
    directory: str = "/"

    def path(self, inside: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / (Path(self.directory) / inside).relative_to("/")

    def run(self, command: list[str], *mounts: str, env: dict[str, str] | None = None) -> list[str]:
        """The command line that runs `command` as a container of the image would: its user, its environment, all
        read-only but an empty /tmp and `mounts` (`outside:inside`). Its process becomes the command: signals reach it.
        """
        user, _, group = self.stage.last("USER").value.partition(":")
        dropped = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        volumes = [line for mount in mounts for line in self._bind(*mount.split(":"))]
        return self._in(
            [*dropped, "--bounding-set=-all", *command],
            self.env | {"HOME": self._home(user)} | (env or {}),
            [_EMPTY_TMP, *volumes, *_READ_ONLY],
        )

    def files(self) -> list[Path]:
        """What the steps made. /etc stands for the base image's and is left out."""
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_relative_to(self.root / "etc")]

    def carry_out(self, step: Instruction, source: Path, built: dict[str, Image]) -> None:
        """One instruction; what follows sees its effect."""
        if step.name == "WORKDIR":
            self.directory = str(Path(self.directory) / step.value)
            self.path(".").mkdir(parents=True, exist_ok=True)
        elif step.name in ("ENV", "ARG"):
            pairs = dict(word.split("=", 1) for word in step.arguments)
            self.env |= {key: value.replace("$PATH", self.env["PATH"]) for key, value in pairs.items()}
        elif step.name == "COPY":
            self._copy(step.arguments, source, built)
        elif step.name == "RUN":
            building = {key: value for key, value in os.environ.items() if key.startswith(_BUILDING)}
            subprocess.run(self._in(["/bin/sh", "-c", step.value], building | self.env, []), check=True)

    def _copy(self, arguments: list[str], source: Path, built: dict[str, Image]) -> None:
        *names, target = arguments
        if names[0].startswith("--from="):
            from_image = built[names.pop(0).removeprefix("--from=")]
            copied = [from_image.path(name) for name in names]
        else:
            copied = [source / name for name in names]
        for each in copied:
            if each.is_dir():
                shutil.copytree(each, self.path(target), symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(each, self.path(target) / each.name if target.endswith("/") else self.path(target))

    def _in(self, command: list[str], env: dict[str, str], mounts: list[str]) -> list[str]:
        script = ["set -e", 'mount --bind "$ROOT" "$ROOT"']
        script += [line for name in ("/dev", "/proc", "/usr") for line in self._bind(name, name)]
        script += self._bind(str(self.root.parent / "python"), "/usr/local")
        # What the environment in /usr/local is made from, and must find where it was.
        script += [] if sys.base_prefix.startswith("/usr") else self._bind(sys.base_prefix, sys.base_prefix)
        inside = ["env", "-i", "-C", self.directory, *(f"{key}={value}" for key, value in env.items()), *command]
        script += [*mounts, 'exec chroot "$ROOT" "$@"']
        return ["env", f"ROOT={self.root}", "unshare", "--mount", "sh", "-c", "\n".join(script), "sh", *inside]

    def _bind(self, outside: str, inside: str) -> list[str]:
        target = self.root / inside.strip("/")
        return [f"mkdir -p '{target}'", f"mount --rbind '{outside}' '{target}'"]

    def _home(self, user: str) -> str:
        lines = self.path("/etc/passwd").read_text(encoding="utf-8").splitlines()
        return next(fields[5] for fields in (line.split(":") for line in lines) if fields[2] == user)


# As `docker run --read-only --tmpfs /tmp` does; volumes stay writable.
_EMPTY_TMP = 'mount -t tmpfs -o mode=1777 none "$ROOT/tmp"'
_READ_ONLY = ['mount -o remount,ro,bind "$ROOT/usr"', 'mount -o remount,ro,bind "$ROOT"']


def build(folder: Path) -> Image:
    """Carry out the Dockerfile below `folder`, stage by stage; the last one is the image."""
    source = folder / "context"
    context(source)
    venv.create(folder / "python", with_pip=True, symlinks=True)
    built: dict[str, Image] = {}
    for number, stage in enumerate(stages()):
        image = Image(_root(folder / f"stage{number}"), stage)
        built[stage.name] = image
        for step in stage.instructions:
            image.carry_out(step, source, built)
    return image


def _root(root: Path) -> Path:
    for name in ("etc", "proc", "dev", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    for name in _ETC:
        found = Path("/etc") / name
        if found.is_dir():
            shutil.copytree(found, root / "etc" / name, symlinks=True)
        elif found.exists():
            shutil.copy2(found, root / "etc" / name)
    return root
