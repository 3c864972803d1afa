"""What every section of settings is: frozen, without unknown keys, and shown without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

# To the last @ and not to the first /, ? or space: a password may have any of them, and hiding too much harms nobody.
_USER = re.compile(r"(?<=://).*@", re.DOTALL)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_secrets(value)


def without_secrets(value: Any) -> Any:
    """A setting as it may be shown: its addresses without user and password, and without the query with its keys."""
    if isinstance(value, str):
        shown = _USER.sub("***@", value)
        return shown.partition("?")[0] + "?***" if "://" in shown and "?" in shown else shown
    if isinstance(value, Mapping):
        return {key: without_secrets(each) for key, each in value.items()}
    # Named tuples and the like are no settings.
    return type(value)(map(without_secrets, value)) if type(value) in (list, tuple) else value
