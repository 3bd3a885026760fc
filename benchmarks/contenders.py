"""Which of a benchmark's contenders to run."""

from __future__ import annotations

from collections.abc import Sequence

from preprocessing.common.errors import InputError


def chosen(only: str | None, names: Sequence[str]) -> list[str]:
    """The names in `only`, which commas separate; all if it is None. Raises InputError for one that is unknown."""
    wanted = list(names) if only is None else only.split(",")
    for name in wanted:
        if name not in names:
            raise InputError(f"--only {name}: there is no such contender; choose from {', '.join(names)}")
    return wanted
