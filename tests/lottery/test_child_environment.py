"""What a user's environment says never changes a result, nor how the children of a gang reach each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lottery.executor.child_environment import child_environment, without_proxy
from lottery.executor.supervisor import supervise

CHANGES = {
    "TF_CONFIG": "{}",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NVIDIA_TF32_OVERRIDE": "0",
    "KERAS_BACKEND": "torch",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
}
STAYS = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "http_proxy": "http://proxy:3128",
    "AWS_REGION": "eu-west-1",
    "NCCL_SOCKET_IFNAME": "eth0",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "LD_LIBRARY_PATH": "/cuda",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_GPU_ALLOCATOR": "cuda_malloc_async",
    "KERAS_HOME": "/scratch/keras",
}


OURS = ("KERAS_BACKEND", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS", "PYTHONPATH", "TF_CONFIG")


def test_what_changes_results_is_left_out_and_all_else_stays():
    told = child_environment((), 1, environment={**CHANGES, **STAYS})
    assert {name: value for name, value in told.items() if name not in OURS} == STAYS
    assert (told["KERAS_BACKEND"], told["TF_CONFIG"]) == ("tensorflow", "")


def test_a_child_sees_the_gpus_of_its_task_and_no_other():
    assert child_environment(("GPU-5", "GPU-7"), 4)["CUDA_VISIBLE_DEVICES"] == "GPU-5,GPU-7"
    assert child_environment((), 4)["CUDA_VISIBLE_DEVICES"] == "-1"
    assert child_environment((), 4)["OMP_NUM_THREADS"] == "4"


def test_an_index_of_a_gpu_means_to_a_child_what_it_means_to_nvidia_smi():
    """CUDA itself counts the fastest GPU first."""
    fastest_first = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert child_environment(("1",), 4, environment=fastest_first)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_xla_is_told_where_cuda_is_and_nothing_else():
    flags = {"XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_cuda_data_dir=/opt/cuda"}
    assert child_environment((), 1, environment=flags)["XLA_FLAGS"] == "--xla_gpu_cuda_data_dir=/opt/cuda"


def test_a_child_is_told_of_the_others_if_there_are_any():
    assert child_environment((), 1)["TF_CONFIG"] == ""
    told = child_environment((), 1, ("a:1", "b:2"), 1)
    assert json.loads(told["TF_CONFIG"]) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
    assert told["TF_GRPC_REUSE_PORT"] == "true"


def test_a_child_is_started_without_what_changes_its_results(tmp_path, monkeypatch):
    (tmp_path / "tells.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, value in CHANGES.items():
        monkeypatch.setenv(name, value)
    events = []
    environment = child_environment((), 1)
    ended = supervise("tells", b"", environment, 30.0, lambda line: events.append(json.loads(line)))
    assert ended.status == 0, ended.tail
    assert set(events[0]) & set(CHANGES) == {"TF_CONFIG", "KERAS_BACKEND"}
    assert (events[0]["TF_CONFIG"], events[0]["KERAS_BACKEND"]) == ("", "tensorflow")


KERAS = """
from lottery.worker import devices
devices.configure(1, True)
import keras
print(keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
"""


def test_the_keras_json_of_a_home_changes_nothing(tmp_path):
    (tmp_path / ".keras").mkdir()
    changed = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(changed))
    home = child_environment((), 1, environment={**os.environ, "HOME": str(tmp_path)})
    done = subprocess.run([sys.executable, "-c", KERAS], env=home, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["tensorflow", "float32", "1e-07", "channels_last"], done.stderr


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "10.0.0.1,node-2"),
        ({"no_proxy": "localhost,.example.com"}, "localhost,.example.com,10.0.0.1,node-2"),
        ({"no_proxy": "a", "no_grpc_proxy": "b,node-2"}, "b,node-2,10.0.0.1"),
        ({"no_proxy": "a", "no_grpc_proxy": ""}, "a,10.0.0.1,node-2"),
    ],
)
def test_no_proxy_is_between_children_that_train_together(before, after):
    assert without_proxy(["10.0.0.1", "node-2", "10.0.0.1"], before) == {"no_grpc_proxy": after}


def test_storage_is_reached_by_the_proxy_as_before():
    proxies = {"http_proxy": "http://proxy:3128", "no_proxy": "a"}
    told = child_environment((), 1, ("10.0.0.1:1", "node-2:2"), 1, proxies)
    assert told["no_grpc_proxy"] == "a,10.0.0.1,node-2"
    assert {name: told[name] for name in proxies} == proxies
    assert "no_grpc_proxy" not in child_environment((), 1, ("10.0.0.1:1",), 0, proxies)
