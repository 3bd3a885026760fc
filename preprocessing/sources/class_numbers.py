"""The classes of images whose labels are numbers, or text, inside the files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from preprocessing.common.errors import InputError
from preprocessing.common.names import one_line

# What a label may be: a number as the source counts, or the class itself.
Label = int | str

# ImageNet-21k has 21,841 classes. A larger number is damage.
MOST_CLASSES = 1_000_000
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


def parse_label(text: str) -> Label:
    """A label as text, of which digits are a number; `InputError` for text that cannot be a class."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return int(text)
    if not 0 < len(text) <= 255 or "/" in text or one_line(text) != text or text in (".", ".."):
        raise InputError(f"the label {one_line(text[:40])!r} is not a number and cannot be a class's name: correct it")
    return text


def name_classes(labels: Iterable[Label], first: int | None, where: str, names: Sequence[str] = ()) -> dict[Label, str]:
    """The class of every label. Text is a class; a number is one by `names`, or else counted from 0.

    Numbers have zeros before them, to sort as numbers do. `first` is the number of the source's first class, None if
    the source does not say. Raises `InputError` for a number out of range, or if nothing tells whether numbers begin at
    0 or 1.
    """
    found = set(labels)
    numbers = sorted(label for label in found if isinstance(label, int))
    texts = sorted(label for label in found if isinstance(label, str))
    if numbers and texts:
        both = f"{numbers[0]} and {texts[0]}"
        raise InputError(f"{where} has numbers and text as labels ({both}): use one kind in all files")
    if not numbers:
        return {text: text for text in texts}
    if first is None and numbers[0] > 0:
        raise InputError(
            f"{where} has labels from {numbers[0]:,} to {numbers[-1]:,}, and nothing says whether they count from 0 "
            "or from 1: give --first-label 0 or --first-label 1"
        )
    first = first or 0
    _check_range(numbers, first, len(names), where)
    digits = len(str(numbers[-1] - first))
    named = distinct_names(names)
    return {number: named[number - first] if names else f"{number - first:0{digits}}" for number in numbers}


def _check_range(numbers: Sequence[int], first: int, count: int, where: str) -> None:
    last = first + (count or MOST_CLASSES) - 1
    for number in (numbers[0], numbers[-1]):
        if not first <= number <= last:
            expected = f"{first:,} to {last:,}" if count or number > last else f"{first:,} and up"
            raise InputError(
                f"{where} has label {number:,}, out of range ({expected}): check --first-label, and download it again "
                "if it is damaged"
            )


def distinct_names(names: Sequence[str]) -> dict[int, str]:
    """A name of its own for each label: ImageNet has two classes `crane`, which get their labels in brackets."""
    count = Counter(names)
    found = {
        label: name if name and count[name] == 1 else f"{name} ({label})".lstrip() for label, name in enumerate(names)
    }
    if len(set(found.values())) < len(found):
        found = {label: f"{name} ({label})" for label, name in enumerate(names)}
    return found
