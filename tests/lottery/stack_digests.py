"""Digests of what a sweep does on the digits, from images to trained weights: `python -m tests.lottery.stack_digests`.

They do not depend on the versions of Python, numpy, pyarrow or opencv. `BY_PROCESSOR` may depend on the processor,
whose fastest instructions TensorFlow and numpy's linear algebra choose.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

KEPT = Path(__file__).parents[1] / "kept"
BY_PROCESSOR = ("augmented batches", "first weights", "trained weights", "ticket's weights")


def digests() -> dict[str, str]:
    """The digests by name."""
    return {**_dataset_digests(), **_input_digests(), **_training_digests()}


def _dataset_digests() -> dict[str, str]:
    from tests.preprocessing.raw_images import preprocess

    with tempfile.TemporaryDirectory() as folder:
        options = {"size": 8, "holdout": 1, "rows_per_shard": 2, "row_group_rows": 2}
        manifest = preprocess(KEPT / "half-dataset" / "source", Path(folder), **options)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        # The two that name versions.
        files = [path for path in files if path.name not in ("manifest.json", "rejected.parquet")]
        contents = [path.read_bytes() for path in files]
    moments = np.array([manifest.mean, manifest.std])
    return {"content hash": manifest.hash[:16], "dataset's files": _digest(*contents), "moments": _digest(moments)}


def _input_digests() -> dict[str, str]:
    from lottery.experiment.config import identity, load
    from lottery.experiment.sections import Data
    from lottery.input.order import sample_order
    from lottery.input.training_batches import TrainingInput
    from preprocessing.dataset.opening import Dataset

    dataset = Dataset.open(str(KEPT / "dataset"))
    starts = np.arange(0, 81, 16)
    plain, augmented = (
        [np.asarray(images) for images, _ in TrainingInput(dataset, data, 0).stream([(0, 5), (5, 10)])]
        for data in (
            Data(batch=16, crop=7, flip=True),
            Data(batch=16, crop=7, flip=True, crop_scale=(0.2, 1.0), colour=0.3),
        )
    )
    return {
        "identity": identity(load(str(KEPT / "experiment.yaml")), dataset.content_hash),
        "order": _digest(*(sample_order("d", seed, 3, starts, window) for seed in (0, 1) for window in ("all", 2))),
        "batches": _digest(*plain),
        "augmented batches": _digest(*augmented),
    }


def _training_digests() -> dict[str, str]:
    import tensorflow

    from lottery.tickets.controls import shuffled
    from tests.lottery.small_training import arrays, batches, config, masked_start, rates, trainer

    trained = trainer(tensorflow, config())
    first = trained.first_state(0)
    images, labels = batches(6)
    trained.load(first, None)
    trained.run(images, labels, rates(6))
    dense = arrays(trained.state())
    start, _ = masked_start(trained, dense)
    random = np.random.default_rng(0)
    _, mask = masked_start(trained, {path: random.normal(size=array.shape) for path, array in sorted(dense.items())})
    trained.load(start, mask)
    trained.run(images, labels, rates(6))
    return {
        "mask": _digest(*(mask[path] for path in sorted(mask))),
        "shuffled mask": _digest(*(array for _, array in sorted(shuffled(mask, 0, 1).items()))),
        "first weights": _of_state(first),
        "trained weights": _of_state(dense),
        "ticket's weights": _of_state(arrays(trained.state())),
    }


def _of_state(state: dict[str, Any]) -> str:
    return _digest(*(np.asarray(state[path]) for path in sorted(state)))


def _digest(*contents: Any) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content)
    return total.hexdigest()[:16]


if __name__ == "__main__":
    logging.disable(logging.INFO)
    print(json.dumps(digests()))
