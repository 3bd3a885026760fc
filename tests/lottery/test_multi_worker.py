"""Two processes that train the dense run together over loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lottery.driver.prepare import prepare
from lottery.executor.child_environment import child_environment
from lottery.protocol import Instructions, Progress, TaskPlacement, decode_event
from lottery.run.run_directory import DENSE
from preprocessing.common.storage import open_store
from tests.lottery.datasets import local_dataset
from tests.lottery.paths import DIGITS
from tests.lottery.worker_runs import equal

pytestmark = pytest.mark.cluster
SECONDS = 120
RATE = ("training.learning_rate={peak: 0.001}",)


def free_ports(count):
    """Free for now: another process may take one before TensorFlow does, so the test tries again with others."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def train(sweep, workers, logs: Path, tickets=()):
    """Trains the dense run, or tickets, in so many processes; each one's count of images, or what went wrong."""
    endpoints = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    children = []
    try:
        for index in range(workers):
            child = subprocess.Popen(
                [sys.executable, "-m", "lottery.worker"],
                stdin=subprocess.PIPE,
                stdout=(logs / f"worker-{workers}-{index}.events").open("w"),
                stderr=(logs / f"worker-{workers}-{index}.log").open("w"),
                env=child_environment((), 1, endpoints, index),
            )
            children.append(child)
            child.stdin.write(Instructions(sweep.assignment(tickets), TaskPlacement()).encode())
            child.stdin.close()
        deadline = time.monotonic() + SECONDS
        statuses = [child.wait(max(0.1, deadline - time.monotonic())) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    if any(statuses):
        return "\n".join((logs / f"worker-{workers}-{index}.log").read_text()[-2000:] for index in range(workers))
    events = [(logs / f"worker-{workers}-{index}.events").read_bytes().splitlines() for index in range(workers)]
    return [sum(event.images for event in map(decode_event, lines) if isinstance(event, Progress)) for lines in events]


def images(sweep, workers, logs, tickets=()):
    trained = train(sweep, workers, logs, tickets)
    if "in use" in str(trained):
        trained = train(sweep, workers, logs, tickets)
    assert isinstance(trained, list), trained
    return trained


@pytest.mark.parametrize("model", ["conv_small", "tests.lottery.own_models:with_batch_norm"])
def test_two_workers_train_what_one_does_and_the_chief_writes(tmp_path, model):
    """Of the last batch of the evaluation one of them has an image and the other none."""
    data, _ = local_dataset(tmp_path)
    recipe = (
        f"model={{name: {model}}}",
        "data.batch=10",
        "training.length=3ep",
        "trellis=[0, 10]",
        "masks.densities=[0.5, 0.1]",
        "tickets.controls=[]",
        *RATE,
    )
    one, two = (prepare(DIGITS, data, str(tmp_path / runs), recipe) for runs in ("one", "two"))
    for sweep in (one, two):
        sweep.bind_run_directory()
    assert images(one, 1, tmp_path) == [300]
    assert images(two, 2, tmp_path) == [150, 150]  # each reads its half of every batch
    assert not two.has_masks()  # a single process makes them
    assert images(two, 1, tmp_path) == [0]
    assert one.run.provenance() == two.run.provenance()
    expected, found = (sweep.run.checkpoint(DENSE) for sweep in (one, two))
    assert expected.step == found.step == 30
    for path, value in expected.variables.items():
        assert np.abs(value - found.variables[path]).max() < 1e-5, path
    ours, theirs = one.run.dense_result(), two.run.dense_result()
    assert (theirs.status, theirs.evaluated) == ("done", ours.evaluated)
    assert theirs.loss == pytest.approx(ours.loss, abs=1e-5)
    assert (theirs.top1, theirs.top5, theirs.evaluated) == (ours.top1, ours.top5, 21)
    assert 0 < ours.top1 < 1
    expected, found = (sweep.run.answers(DENSE, ours.top1).evaluate for sweep in (one, two))
    assert found.tolist() == expected.tolist()  # in file order, though each worker evaluates a part of each batch
    for sweep in (one, two):
        assert open_store(sweep.run.uri).list("masks") == ["masks/00.safetensors", "masks/01.safetensors"]
    names = sorted(name for name in open_store(two.run.uri).list() if name.endswith((".tmp", ".json")))
    assert names == ["dataset.json", "dense/provenance.json", "dense/result.json"]
    if model == "conv_small":
        check_bundle(one, two, tmp_path)


def test_two_workers_crop_on_their_devices(tmp_path):
    """Plain crops are the host's to the bit, and so is all that is trained on them. Others are those of one worker."""
    data, _ = local_dataset(tmp_path)
    small = ("data.batch=10", "data.crop=11", "data.flip=true", "training.length=8", "trellis=[0]", *RATE)
    scaled = "data.crop_scale=[0.2, 1]", "data.colour=0.3"
    found = {}
    for name, workers, recipe in (
        ("host", 2, ("data.augment=host",)),
        ("device", 2, ("data.augment=device",)),
        ("scaled by one", 1, ("data.augment=device", *scaled)),
        ("scaled", 2, ("data.augment=device", *scaled)),
    ):
        sweep = prepare(DIGITS, data, str(tmp_path / name), (*small, *recipe))
        sweep.bind_run_directory()
        assert images(sweep, workers, tmp_path) == [80 // workers] * workers
        found[name] = sweep.run.checkpoint(DENSE).variables
    assert equal(found["host"], found["device"])
    assert not equal(found["host"], found["scaled"])
    for path, value in found["scaled by one"].items():
        assert np.abs(value - found["scaled"][path]).max() < 1e-5, path


def check_bundle(one, two, logs):
    """All tickets as one bundle, which both workers evaluate together: the same but for the order of sums."""
    for name in open_store(one.run.uri).list("trellis") + open_store(one.run.uri).list("masks"):
        open_store(two.run.uri).write(name, open_store(one.run.uri).read(name))
    assert len(one.left()) == 4
    assert images(one, 1, logs, one.left()) == [2 * 300 + 2 * 200]
    assert images(two, 2, logs, two.left()) == [500, 500]
    for alone, together in zip(one.run.results(), two.run.results(), strict=True):
        assert (together.ticket, together.status, together.kept) == (alone.ticket, "done", alone.kept)
        assert together.loss == pytest.approx(alone.loss, abs=1e-4)
        answers = two.run.answers(together.ticket.name, together.top1).evaluate
        assert len(answers) == 21
        rows = zip(one.run.metrics(alone.ticket.name), two.run.metrics(alone.ticket.name), strict=True)
        for expected, found in rows:
            assert found["step"] == expected["step"]
            assert found["loss"] == pytest.approx(expected["loss"], abs=1e-4)


def test_two_workers_meet_although_the_environment_names_proxies(tmp_path, monkeypatch):
    """As behind a company's proxy, which cannot reach the workers: this one takes connections and never answers."""
    data, _ = local_dataset(tmp_path)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "bucket.example.com")
        monkeypatch.delenv("no_grpc_proxy", raising=False)
        recipe = ("data.batch=10", "training.length=2", "trellis=[0]", "masks.densities=[0.5]", *RATE)
        sweep = prepare(DIGITS, data, str(tmp_path / "runs"), recipe)
        sweep.bind_run_directory()
        assert images(sweep, 2, tmp_path) == [10, 10]
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has come by
            proxy.accept()
