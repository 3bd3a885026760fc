"""Spark's properties files, as Spark reads them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCAL = "local"
CLUSTERS = ("standalone", "yarn", "emr", "dataproc")


def path(platform: str) -> Path:
    return ROOT / "conf" / "spark" / f"{platform}.conf"


def settings(text: str) -> list[tuple[str, str]]:
    """Every setting with its value, in order."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [re.split(r"[\s=:]+", line, maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs]


def preprocessing_options(text: str) -> dict[str, str]:
    """The settings that a file's head comment tells preprocessing to add."""
    head = text[: text.index("\n\n")]
    return dict(re.findall(r"--conf (\S+?)=(\S+)", head))
