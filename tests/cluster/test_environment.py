"""A user's environment variables for TensorFlow, Keras and Python change no result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.small_sweep import after_dense, arguments, measured
from tests.cluster.submit import submit

pytestmark = pytest.mark.cluster


def test_tickets_are_the_same_in_an_environment_that_would_change_them(
    data: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras = {"floatx": "float16", "backend": "torch", "epsilon": 0.01, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(keras))
    for name, value in {
        "KERAS_HOME": str(tmp_path),
        "KERAS_BACKEND": "torch",
        "TF_CONFIG": "{}",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
        "XLA_FLAGS": "--nonsense",
        "CUDA_VISIBLE_DEVICES": "5",
        "PYTHONOPTIMIZE": "1",
        "OMP_NUM_THREADS": "7",
        "TMPDIR": str(tmp_path / "nowhere"),
    }.items():
        monkeypatch.setenv(name, value)
    runs = tmp_path / "runs"
    after_dense(undisturbed, runs, levels=(0, 1))
    done = submit("lottery_sweep.py", *arguments(data, runs))
    assert done.returncode == 0, done.stdout
    assert measured(runs) == measured(undisturbed)
