"""What is tried again, and what is not."""

from __future__ import annotations

import errno

import pytest

from preprocessing.common.errors import InputError, StorageError
from preprocessing.common.retries import retrying
from preprocessing.common.storage import open_store


@pytest.mark.parametrize(
    ("cause", "kind", "attempts"),
    [
        (OSError("connection reset"), StorageError, 3),
        (OSError(errno.EROFS, "read-only"), StorageError, 1),
        (OSError("connection reset"), InputError, 1),
    ],
)
def test_only_storage_is_asked_again(cause: Exception, kind: type[InputError], attempts: int) -> None:
    tried = 0

    def fail() -> None:
        nonlocal tried
        tried += 1
        raise kind("x") from cause

    with pytest.raises(kind) as caught:
        retrying(fail, (0.0, 0.0))
    assert type(caught.value) is kind
    assert tried == attempts


def test_a_wrong_uri_is_refused_at_once() -> None:
    again: list[Exception] = []
    with pytest.raises(InputError, match="^cannot reach s3://bucket/x: .*'no'; check the URI") as caught:
        retrying(lambda: open_store("s3://bucket/x?no=such").read("y"), (0.0,), again.append)
    assert type(caught.value) is InputError
    assert again == []
