"""A job that stands still half-way, however fast the machine is, for tests that stop it there."""

from __future__ import annotations

import os
from pathlib import Path

# Python runs a module of this name first in every process whose path has it.
_SITECUSTOMIZE = """
import fnmatch, os, pathlib, sys, time

places = pathlib.Path({places!r})

def has_place():
    for number in range({count}):
        try:
            (places / str(number)).touch(exist_ok=False)
            return True
        except FileExistsError:
            pass
    return False

if "pyspark.daemon" in sys.orig_argv:
    real = os.replace

    def replace(source, target, **options):
        if fnmatch.fnmatch(str(target), {pattern!r}) and not has_place():
            time.sleep(3600)
        real(source, target, **options)

    os.replace = replace
"""


def half_way(folder: Path, environment: dict[str, str], pattern: str, count: int) -> dict[str, str]:
    """The environment of a job whose tasks finish `count` files that match the pattern, and stand still at the next.

    Args:
        folder: a new one, for the tasks' use.
        environment: of the same job without this.
        pattern: of the files' whole paths.
    """
    places = folder / "places"
    places.mkdir(parents=True)
    code = _SITECUSTOMIZE.format(places=str(places), count=count, pattern=pattern)
    (folder / "sitecustomize.py").write_text(code)
    return {**environment, "PYTHONPATH": os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])}
