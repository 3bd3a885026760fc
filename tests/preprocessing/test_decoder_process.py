"""An image that kills its decoder, or hangs it, costs itself and no other; one killed from outside says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.images.decode import Rejected, decode
from preprocessing.images.decoder_process import DecoderDiedError, DecoderProcess
from preprocessing.job.convert import convert_carefully, convert_shard
from preprocessing.job.plan import measure
from preprocessing.job.settings import Settings
from preprocessing.job.shards import Shard, ShardRecord, serialise
from preprocessing.sources.base import WHOLE_FILE
from preprocessing.sources.folders import FolderSource
from tests.preprocessing.raw_images import jpeg
from tests.preprocessing.treacherous_decoder import write_treachery

WHOLE = jpeg(40, 50)


@pytest.fixture(autouse=True)
def treachery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(write_treachery(tmp_path / "treachery")))


@pytest.mark.parametrize("per_image", [False, True])
def test_another_process_decodes_as_this_one_does(per_image: bool) -> None:
    out = np.zeros((32, 32, 3), np.uint8)
    with DecoderProcess(32, per_image=per_image) as process:
        for data in (WHOLE, jpeg(300, 280), jpeg(32, 32)):
            process.decode(data, 32, out)
            assert np.array_equal(out, decode(data, 32))
        for data in (b"", b"<html>", WHOLE[:400]):
            with pytest.raises(Rejected) as expected:
                decode(data, 32)
            with pytest.raises(Rejected) as caught:
                process.decode(data, 32, out)
            assert caught.value.args == expected.value.args
            assert caught.value.detail == expected.value.detail


@pytest.mark.parametrize("per_image", [False, True])
def test_the_time_of_every_image_counts(per_image: bool) -> None:
    """Most images take less than a tick of the clock that limits them."""
    out, spent = np.zeros((32, 32, 3), np.uint8), [0.0]
    with DecoderProcess(32, per_image=per_image) as process:
        for data in 20 * [jpeg(300, 280)]:
            process.decode(data, 32, out)
            spent.append(process.seconds_spent)
    assert min(np.diff(spent)) > 0


def test_what_became_of_a_decoder() -> None:
    out = np.zeros((32, 32, 3), np.uint8)
    with DecoderProcess(32, per_image=True) as process:
        for mark, reason, detail in [
            (b"mark: segv", "decoder crash", "its decoder died of SIGSEGV"),
            (b"mark: abort", "decoder crash", "its decoder died of SIGABRT"),
            (b"mark: exit", "decoder crash", "its decoder ended its process with status 9"),
        ]:
            with pytest.raises(Rejected) as caught:
                process.decode(WHOLE + mark, 32, out)
            assert (caught.value.reason, caught.value.detail) == (reason, detail)
        with pytest.raises(MemoryError, match=r"its decoder was killed from outside \(SIGKILL\), as when memory runs"):
            process.decode(WHOLE + b"mark: killed", 32, out)
        process.decode(WHOLE, 32, out)
        assert np.array_equal(out, decode(WHOLE, 32))
    with DecoderProcess(32, per_image=False) as process, pytest.raises(DecoderDiedError):
        process.decode(WHOLE + b"mark: segv", 32, out)


def test_a_decoder_that_does_not_come_back_is_given_up() -> None:
    out = np.zeros((32, 32, 3), np.uint8)
    with DecoderProcess(32, per_image=True, seconds=1) as process:
        with pytest.raises(Rejected) as caught:
            process.decode(WHOLE + b"mark: loop", 32, out)
        assert (caught.value.reason, caught.value.detail) == ("decoder timeout", "decoding takes more than 1 s")


def convert(tmp_path: Path, images: list[bytes], carefully: bool = True) -> ShardRecord:
    for number, data in enumerate(images):
        (tmp_path / f"{number}.JPEG").write_bytes(data)
    names = [f"{number}.JPEG" for number in range(len(images))]
    lengths, offsets = [len(data) for data in images], [WHOLE_FILE] * len(images)
    labels = pa.array([0] * len(images), pa.int32())
    rows = pa.table({"id": names, "path": names, "offset": offsets, "length": lengths, "label": labels})
    shard = Shard("train", 0, len(images), serialise(rows))
    convert = convert_carefully if carefully else convert_shard
    return convert(shard, open_store(tmp_path), open_store(tmp_path / "out"), Settings(size=16), "f" * 64)


@pytest.mark.parametrize(
    ("images", "rejected"),
    [
        ([WHOLE, WHOLE, b"<html>"], ["2.JPEG"]),
        ([WHOLE, WHOLE + b"mark: segv", jpeg(50, 40)], ["1.JPEG"]),
        ([WHOLE + b"mark: spoil", WHOLE, WHOLE], []),  # the second would die of what the first has done
    ],
)
def test_a_shard_loses_no_innocent_image(images: list[bytes], rejected: list[str], tmp_path: Path) -> None:
    record = convert(tmp_path, images)
    assert [image.id for image in record.rejected] == rejected
    assert record.file is not None
    assert record.file.rows == len(images) - len(rejected)
    careful = (tmp_path / "out" / record.file.name).read_bytes()
    good = [data for number, data in enumerate(images) if f"{number}.JPEG" not in rejected]
    if not rejected:
        convert(tmp_path, good, carefully=False)
        assert (tmp_path / "out" / record.file.name).read_bytes() == careful


def test_a_plan_survives_an_image_that_kills_its_decoder(tmp_path: Path) -> None:
    (tmp_path / "raw" / "train" / "c").mkdir(parents=True)
    for number, data in enumerate([WHOLE, WHOLE + b"mark: segv", WHOLE, b"<html>"]):
        (tmp_path / "raw" / "train" / "c" / f"{number}.JPEG").write_bytes(data)
    source = FolderSource(open_store(tmp_path / "raw"))
    assert 1e-5 < measure(source, source.catalogue(["c"]).splits["train"], 32) < 1


def test_a_decoder_killed_for_want_of_memory_is_told_and_rejects_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"part-00000\.parquet: even a process that decodes no image was killed, .* memory"
    ):
        convert(tmp_path, [WHOLE, WHOLE + b"mark: orphan"])
    with pytest.raises(
        InputError, match=r"train/1\.JPEG \(.*/1\.JPEG\) cannot be decoded: .*SIGKILL.*; give tasks more memory"
    ) as caught:
        convert(tmp_path, [WHOLE, WHOLE + b"mark: killed"])
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_an_answer_that_is_not_text_is_a_decoder_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library in the child may have printed it."""
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\nprintf '{"status": 0, "reason": "\\377"}\\n'\nexec cat > /dev/null\n""")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with DecoderProcess(32, per_image=False) as process, pytest.raises(DecoderDiedError) as caught:
        process.decode(WHOLE, 32, np.zeros((32, 32, 3), np.uint8))
    assert type(caught.value) is DecoderDiedError
