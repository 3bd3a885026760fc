"""The commands of `python -m lottery` by name."""

from __future__ import annotations

from lottery.commands import export, report, status, transfer

COMMANDS = {"status": status.COMMAND, "report": report.COMMAND, "export": export.COMMAND, "transfer": transfer.COMMAND}
