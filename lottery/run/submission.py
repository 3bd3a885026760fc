"""How a sweep was started: what it takes to start it again."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

_PACKAGES = ("lottery", "preprocessing")


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """`submission.json` of a run directory: the last command that worked on it."""

    arguments: tuple[str, ...]  # of spark-submit, from the job's script on
    data: str  # the dataset, for people
    code: str  # the version of this suite
    spark: str
    python: str

    @property
    def command(self) -> str:
        """The command, for a shell, without the settings of Spark that its own command line had."""
        return shlex.join(["spark-submit", *self.arguments])


@cache
def code_version() -> str:
    """This suite's version, its commit if it runs from a git checkout, and a digest of its sources."""
    root = Path(__file__).parents[2]
    try:
        number = version("lottery-trellis")
    except PackageNotFoundError:  # run from a checkout that was not installed
        number = "not installed"
    parts = [number, *_commit(root), f"sources {_digest(root)}"]
    return ", ".join(parts)


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _commit(root: Path) -> list[str]:
    if not (root / ".git").exists():
        return []
    try:
        asked = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"commit {said.stdout.strip()}"]
