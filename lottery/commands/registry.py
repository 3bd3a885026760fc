"""The commands of `python -m lottery` by name."""

from __future__ import annotations

from lottery.commands import analyze, export, report, status, transfer

COMMANDS = {
    "status": status.COMMAND,
    "report": report.COMMAND,
    "analyze": analyze.COMMAND,
    "export": export.COMMAND,
    "transfer": transfer.COMMAND,
}
