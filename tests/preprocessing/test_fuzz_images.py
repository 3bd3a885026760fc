"""The short form of fuzz_images.py: damaged images in processes that may die, and memory that is not zeroed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.preprocessing.fuzz_images import FRESH_BYTES, damaged, decode_all, faults, generated, write_source
from tests.preprocessing.raw_images import jpeg
from tests.preprocessing.treacherous_decoder import write_treachery


def test_damaged_images_crash_no_decoder_and_have_pixels_of_their_own(tmp_path: Path) -> None:
    write_source(tmp_path, [*generated(), *damaged(generated(), 600, seed=0)])
    one, other = (decode_all(tmp_path, byte) for byte in FRESH_BYTES)
    assert len(one) == 600 + len(generated())
    assert faults(one, other) == []
    # Some were decoded, some refused: the test would see a crash.
    decoded = [text for text in one.values() if len(text.split(", ")[0]) == 8 and "none" not in text.split(", ")[0]]
    assert 100 < len(decoded) < 550


def test_a_crash_is_seen_and_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(write_treachery(tmp_path / "treachery")))
    whole = jpeg(40, 40)
    write_source(tmp_path / "raw", [whole, whole + b"mark: segv", whole])
    found = decode_all(tmp_path / "raw", 1)
    assert [text.startswith("crash: status -11") for text in found.values()] == [False, True, False]
    assert len(faults(found, found)) == 1
    assert len(faults(found, dict.fromkeys(found, "none"))) == 3
