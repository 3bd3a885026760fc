"""Where a file is written before it is uploaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def staging_folder(environment: Mapping[str, str]) -> str | None:
    """The emptiest of Spark's local folders that can be written to; None for Python's own choice.

    Python's choice is $TMPDIR or /tmp, and /tmp may be memory, as on Amazon Linux 2023. In a task SPARK_LOCAL_DIRS has
    the executor's folders, which in YARN's containers are on the disks that YARN was given, and go with the container.
    """
    if environment.get("TMPDIR"):
        return None
    folders = filter(_usable, environment.get("SPARK_LOCAL_DIRS", "").split(","))
    return max(folders, key=lambda folder: shutil.disk_usage(folder).free, default=None)


def _usable(folder: str) -> bool:
    path = Path(folder)
    return path.is_absolute() and path.is_dir() and os.access(path, os.W_OK | os.X_OK)
