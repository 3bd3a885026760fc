"""What is said of a GPU that TensorFlow does not see; nvidia-smi is simulated."""

import pytest

from lottery import gpu_check
from lottery.gpu_check import Seen, explanation

SMI = "| NVIDIA-SMI 470.57.02    Driver Version: 470.57.02    CUDA Version: 11.4     |\n"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen(0, "", "", "", "x"), "it is built for processors alone; install tensorflow[and-cuda]"),
        (
            Seen(0, "12.5.1", "", "", "x"),
            "nvidia-smi finds no driver; install NVIDIA's, for CUDA 12",
        ),
        (
            Seen(0, "12.5.1", "470.57.02", "11.4", "x"),
            "built for CUDA 12.5.1, and driver 470.57.02 ends with CUDA 11.4; install a driver for CUDA 12 or later",
        ),
        (
            Seen(1, "12.5.1", "525.60.13", "12.0", "no libcudnn"),
            "sees 1: no libcudnn; install tensorflow[and-cuda]",
        ),
        (Seen(1, "12.5.1", "580.10", "13.0", "no libcudnn"), "sees 1: no libcudnn; install tensorflow[and-cuda]"),
    ],
)
def test_the_reason_that_versions_give(seen, words):
    line = explanation(("GPU-a", "GPU-b"), seen)
    assert line.startswith("Spark gave GPUs GPU-a, GPU-b, TensorFlow sees ")
    assert words in line


@pytest.mark.parametrize(
    ("script", "versions"),
    [
        (f"echo '{SMI.strip()}'", ("470.57.02", "11.4")),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9", ("", "")),
        (None, ("", "")),
    ],
)
def test_the_drivers_versions(tmp_path, monkeypatch, script, versions):
    if script:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_check._driver() == versions


def test_a_tensorflow_that_fails_is_told_with_its_last_words(monkeypatch):
    monkeypatch.setattr(gpu_check, "_LOOK", "raise ImportError('libcuda.so.1: cannot open')")
    line = gpu_check.problem(("GPU-a",), {})
    assert "TensorFlow fails there: ImportError: libcuda.so.1: cannot open; install" in line
    assert "\n" not in line
