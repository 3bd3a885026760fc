"""ILSVRC2012's development kit: the class of each image of val.

Its ground truth numbers classes by the `ILSVRC2012_ID` in `meta.mat`. Labels usually number them in the sorted order
of their wnids, which is NOT the same: both files are needed.
"""

from __future__ import annotations

import io
import zlib
from typing import Any, NamedTuple

from preprocessing.common.errors import InputError
from preprocessing.sources.tar_index import TarError, members
from preprocessing.sources.text_files import decode_text

GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
META = "data/meta.mat"
_MAX_BYTES = 1 << 28  # the real one unpacks to 6 MB


class Devkit(NamedTuple):
    """`classes[i]` is the wnid of val's image number i + 1; `names` has the wnids' names in words."""

    classes: list[str]
    names: dict[str, str]


def read_devkit(data: bytes, where: str) -> Devkit:
    """Reads `ILSVRC2012_devkit_t12.tar.gz`, as it is or unpacked by a browser; `where` names it in errors."""
    archive = data if _is_tar(data) else _unpack(data, where)
    files = {}
    try:
        for member in members(lambda offset, length: archive[offset : offset + length], 0, len(archive)):
            for wanted in (GROUND_TRUTH, META):
                if member.name.endswith(wanted) and not member.kind:
                    files[wanted] = archive[member.offset : member.offset + member.size]
    except TarError as error:
        raise InputError(f"{where} is damaged ({error}): download it again") from error
    for wanted in (GROUND_TRUTH, META):
        if wanted not in files:
            raise InputError(f"{where} has no {wanted}: it is not the development kit of tasks 1 and 2: download that")
    wnids, names = _synsets(files[META], where)
    truth = decode_text(files[GROUND_TRUTH]).split()
    try:
        return Devkit([wnids[int(number)] for number in truth], names)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{where}: {GROUND_TRUTH} names class {error}, which {META} does not: download it again"
        ) from error


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _unpack(data: bytes, where: str) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)  # gzip
        archive = unpacker.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise InputError(f"{where} is not a valid gzip file ({error}): download it again") from error
    if not unpacker.eof:
        raise InputError(f"{where} is cut short, or unpacks to more than {_MAX_BYTES >> 20} MB: download it again")
    return archive


def _synsets(data: bytes, where: str) -> tuple[dict[int, str], dict[str, str]]:
    from scipy.io import loadmat  # a second's import, for one layout

    try:
        table: Any = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"].reshape(-1)
        # The inner nodes of WordNet's tree come after the classes, which are its leaves.
        leaves = [row for row in table if int(row["num_children"]) == 0]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        return wnids, {str(row["WNID"]): str(row["words"]) for row in leaves}
    except Exception as error:  # scipy's reader raises anything
        raise InputError(f"{where}: {META} cannot be read ({type(error).__name__}): download it again") from error
