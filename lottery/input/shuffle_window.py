"""Whether memory can hold an experiment's shuffle window, if its dataset is read row group by row group."""

from __future__ import annotations

from lottery.experiment.config import Input
from preprocessing.common.errors import InputError
from preprocessing.dataset.opening import Dataset, Split
from preprocessing.dataset.split import READ_AHEAD_BYTES


def check(dataset: Dataset, split: Split, settings: Input) -> None:
    """Raises InputError for a window that takes more memory than there is for it, naming the largest that does not.

    Plain files on a local disk are mapped, and small splits held whole: any window will do. So it does where the local
    cache takes the whole dataset, from the second epoch on.
    """
    if split.random_access or (settings.cache_dir is not None and dataset.bytes <= settings.cache_bytes):
        return
    most = READ_AHEAD_BYTES // 2 // max(1, split.row_group_bytes)  # one window in use, the next on its way
    if settings.shuffle_window == "all" or settings.shuffle_window > most:
        raise InputError(
            f"input.shuffle_window: {settings.shuffle_window} is more row groups than are held of a dataset that "
            f"cannot be mapped: --set input.shuffle_window={max(1, most)}, or give input.cache_dir and an "
            "input.cache_bytes as large as the dataset, or copy the dataset, uncompressed, to a local disk"
        )
