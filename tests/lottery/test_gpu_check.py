"""What is said of a GPU that TensorFlow does not see; nvidia-smi is simulated."""

import time

import pytest

from lottery.executor import gpu_check
from lottery.executor.gpu_check import Driver, Found, explanation

GPUS = ("GPU-a", "GPU-b")
OLD, NEW = Driver("470.57.02", "11.4", "+---+"), Driver("525.60.13", "12.0", "+---+")
WORDS = "Cannot dlopen some GPU libraries"


@pytest.mark.parametrize(
    ("gpus", "found", "driver", "words"),
    [
        (GPUS, Found(0, ""), OLD, "it is built for CPUs only; install tensorflow[and-cuda]"),
        (
            GPUS,
            Found(0, "12.5.1"),
            Driver("", "", "not found"),
            "nvidia-smi: not found; install NVIDIA's driver for CUDA 12",
        ),
        (
            GPUS,
            Found(0, "12.5.1"),
            OLD,
            "built for CUDA 12.5.1, and driver 470.57.02 ends with CUDA 11.4; install a driver for CUDA 12 or later",
        ),
        (GPUS, Found(0, "12.5.1"), NEW, f"{WORDS}; install tensorflow[and-cuda]"),
        (GPUS, Found(0, "12.5.1"), NEW._replace(cuda=""), f"{WORDS}; install tensorflow[and-cuda]"),
        (GPUS, Found(1, "12.5.1"), NEW, "a GPU that is missing; compare nvidia-smi -L"),
        (
            ("MIG-a", "MIG-b"),
            Found(1, "12.5.1"),
            NEW,
            "a process can use one MIG instance; set spark.executor.resource",
        ),
    ],
)
def test_the_reason(gpus, found, driver, words):
    line = explanation(gpus, found, WORDS, driver)
    assert line.startswith(f"Spark gave GPUs {', '.join(gpus)}, TensorFlow sees {found.gpus}: ")
    assert words in line


@pytest.mark.parametrize(
    ("script", "driver"),
    [
        (
            "echo '| NVIDIA-SMI 470.57.02    Driver Version: 470.57.02    CUDA Version: 11.4     |'",
            ("470.57.02", "11.4"),
        ),
        (
            "echo '| NVIDIA-SMI 610.57.04   KMD Version: 610.57.04     CUDA UMD Version: 13.3     |'",
            ("610.57.04", "13.3"),
        ),
        ("echo '| NVIDIA-SMI 550.1   Driver Version: 550.1    CUDA Version: N/A     |'", ("550.1", "")),
        ("echo 'Unable to determine the device handle: GPU is lost. Reboot.'; exit 15", ("", "")),
        (None, ("", "")),
    ],
)
def test_the_drivers_versions(tmp_path, monkeypatch, script, driver):
    if script:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = gpu_check.installed_driver()
    assert found[:2] == driver
    assert found.words in (script or "not found")


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (
            "raise ImportError('libcuda.so.1: cannot open')",
            "fails there: ImportError: libcuda.so.1: cannot open; check",
        ),
        ("print('from a sitecustomize')", "TensorFlow fails there: no message; check"),
        ("", "TensorFlow fails there: no message; check"),
        (r"import os; os.write(1, b'\"\xff\"')", "TensorFlow fails there: no message; check"),
    ],
)
def test_a_tensorflow_that_fails_is_told_in_one_line(monkeypatch, look, words):
    monkeypatch.setattr(gpu_check, "_LOOK", look)
    line = gpu_check.problem(("GPU-a",), {})
    assert words in line
    assert "\n" not in line


def test_of_what_tensorflow_says_the_telling_line_is_given(monkeypatch):
    look = (
        "import os, sys; assert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '0'; "
        "print('failed call to cuInit: UNKNOWN ERROR (303)\\nSkipping registering GPU devices...', file=sys.stderr); "
        'print(\'{"gpus": 0, "cuda": "12.5"}\')'
    )
    monkeypatch.setattr(gpu_check, "_LOOK", look)
    monkeypatch.setattr(gpu_check, "installed_driver", lambda: NEW)
    assert "failed call to cuInit" in gpu_check.problem(("GPU-a",), {"TF_CPP_MIN_LOG_LEVEL": "2"})
    assert gpu_check.problem((), {}) is None


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "W0000 00:00:1795697414.706262    8002 gpu_device.cc:2365] Cannot dlopen some GPU libraries. Please",
            "TensorFlow sees 0: Cannot dlopen some GPU libraries; install tensorflow[and-cuda], and",
        ),
        (
            "E0000 00:00:1795697410.289485    7896 cuda_platform.cc:52] call to cuInit: CUDA_ERROR_NO_DEVICE: none",
            "TensorFlow sees 0: call to cuInit: CUDA_ERROR_NO_DEVICE: none; compare nvidia-smi -L on that",
        ),
    ],
)
def test_tensorflows_log_on_a_machine_with_a_gpu_is_told_without_its_prefix(monkeypatch, log, words):
    """As TensorFlow 2.21 said it there."""
    look = f"""import sys; print({log!r}, file=sys.stderr); print('{{"gpus": 0, "cuda": "12.5"}}')"""
    monkeypatch.setattr(gpu_check, "_LOOK", look)
    monkeypatch.setattr(gpu_check, "installed_driver", lambda: NEW)
    assert words in gpu_check.problem(("9",), {})


def test_the_check_leaves_a_gpus_memory_to_others(tmp_path):
    """Without growth TensorFlow takes all of it."""
    (tmp_path / "tensorflow.py").write_text(
        "import types\n"
        "grown = []\n"
        "experimental = types.SimpleNamespace(set_memory_growth=lambda gpu, on: grown.append((gpu, on)))\n"
        "config = types.SimpleNamespace(list_physical_devices=lambda kind: ['g'], experimental=experimental)\n"
        "sysconfig = types.SimpleNamespace(get_build_info=dict)\n"
        "class device:\n"
        "    def __init__(self, name): pass\n"
        "    def __enter__(self): assert grown == [('g', True)]\n"
        "    def __exit__(self, *error): pass\n"
        "ones = float\n"
    )
    assert gpu_check.problem(("GPU-a",), {"PYTHONPATH": str(tmp_path)}) is None


def test_what_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(gpu_check, "_LOOK", "import time; time.sleep(60)")
    monkeypatch.setattr(gpu_check, "_TENSORFLOW_TIMEOUT", 0.5)
    started = time.monotonic()
    assert "did not start within" in gpu_check.problem(("GPU-a",), {})
    assert time.monotonic() - started < 30
