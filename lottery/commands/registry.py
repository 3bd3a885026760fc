"""The commands of `python -m lottery` by name."""

from __future__ import annotations

from lottery.commands import analyze, report, status

COMMANDS = {"status": status.COMMAND, "report": report.COMMAND, "analyze": analyze.COMMAND}
