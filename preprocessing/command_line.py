"""Command lines whose errors are those of the rest: one line, no usage text in between."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from preprocessing.errors import InputError


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the defaults of those options that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default is not None and action.default is not False and action.default != []
        return super()._get_help_string(action) if default else action.help


class CommandLine(argparse.ArgumentParser):
    """An argument parser that raises InputError; an option is written out, since an abbreviation may change meaning."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        # argparse takes -inf and -1e5 for options, and then says that a value is missing.
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Raises InputError; argparse itself would print its usage and exit."""
        raise InputError(f"{message}; --help lists the options")
