"""Rejected images: counted by reason, and when there are too many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from preprocessing.job.shards import RejectedImage


def count_reasons(rejected: Iterable[RejectedImage]) -> str:
    """The reasons with their numbers of images, the most frequent first: `truncated 12, empty 1`."""
    reasons = Counter(image.reason for image in rejected)
    ordered = sorted(reasons.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered)


def too_many(rejected: Iterable[RejectedImage], images: int, limit: float) -> str | None:
    """Why to stop a job that has rejected more than `limit` (a fraction) of its images; None if it has not."""
    found = list(rejected)
    if len(found) <= limit * images:
        return None
    first = found[0]
    return (
        f"{len(found):,} of {images:,} images rejected so far, more than --max-rejected {limit:g} allows: "
        f"{count_reasons(found)}; the first is {first.split}/{first.id} ({first.detail}); "
        "fix the source, or give a larger --max-rejected"
    )
