"""Names of files, which on Linux are bytes, as text that can be stored, hashed and printed.

In a name Python shows a byte that is not UTF-8 as half a surrogate pair. Such a name opens its file, but nothing else
accepts it.
"""

from __future__ import annotations

import re
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def name_bytes(name: str) -> bytes:
    """The bytes of a name as Python has it."""
    return name.encode("utf-8", "surrogateescape")


def name_of(data: bytes | str) -> str:
    """The name of these bytes, as Python has it."""
    return data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")


def file_path(info: Any) -> str:
    """The path of a `pyarrow.fs.FileInfo`, which pyarrow cannot return if it is not UTF-8."""
    try:
        return str(info.path)
    except UnicodeDecodeError as error:
        return name_of(error.object)


def last_part(path: str) -> str:
    """What comes after the last slash."""
    return path.rsplit("/", 1)[-1]


def is_text(name: str) -> bool:
    """Whether a name is UTF-8."""
    return printable(name) == name


def printable(name: str) -> str:
    r"""The name as valid text, with `\xe9` in place of a byte that is not UTF-8.

    >>> printable("caf\udce9.JPEG")
    'caf\\xe9.JPEG'
    """
    try:
        return name_bytes(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    r"""The text on one line: `printable`, and with `\n` in place of what would end a line or steer a terminal.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], printable(text))
