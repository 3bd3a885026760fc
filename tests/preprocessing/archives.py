"""The official archives and Kaggle's tree, made from class folders."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.preprocessing.raw_images import CLASSES

NAMES = {
    "n01440764": "tench, Tinca tinca",
    "n01443537": "goldfish, Carassius auratus",
    "n01484850": "great white shark",
}
# The development kit counts classes in an order of its own; this one is neither sorted nor reversed.
ILSVRC_IDS = {"n01443537": 1, "n01484850": 2, "n01440764": 3}


def tar_bytes(files: dict[str, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of the files, in their order."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return sink.getvalue()


def write_official(folders: Path, root: Path) -> None:
    """`ILSVRC2012_img_train.tar`, `ILSVRC2012_img_val.tar` and the development kit of a folder of class folders."""
    root.mkdir()
    tars = {}
    for name in reversed(CLASSES):  # in no particular order
        images = {path.name: path.read_bytes() for path in sorted((folders / "train" / name).iterdir(), reverse=True)}
        tars[f"{name}.tar"] = tar_bytes(images)
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_bytes(tars))
    val = val_images(folders)
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_bytes({name: data for name, (_, data) in val.items()}))
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(devkit([ILSVRC_IDS[wnid] for wnid, _ in val.values()]))


def write_kaggle(folders: Path, root: Path) -> None:
    """Kaggle's tree of a folder of class folders."""
    images = root / "ILSVRC" / "Data" / "CLS-LOC"
    shutil.copytree(folders / "train", images / "train")
    (images / "val").mkdir()
    (images / "test").mkdir()
    (images / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"has no label")
    lines = ["ImageId,PredictionString"]
    for name, (wnid, data) in reversed(val_images(folders).items()):
        (images / "val" / name).write_bytes(data)
        lines.append(f"{name.removesuffix('.JPEG')},{wnid} 85 1 499 272 {wnid} 1 2 3 4 ")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {words}\n" for wnid, words in NAMES.items()))


def val_images(folders: Path) -> dict[str, tuple[str, bytes]]:
    """Val's images in the order of their numbers: file name to wnid and bytes."""
    paths = sorted((folders / "val").glob("*/*.JPEG"), key=lambda path: path.name)
    return {path.name: (path.parent.name, path.read_bytes()) for path in paths}


def devkit(truth: list[int], ids: dict[str, int] | None = None) -> bytes:
    """A development kit: classes of val's images by `ILSVRC2012_ID`, and `meta.mat`, with an inner node of WordNet."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, NAMES[wnid], 0) for wnid, number in (ids or ILSVRC_IDS).items()]
    rows.append((len(rows) + 1, "n00001740", "entity", 2))
    synsets = np.array([tuple(row) for row in rows], dtype=kind).reshape(-1, 1)
    sink = io.BytesIO()
    savemat(sink, {"synsets": synsets})
    folder = "ILSVRC2012_devkit_t12"
    text = "".join(f"{number}\n" for number in truth).encode()
    files = {
        f"{folder}/readme.txt": b"",
        f"{folder}/data/meta.mat": sink.getvalue(),
        f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": text,
    }
    return gzip_bytes(tar_bytes(files))


def gzip_bytes(data: bytes) -> bytes:
    """Compressed, always to the same bytes."""
    import gzip

    return gzip.compress(data, mtime=0)
