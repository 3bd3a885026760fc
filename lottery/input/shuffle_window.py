"""Whether an experiment's shuffle window fits into memory, if its dataset is read row group by row group."""

from __future__ import annotations

from lottery.experiment.sections import Input
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset, Split
from preprocessing.dataset.split import READ_AHEAD_BYTES


def check(dataset: Dataset, split: Split, settings: Input) -> None:
    """Raises InputError for a window that needs too much memory; the error names the largest that fits.

    Any window fits if the files are plain and on a local disk (they are mapped), if the split is small (it is held
    whole), or, from the second epoch on, if the local cache holds the whole dataset.
    """
    if split.random_access or (settings.cache_dir is not None and dataset.bytes <= settings.cache_bytes):
        return
    most = READ_AHEAD_BYTES // 2 // max(1, split.row_group_bytes)  # one window in use, the next on its way
    if settings.shuffle_window == "all" or settings.shuffle_window > most:
        raise InputError(
            f"input.shuffle_window: {settings.shuffle_window} needs too much memory for a dataset that cannot be "
            f"memory-mapped; --set input.shuffle_window={max(1, most)}, or give input.cache_dir and an "
            "input.cache_bytes as large as the dataset, or copy the dataset, uncompressed, to a local disk"
        )
