"""`python -m lottery` in the test's own process."""

from __future__ import annotations

import sys
from typing import Any

from lottery.__main__ import main


def call(monkeypatch: Any, *arguments: object) -> int:
    """Runs a command with these arguments; returns its status."""
    monkeypatch.setattr(sys, "argv", ["lottery", *map(str, arguments)])
    return main()
