"""The account of a source: every file of it becomes a row, is rejected, or is skipped here for a reason."""

from __future__ import annotations

from collections.abc import Iterator

from preprocessing.common.names import one_line
from preprocessing.sources.file_names import OTHER_EXTENSIONS, is_hidden, is_image_name

LABELS = "read for labels or names"
NOT_CHOSEN = "not chosen"
CLASS_TAR_NOT_CHOSEN = "class tar not chosen"
UNLABELLED = "test image without a label"
HIDDEN = "hidden or a tool's"
NO_IMAGE = "no image by name"
NO_FILE = "pipe, socket or device"
UNREAD_FORMAT = "image of a format that is not read"
DEAD_LINK = "link that leads nowhere"
LINK_IN_TAR = "link in a tar"
NO_CLASS_FOLDER = "image in no class folder"
UNLISTED = "folder that cannot be listed"
OUTSIDE = "image outside the layout"

# Files that look as if they were meant for the dataset, and what to do about them.
_REMEDIES = {
    UNREAD_FORMAT: "convert them to JPEG or PNG to have them in the dataset",
    DEAD_LINK: "mount or copy what they point at, or remove them",
    LINK_IN_TAR: "unpack the archive and pack it again with --hard-dereference and --dereference",
    UNLISTED: "make it readable, or move it out of the source",
    NO_CLASS_FOLDER: "move them into class folders to have them in the dataset",
    OUTSIDE: "move them to where the layout has its images to have them in the dataset",
}
_ORDER = (LABELS, NOT_CHOSEN, CLASS_TAR_NOT_CHOSEN, UNLABELLED, HIDDEN, NO_IMAGE, NO_FILE, *_REMEDIES)


class Skipped:
    """How many files were skipped for which reason, with the first path of each by name."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Counts a file, or `count` files of which `path` is one."""
        before, first = self._found.get(reason, (0, path))
        self._found[reason] = before + count, min(first, path)

    def total(self) -> int:
        """The number of files skipped."""
        return sum(count for count, _ in self._found.values())

    def as_dict(self) -> dict[str, dict[str, int | str]]:
        """Reason to number of `files` and path of the `first`, as the manifest has it."""
        return {reason: {"files": count, "first": first} for reason, count, first in self._reasons()}

    def lines(self) -> list[str]:
        """What the user is told: all of it in one line, and a warning for each kind that may be missed."""
        reasons = list(self._reasons())
        if not reasons:
            return []
        parts = ", ".join(f"{reason} {count:,} (such as {path})" for reason, count, path in reasons)
        return [f"not converted: {self.total():,} files: {parts}"] + [
            f"warning: not in the dataset: {reason} {count:,}, such as {path}: {_REMEDIES[reason]}"
            for reason, count, path in reasons
            if reason in _REMEDIES
        ]

    def _reasons(self) -> Iterator[tuple[str, int, str]]:
        for reason in _ORDER:
            if reason in self._found:
                count, first = self._found[reason]
                yield reason, count, one_line(first)


def why_no_image(path: str) -> str | None:
    """Why a file is not taken for an image, by its path; None where it is."""
    if is_hidden(path):
        return HIDDEN
    if is_image_name(path):
        return None
    return UNREAD_FORMAT if path.lower().endswith(OTHER_EXTENSIONS) else NO_IMAGE
