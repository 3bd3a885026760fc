"""Command lines whose errors are those of the rest: one line, no usage text in between."""

from __future__ import annotations

import argparse
from typing import NoReturn

from preprocessing.errors import InputError


class CommandLine(argparse.ArgumentParser):
    """An argument parser that raises InputError; an option is written out, since an abbreviation may change meaning."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises InputError; argparse itself would print its usage and exit."""
        raise InputError(f"{message}; --help lists the options")
