"""What a job checks first: whether it can run with this Python, these modules and this Spark."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Set
from importlib.util import find_spec
from pathlib import Path

OLDEST_PYTHON = (3, 11)
OLDEST_SPARK = (3, 5)


def check(job: str) -> None:
    """Ends the process with one line and status 2 if the job, a file, cannot run in this environment.

    Raises ImportError if there is no pyspark.
    """
    version, folder = _pyspark()
    found = problem(
        Path(job).resolve().parents[1],
        {_folder(name) for name in ("preprocessing", "lottery")},
        tuple(sys.version_info[:2]),
        version,
        os.environ.get("SPARK_HOME") or folder,
        os.environ,
    )
    if found:
        print(f"error: {found}", file=sys.stderr, flush=True)
        sys.exit(2)


def _folder(package: str) -> Path:
    """Where Python finds a package; of another copy single modules may be there and the rest here."""
    spec = find_spec(package)
    return Path(spec.origin if spec and spec.origin else __file__).resolve().parents[1]


def _pyspark() -> tuple[str, str]:
    """Version and folder of pyspark, which is not imported: an old one may fail at that."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'pyspark'")
    folder = os.path.dirname(spec.origin)  # noqa: PTH120 - of a zip archive it may be
    data = spec.loader.get_data(os.path.join(folder, "version.py"))  # type: ignore[union-attr]  # noqa: PTH118
    found = re.search(rb"__version__[^=]*=\s*[\"']([^\"']+)", data)
    return found[1].decode() if found else "0.0", folder


def problem(
    root: Path,
    packages: Set[Path],
    python: tuple[int, ...],
    spark: str,
    spark_home: str,
    environment: Mapping[str, str],
) -> str | None:
    """What is wrong, with its remedy, in one line.

    Args:
        root: the folder above `jobs/`; a checkout holds the packages too.
        packages: the folders in which Python finds them.
        python: version of the interpreter.
        spark: version of pyspark, which is in `spark_home`.
    """
    if python < OLDEST_PYTHON:
        return (
            f"{sys.executable} is Python {'.'.join(map(str, python))}: needs 3.11, 3.12 or 3.13; name one with "
            "--conf spark.pyspark.python, and unset PYSPARK_PYTHON and PYSPARK_DRIVER_PYTHON"
        )
    if environment.get("PYTHONOPTIMIZE", "").isdigit() and int(environment["PYTHONOPTIMIZE"]) > 1:
        return f"PYTHONOPTIMIZE={environment['PYTHONOPTIMIZE']}: pyspark needs its docstrings; unset it, or set it to 1"
    named = {Path(path).resolve() for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path}
    others = (packages & named) - {root}
    if others and (root / "preprocessing").is_dir():
        return f"PYTHONPATH names {min(others)}, which holds another lottery-trellis than {root}; remove it"
    if tuple(int(number) for number in re.findall(r"\d+", spark)[:2]) < OLDEST_SPARK:
        return (
            f"Spark {spark} in {spark_home} is too old: needs 3.5 or newer; "
            "unset SPARK_HOME, or let it name a newer one"
        )
    return None
