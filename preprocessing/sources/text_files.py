"""Text files, as saved by any editor, browser or shell."""

from __future__ import annotations

import codecs


def decode_text(data: bytes) -> str:
    """The text without its byte-order mark, from UTF-8, or from UTF-16 if the mark says so."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")
