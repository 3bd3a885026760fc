"""Accounts for every file of a source: it becomes a row, is rejected, or is skipped for one of these reasons."""

from __future__ import annotations

from collections.abc import Iterator

from preprocessing.common.names import one_line
from preprocessing.sources.file_names import OTHER_EXTENSIONS, is_hidden, is_image_name

# As they appear in messages and manifests.
LABELS = "read for labels or names"
NOT_CHOSEN = "not chosen"
CLASS_TAR_NOT_CHOSEN = "class tar not chosen"
UNLABELLED = "test image without a label"
HIDDEN = "hidden or a tool's"
NO_IMAGE = "no image extension"
NO_FILE = "pipe, socket or device"
UNREAD_FORMAT = "image of a format that is not read"
DEAD_LINK = "dead link"
LINK_IN_TAR = "link in a tar"
NO_CLASS_FOLDER = "image outside the class folders"
UNLISTED = "folder that cannot be listed"
EMPTY_NAME = "object with an empty part in its name"
OUTSIDE = "image outside the layout"

# Files that the user may have wanted in the dataset, and how to get them there.
_REMEDIES = {
    UNREAD_FORMAT: "to have them in the dataset, convert them to JPEG or PNG",
    DEAD_LINK: "mount or copy their targets, or remove them",
    LINK_IN_TAR: "unpack the archive, and pack it again with --hard-dereference and --dereference",
    UNLISTED: "make it readable, or move it out of the source",
    EMPTY_NAME: "to have them in the dataset, move them to names without //",
    NO_CLASS_FOLDER: "to have them in the dataset, move them into class folders",
    OUTSIDE: "to have them in the dataset, move them where the layout has its images",
}
_ORDER = (LABELS, NOT_CHOSEN, CLASS_TAR_NOT_CHOSEN, UNLABELLED, HIDDEN, NO_IMAGE, NO_FILE, *_REMEDIES)


class Skipped:
    """How many files were skipped for each reason, and the first path of each by name."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Counts a file, or `count` files, `path` among them."""
        before, first = self._found.get(reason, (0, path))
        self._found[reason] = before + count, min(first, path)

    def total(self) -> int:
        """The number of files skipped."""
        return sum(count for count, _ in self._found.values())

    def as_dict(self) -> dict[str, dict[str, int | str]]:
        """For each reason the number of `files` and the path of the `first`, as in the manifest."""
        return {reason: {"files": count, "first": first} for reason, count, first in self._reasons()}

    def summary(self) -> str:
        """Everything that was skipped, in one line; "" if nothing was."""
        parts = ", ".join(f"{reason} {count:,} (such as {path})" for reason, count, path in self._reasons())
        return f"skipped {self.total():,} files: {parts}" if parts else ""

    def warnings(self) -> list[str]:
        """A line, with the remedy, for each kind of file that the user may have wanted in the dataset."""
        return [
            f"not in the dataset: {reason} {count:,}, such as {path}: {_REMEDIES[reason]}"
            for reason, count, path in self._reasons()
            if reason in _REMEDIES
        ]

    def _reasons(self) -> Iterator[tuple[str, int, str]]:
        for reason in _ORDER:
            if reason in self._found:
                count, first = self._found[reason]
                yield reason, count, one_line(first)


def why_no_image(path: str) -> str | None:
    """Why a file with this path is not an image; None if it is one."""
    if is_hidden(path):
        return HIDDEN
    if is_image_name(path):
        return None
    return UNREAD_FORMAT if path.lower().endswith(OTHER_EXTENSIONS) else NO_IMAGE
