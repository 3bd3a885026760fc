"""The commands of `python -m lottery` by name."""

from __future__ import annotations

from lottery.commands import report, status

COMMANDS = {"status": status.COMMAND, "report": report.COMMAND}
