"""What is set up on first use is set up whole where a new process has several threads use it first, as a task does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.lottery.s3_proxy import CREDENTIALS, s3_proxy
from tests.preprocessing.raw_images import jpeg, photo

THREADS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor

def at_once(function):
    start = threading.Barrier(16)
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: (start.wait(), function(number))[1], range(16)))
"""
OPEN = """
from preprocessing.common.storage import open_store
one = open_store(sys.argv[1])
print(len(at_once(lambda number: (one if number % 2 else open_store(sys.argv[1]))._open())))
"""
READ = """
import pyarrow as pa
from preprocessing.images.raw_images import read_images
from preprocessing.sources.base import WHOLE_FILE
from preprocessing.common.storage import open_store
names = [f"{number}.JPEG" for number in range(64)]
table = pa.table({"id": names, "path": names, "offset": [WHOLE_FILE] * 64, "length": [int(sys.argv[2])] * 64})
print(len({bytes(image.data) for image in read_images(open_store(sys.argv[1]), table)}))
"""
DECODE = """
from pathlib import Path
from preprocessing.images.decode import decode
kinds = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
found = at_once(lambda number: decode(kinds[number % len(kinds)], 16).tobytes())
assert all(pixels == decode(kinds[number % len(kinds)], 16).tobytes() for number, pixels in enumerate(found))
print(len(found))
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", THREADS + code, *arguments],
        env={**os.environ, **CREDENTIALS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.strip()


def test_threads_that_open_a_bucket_first() -> None:
    uri = "s3://bucket/folder?endpoint_override=127.0.0.1%3A9&scheme=http&region=us-east-1"
    assert run(OPEN, uri) == "16"


def test_threads_that_read_class_folders_from_a_bucket_first() -> None:
    data = jpeg(20, 20, seed=0)[:-2]
    with s3_proxy() as bucket:
        for number in range(64):
            bucket.put(f"folder/{number}.JPEG", data + bytes([number, 0]))
        assert run(READ, bucket.uri("folder"), str(len(data) + 2)) == "64"


def test_threads_that_decode_first(tmp_path: Path) -> None:
    for kind, mode in [
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
    ]:
        Image.fromarray(photo(40, 40)).convert(mode).save(tmp_path / f"{mode}.{kind}", kind)
    assert run(DECODE, str(tmp_path)) == "16"
