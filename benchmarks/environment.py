"""The environment of `. scripts/activate` for benchmarks, activated or not, and the commands that they run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from preprocessing.common.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
_SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


def activate() -> None:
    """Gives this process, and what it starts, the environment of `. scripts/activate`.

    Raises InputError if the interpreter is not in a virtual environment.
    """
    if not (Path(sys.prefix) / "bin" / "activate").exists():
        raise InputError(
            f"{sys.executable} is not in a virtual environment; run `make setup`, then .venv/bin/python -m ..."
        )
    shell = ["sh", "-c", f". scripts/activate && exec python -c '{_SHOW}'"]
    said = run(shell, {**os.environ, "VENV": sys.prefix})
    os.environ.clear()
    os.environ.update(json.loads(said.splitlines()[-1]))


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Runs a command in the repository's root; returns its output. Raises InputError with its last line if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().rpartition("\n")[2]
        raise InputError(
            f"{command[0]} ended with status {done.returncode}: {last}; run it by hand: {' '.join(command)}"
        )
    return done.stdout
