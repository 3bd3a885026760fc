import importlib
import sys

import pytest

from lottery.worker.hide_modules import hide_modules


def test_a_module_is_absent_within_and_there_again_after(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hide_modules("wave"), pytest.raises(ImportError):
        importlib.import_module("wave")
    assert importlib.import_module("wave").__name__ == "wave"


def test_what_is_imported_already_stays():
    with hide_modules("sys", "pytest"):
        assert importlib.import_module("pytest") is pytest
    assert sys.modules["pytest"] is pytest


def test_it_is_there_again_after_an_error():
    sys.modules.pop("wave", None)
    with pytest.raises(ZeroDivisionError), hide_modules("wave"):
        raise ZeroDivisionError
    assert importlib.import_module("wave")
