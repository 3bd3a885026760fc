"""Models opened in a fresh process by Keras alone: nothing of this suite can be imported there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """
import json, sys
sys.modules["lottery"] = sys.modules["preprocessing"] = sys.modules["tests"] = None  # importing them fails
import keras
import numpy as np

found = []
for model, data in json.loads(sys.argv[1]):
    opened, arrays = keras.saving.load_model(model), np.load(data)
    logits = opened.predict(arrays["images"], batch_size=64, verbose=0)
    found.append([float(np.mean(logits.argmax(-1) == arrays["labels"])), str(logits.dtype)])
print(json.dumps(found))
"""


def accuracies(files: Sequence[tuple[Path, Path]], cwd: Path) -> list[float]:
    """The top-1 accuracy of each model file on the images and labels of an .npz file."""
    told = json.dumps([[str(model), str(data)] for model, data in files])
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", _SCRIPT, told],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {dtype for _, dtype in found} == {"float32"}
    return [top1 for top1, _ in found]
