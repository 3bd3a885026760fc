"""Command lines whose errors are those of the rest: one line, no usage text in between."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from preprocessing.common.errors import InputError
from preprocessing.common.names import is_text


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

    def parse_known_args(  # type: ignore[override]  # argparse's is overloaded
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As argparse's; InputError for what is not UTF-8, since no manifest could hold it."""
        for argument in sys.argv[1:] if args is None else args:
            if not is_text(argument):
                raise InputError(f"argument {argument} is not UTF-8: rename the file or folder, or link to it")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises InputError; argparse itself would print its usage and exit."""
        raise InputError(f"{message}; --help lists the options")


def positive(text: str) -> float:
    """The type of an option: a number above 0. Raises ValueError, which argparse reports."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value
