"""The datasets of one folder: found, parsed, looked up by name and version. Reading a folder executes nothing."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flight_server.datasets import contract, policies
from flight_server.errors import DatasetError, InvalidRequest, NotFound, nearest
from flight_server.model import Caller, Dataset, Policies

# No dataset, table or schema has a name so long; compiled patterns are kept by Python for a while.
GLOB_MAX = 500
# Where a client finds the names; commands, which are no clients, say another place.
LISTED = "ListFlights names those there are"


@dataclass(frozen=True)
class Registry:
    """All valid datasets of a folder by name and version, and the policies over their tables.

    Replaced as a whole on reload, never changed: a dataset is never served under the policies of another state.
    """

    datasets: Mapping[str, Mapping[int, Dataset]]
    policies: Policies = Policies()  # noqa: RUF009 - frozen

    def get(self, name: str, version: int | None, caller: Caller) -> Dataset:
        """The dataset `name`, its newest version unless one is asked for.

        Raises NotFound (unknown-dataset, unknown-version). A dataset that `caller` may not use answers exactly like
        one that does not exist, in its suggestions too.
        """
        allowed = {known for known, versions in self.datasets.items() if _usable(versions, caller)}
        if name not in allowed:
            raise NotFound(
                "unknown-dataset",
                f"there is no dataset {name[:80]!r}{nearest(name, allowed, end='.')} {LISTED}",
            )
        versions = _usable(self.datasets[name], caller)
        if version is None:
            return versions[max(versions)]
        if version not in versions:
            known = ", ".join(str(v) for v in sorted(versions))
            raise NotFound("unknown-version", f"{name} has no version {version}; it has {known}")
        return versions[version]

    def latest(self, name: str) -> Dataset:
        return self.datasets[name][max(self.datasets[name])]

    def all(self) -> Iterator[Dataset]:
        """Every version of every dataset, by name and version."""
        for name in sorted(self.datasets):
            for version in sorted(self.datasets[name]):
                yield self.datasets[name][version]

    def visible(self, caller: Caller, glob: str = "*") -> Iterator[Dataset]:
        """The newest version of each dataset that `caller` may use and whose name matches `glob`, by name.

        Raises InvalidRequest (bad-request) for a glob longer than any name.
        """
        if len(glob) > GLOB_MAX:
            raise InvalidRequest("bad-request", f"the pattern has {len(glob):,} signs; no name is so long")
        matches = matcher(glob)
        for name in sorted(self.datasets):
            versions = _usable(self.datasets[name], caller)
            if versions and matches(name):
                yield versions[max(versions)]


def matcher(glob: str) -> Callable[[str], bool]:
    """A test whether a name matches a glob.

    What fnmatch makes of a glob is matched in linear time. Not fnmatchcase, whose cache keeps 32,768 patterns for ever.
    """
    pattern = re.compile(fnmatch.translate(glob))
    return lambda name: pattern.match(name) is not None


def _usable(versions: Mapping[int, Dataset], caller: Caller) -> dict[int, Dataset]:
    """The versions of a dataset that exist for the caller."""
    return {number: dataset for number, dataset in versions.items() if may_use(caller, dataset)}


def may_use(caller: Caller, dataset: Dataset) -> bool:
    """Whether the dataset's `[access] roles` let the caller in. Without roles everybody may.

    The `*` of a server without authentication is kept out by no role, but by those of the server's own datasets.
    """
    if dataset.engine == "system":
        return not dataset.roles or bool(dataset.roles & caller.roles)
    return not dataset.roles or "*" in caller.roles or bool(dataset.roles & caller.roles)


def load(directory: Path) -> tuple[Registry, list[DatasetError]]:
    """Read every `*.sql` directly in `directory` (its sub-folders hold other things) and report what is wrong.

    The registry has the datasets that are right; whether to serve it in spite of errors is the caller's choice. It has
    none when the policies are wrong: without them every row would be seen.
    """
    found: dict[str, dict[int, Dataset]] = {}
    errors: list[DatasetError] = []
    if not directory.is_dir():
        return Registry({}), [DatasetError(directory, 0, 0, "there is no such folder of datasets")]
    for path in sorted(directory.glob("*.sql")):
        try:
            dataset = contract.parse(path, path.read_text(encoding="utf-8"))
        except DatasetError as error:
            errors.append(error)
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            errors.append(DatasetError(path, line, 1, f"not UTF-8: {error.reason}; save the file as UTF-8"))
        except OSError as error:
            # Also one that has gone since the folder was listed: the next reload does not list it.
            errors.append(DatasetError(path, 0, 0, f"cannot be read: {error.strerror}"))
        else:
            found.setdefault(dataset.name, {})[dataset.version] = dataset
    try:
        return Registry(found, policies.load(directory)), errors
    except DatasetError as error:
        return Registry({}), [*errors, error]
