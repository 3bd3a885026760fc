"""What is set up on first use is set up whole where a new process has several threads use it first, as a task does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image
from raw_images import jpeg, photo
from s3_server import s3_bucket

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
from preprocessing.images.fetch import read_images
from preprocessing.sources.base import WHOLE_FILE
from preprocessing.common.storage import open_store
names = [f"{number}.JPEG" for number in range(64)]
table = pa.table({"path": names, "offset": [WHOLE_FILE] * 64, "length": [int(sys.argv[2])] * 64})
print(len({bytes(data) for data in read_images(open_store(sys.argv[1]), table, 10**6)}))
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
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS + code, *arguments],
        env={**os.environ, **keys},
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
    with s3_bucket() as bucket:
        for number in range(64):
            bucket.objects[f"folder/{number}.JPEG"] = jpeg(20, 20, seed=0)[:-2] + bytes([number, 0])
        length = len(bucket.objects["folder/0.JPEG"])
        assert run(READ, bucket.uri, str(length)) == "64"


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
