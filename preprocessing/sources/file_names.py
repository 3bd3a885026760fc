"""What the name of a file or folder in a source says about it."""

from __future__ import annotations

EXTENSIONS = (".jpeg", ".jpg", ".png", ".gif", ".bmp", ".webp")
# Images in formats that are not read.
OTHER_EXTENSIONS = (".tif", ".tiff", ".jpe", ".jfif", ".jp2", ".jxl", ".heic", ".heif", ".avif", ".svg", ".ppm", ".dng")
# Folders that operating systems, NAS devices and editors put among the user's files, in lower case.
TOOL_FOLDERS = frozenset(
    {
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "$recycle.bin",
        "__macosx",
        "__pycache__",
        "lost+found",
        "network trash folder",
        "recycler",
        "system volume information",
        "temporary items",
    }
)


def is_hidden(path: str) -> bool:
    """Whether a file or folder, or a folder above it, is hidden or belongs to a tool.

    >>> is_hidden("train/.ipynb_checkpoints"), is_hidden("n01440764/@eaDir/a.JPEG"), is_hidden("./train/n01440764")
    (True, True, False)
    """
    return any(
        (part.startswith(".") and part != ".") or part.lower() in TOOL_FOLDERS for part in path.split("/") if part
    )


def is_image_name(name: str) -> bool:
    """Whether a file has an image extension. Its content is only looked at when it is decoded."""
    return name.lower().endswith(EXTENSIONS)
