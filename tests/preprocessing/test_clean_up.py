"""A clean-up that fails does not hide why the work did."""

from __future__ import annotations

import logging

import pytest

from preprocessing.common.clean_up import afterwards
from preprocessing.common.errors import InputError, StorageError


def fails() -> None:
    raise StorageError("cannot delete x: away")


def test_the_error_of_the_work_is_the_one_raised(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError) as caught, afterwards(fails):
        raise InputError("bad")
    assert type(caught.value) is InputError
    assert caplog.record_tuples == [
        ("preprocessing.common.clean_up", logging.WARNING, "the clean-up failed too: cannot delete x: away")
    ]


def test_a_clean_up_alone_that_fails_is_an_error() -> None:
    with pytest.raises(StorageError), afterwards(fails):
        pass


def test_it_is_done_in_either_case() -> None:
    done: list[int] = []
    with afterwards(lambda: done.append(1)):
        pass
    with pytest.raises(KeyboardInterrupt), afterwards(lambda: done.append(2)):
        raise KeyboardInterrupt
    assert done == [1, 2]
