"""Lengths of time as commands take them: `90s`, `30m`, `12h`, `7d`."""

from __future__ import annotations

import re

import typer

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """The seconds of a length such as `7d`. Raises typer.BadParameter for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no length of time: write a number and s, m, h or d, as in 7d")
    return float(found[1]) * _UNITS[found[2]]
