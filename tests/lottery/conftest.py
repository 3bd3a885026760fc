"""A small dataset of real digits and a small experiment on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demo.digits import write_digits
from lottery.driver.prepare import Sweep, prepare
from lottery.protocol import Instructions, TaskPlacement
from lottery.worker.shutdown import ShutdownRequest
from tests.lottery.paths import DIGITS
from tests.lottery.small_sweep import SMALL
from tests.lottery.worker_runs import Worker
from tests.preprocessing.raw_images import preprocess


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
        sweep.bind_run_directory()
        return sweep

    return make


@pytest.fixture(scope="session")
def traced(tensorflow):
    """Stands for `lottery.worker.session.Trainer`: one per recipe, because tracing a step takes most of a test.

    Tests may share it, as the members of a bundle do: only a training's state stays in it.
    """
    from lottery.training.trainer import Trainer

    made: dict[str, Trainer] = {}

    def trainer(experiment, *arguments):
        strategy = arguments[-1]
        prunable = (experiment.masks.classifier, experiment.masks.exclude)
        recipe = (experiment.data, experiment.model, experiment.training, *prunable, experiment.seed)
        key = f"{recipe} {arguments[:-1]} {strategy.num_replicas_in_sync}"
        if key not in made:
            made[key] = Trainer(experiment, *arguments)
        return made[key]

    return trainer


@pytest.fixture
def worker(traced, monkeypatch: pytest.MonkeyPatch):
    """Makes a worker on `devices` logical devices."""
    from lottery.worker import session as module
    from tests.lottery.small_training import strategy

    monkeypatch.setattr(module, "Trainer", traced)

    def make(
        sweep: Sweep, *tickets, tell=lambda event: None, devices: int = 1, shutdown: ShutdownRequest | None = None
    ):
        monkeypatch.setattr(module.devices, "strategy", lambda position: strategy(devices))
        instructions = Instructions(sweep.assignment(tickets), TaskPlacement())
        return Worker(module.Session(instructions, tell, shutdown), tickets)

    return make


@pytest.fixture(scope="session")
def dense_runs() -> dict[tuple[str, ...], Path]:
    """Run directories after their dense run, by the sweep's overrides."""
    return {}


@pytest.fixture
def after_dense(small, worker, dense_runs, tmp_path_factory: pytest.TempPathFactory):
    """Makes the small sweep with its dense run done."""

    def make(runs: str = "runs", *overrides: str, devices: int = 1) -> Sweep:
        sweep = small(*overrides, runs=runs)
        key = (*overrides, str(devices))
        if key not in dense_runs:
            worker(sweep, devices=devices).train_dense()
            dense_runs[key] = tmp_path_factory.mktemp("dense")
            shutil.copytree(sweep.run.uri, dense_runs[key], dirs_exist_ok=True)
        else:
            shutil.copytree(dense_runs[key], sweep.run.uri, dirs_exist_ok=True)
        return sweep

    return make
