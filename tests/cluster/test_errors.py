"""Bad input ends a job, before any Spark stage, with one line that names the input and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster.small_sweep import after_dense, arguments
from tests.cluster.submit import LOCAL, submit

pytestmark = pytest.mark.cluster


def refused(job: str, *arguments: object, options: Sequence[str] = LOCAL) -> str:
    """The one line that a job ends with."""
    done = submit(job, *map(str, arguments), options=options)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    lines = done.stdout.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def sweep(data: object, runs: object, *more: object) -> str:
    return refused("lottery_sweep.py", "--experiment", "conf/digits.yaml", "--data", data, "--runs", runs, *more)


def test_missing_folder(tmp_path: Path) -> None:
    line = refused("preprocess.py", "--source", tmp_path / "nowhere", "--output", tmp_path / "out")
    assert str(tmp_path / "nowhere") in line


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refused("preprocess.py", "--source", tmp_path / "empty", "--output", tmp_path / "out")
    assert str(tmp_path / "empty") in line
    assert not (tmp_path / "out").exists()


def test_unknown_key(data: Path, tmp_path: Path) -> None:
    assert "unknown key training.lenght; did you mean length?" in sweep(data, tmp_path, "--set", "training.lenght=3ep")


def test_wrong_type(data: Path, tmp_path: Path) -> None:
    assert "data.batch" in sweep(data, tmp_path, "--set", "data.batch=many")


def test_more_tasks_than_slots(data: Path, tmp_path: Path) -> None:
    line = sweep(data, tmp_path, "--set", "gang.tasks=3")
    assert "gang.tasks: 3 tasks asked for, but the cluster has" in line
    assert "--set gang.tasks=" in line


def test_dataset_without_manifest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    line = sweep(tmp_path / "data", tmp_path / "runs")
    assert "manifest.json" in line
    assert "jobs/preprocess.py" in line


def test_run_directory_of_another_experiment(data: Path, tmp_path: Path) -> None:
    from lottery.driver.prepare import prepare

    one, other = (prepare("conf/digits.yaml", str(data), str(tmp_path), [f"seed={seed}"]) for seed in (0, 1))
    one.bind_run_directory()
    Path(one.run.uri).rename(other.run.uri)
    assert "belongs to another experiment" in sweep(data, tmp_path, "--set", "seed=1")


def test_missing_option(tmp_path: Path) -> None:
    assert "--experiment" in refused("lottery_sweep.py", "--data", tmp_path, "--runs", tmp_path)


def test_command_line_settings_that_no_gang_can_run_with(data: Path, tmp_path: Path) -> None:
    arguments = ["--experiment", "conf/digits.yaml", "--data", data, "--runs", tmp_path]
    options = [*LOCAL, "--conf", "spark.dynamicAllocation.enabled=true"]
    line = refused("lottery_sweep.py", *arguments, options=options)
    assert "spark.dynamicAllocation.enabled=true" in line
    assert "set it to false" in line


def test_a_path_that_an_ascii_locale_has_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron's locale: of each such character spark-submit's JVM leaves question marks."""
    monkeypatch.setenv("LC_ALL", "C")
    for source, output in ((tmp_path, tmp_path / "größe"), (tmp_path / "größe", tmp_path / "out")):
        line = refused("preprocess.py", "--source", source, "--output", output)
        assert "gr????e: there is no such folder" in line
        assert "set LC_ALL=C.UTF-8" in line
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_trained_is_refused_before_it_is(data: Path, tmp_path: Path) -> None:
    """By the first child, as nothing else of a run loads TensorFlow."""
    line = sweep(data, tmp_path, "--set", "model={name: vgg16}", "--set", "gang.dense_executors=1")
    assert line.startswith("error: model vgg16 with options {} on images (8, 8, 3): ")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_damaged_mask_that_a_child_meets_is_named(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    """It is no process that died: deleting what the line says makes it again."""
    run = after_dense(undisturbed, tmp_path / "runs", levels=(0, 2))
    mask = run / "masks" / "01.safetensors"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:-9])
    line = refused("lottery_sweep.py", *arguments(data, tmp_path / "runs"))
    assert line.startswith(f"error: {mask} is damaged (not a whole safetensors blob: ")
    assert line.endswith("; delete it, and the same command makes the masks again")
    mask.unlink()
    done = submit("lottery_sweep.py", *arguments(data, tmp_path / "runs"))
    assert done.returncode == 0, done.stdout
    assert mask.read_bytes() == whole
