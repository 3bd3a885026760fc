"""A small dataset of real digits and a small experiment on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demo.digits import write_digits
from lottery.sweep import Sweep, prepare
from tests.lottery.test_experiment import DIGITS
from tests.preprocessing.raw_images import preprocess

# 160 training images make 10 steps an epoch.
SMALL = (
    "data.batch=16",
    "model.options={filters: 4, units: 16}",
    "training.length=3ep",
    "training.learning_rate={peak: 0.05, warmup: 4, decay: linear, decay_start: 1.5ep}",
    "training.evaluate_every=1ep",
    "trellis=[0ep, 0.5ep, 1ep]",
    "masks.densities=[0.5, 0.1]",
    "tickets.controls=[reinit, shuffle]",
)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 160 train and 160 val digits at 8 px."""
    root = tmp_path_factory.mktemp("digits")
    write_digits(root / "images")
    preprocess(root / "images", root / "data", size=8, images_per_class=16)
    return root / "data"


@pytest.fixture
def small(digits: Path, tmp_path: Path):
    """Makes the small sweep, with further overrides, in a run directory of its own."""

    def make(*overrides: str, runs: str = "runs") -> Sweep:
        sweep = prepare(DIGITS, str(digits), str(tmp_path / runs), (*SMALL, *overrides))
        sweep.claim_run_directory()
        return sweep

    return make


@pytest.fixture(scope="session")
def dense_run(tensorflow, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the small experiment after its dense run."""
    from lottery.worker import Worker

    sweep = prepare(DIGITS, str(digits), str(tmp_path_factory.mktemp("dense")), SMALL)
    sweep.claim_run_directory()
    Worker(sweep.assignment(()), lambda event: None).train_dense()
    return Path(sweep.run.uri)


@pytest.fixture
def after_dense(small, dense_run: Path):
    """Makes the small sweep with its dense run done."""

    def make(runs: str = "runs") -> Sweep:
        sweep = small(runs=runs)
        shutil.copytree(dense_run, sweep.run.uri, dirs_exist_ok=True)
        return sweep

    return make
