"""`events/` as TensorBoard's own readers see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2, metadata

from lottery.report import publish
from lottery.report.page.writing import write_events
from lottery.report.record.reading import read_sweep
from lottery.report.tensorboard.event_file import TAGS
from lottery.run.run_directory import DENSE
from tests.lottery.report_runs import write_run


def write(run) -> Path:
    record = read_sweep(run)
    write_events(run, record, publish.reset_points(record.origin))
    return Path(run.uri, "events")


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def plugin_content(folder: Path, tag: str) -> bytes:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return reader.SummaryMetadata(tag).plugin_data.content


def test_tensorboard_lists_a_run_for_each_training(tmp_path):
    run = write_run(tmp_path)
    folder = write(run)
    reader = EventMultiplexer().AddRunsFromDirectory(str(folder))
    reader.Reload()
    names = {DENSE, ".", *(result.ticket.name for result in run.results())}
    assert set(reader.Runs()) == names
    assert all(sorted(reader.Runs()[name]["scalars"]) == sorted(TAGS.values()) for name in names - {"."})


def test_scalars_are_the_evaluations(tmp_path):
    run = write_run(tmp_path)
    folder = write(run)
    for training in (DENSE, "01-000022-s0", "02-000000-reinit-s0"):
        rows = run.metrics(training)
        for column, tag in TAGS.items():
            found = scalars(folder / training, tag)
            assert [step for step, _ in found] == [row["step"] for row in rows]
            assert [value for _, value in found] == pytest.approx([row[column] for row in rows])


def test_another_report_adds_nothing_twice(tmp_path):
    run = write_run(tmp_path, dense=False)
    folder = write(run)
    half = scalars(folder / DENSE, "evaluation/top1")
    run = write_run(tmp_path)
    first = {path: path.read_bytes() for path in write(run).rglob("*") if path.is_file()}
    whole = scalars(folder / DENSE, "evaluation/top1")
    assert len(half) < len(whole) == len(run.metrics(DENSE))
    assert {path: path.read_bytes() for path in write(run).rglob("*") if path.is_file()} == first


def test_the_grid_is_there_as_hyperparameters(tmp_path):
    run = write_run(tmp_path, status="diverged", notes="the loss is nan")
    folder = write(run)
    grid = metadata.parse_experiment_plugin_data(plugin_content(folder, metadata.EXPERIMENT_TAG))
    assert {info.name for info in grid.hparam_infos} == {"density", "reset", "control", "order", "seed"}
    densities = next(info for info in grid.hparam_infos if info.name == "density")
    assert {value.number_value for value in densities.domain_discrete.values} == {1.0, 0.5, 0.1, 0.02}
    statuses = {"done": api_pb2.STATUS_SUCCESS, "diverged": api_pb2.STATUS_FAILURE}
    for result in run.results():
        of_run = folder / result.ticket.name
        start = metadata.parse_session_start_info_plugin_data(plugin_content(of_run, metadata.SESSION_START_INFO_TAG))
        assert start.hparams["density"].number_value == result.density
        assert start.hparams["control"].string_value == result.control.replace("none", "ticket")
        assert start.start_time_secs > 0
        end = metadata.parse_session_end_info_plugin_data(plugin_content(of_run, metadata.SESSION_END_INFO_TAG))
        assert end.status == statuses[result.status]


def test_a_training_under_way_has_no_end(tmp_path):
    folder = write(write_run(tmp_path, dense=False))
    with pytest.raises(KeyError):
        plugin_content(folder / DENSE, metadata.SESSION_END_INFO_TAG)


def test_seeds_are_sessions_of_one_group(tmp_path):
    folder = write(write_run(tmp_path, "seeds=[3, 5]"))
    groups = set()
    for seed in (3, 5):
        content = plugin_content(folder / f"seed-{seed}" / "01-000022-s0", metadata.SESSION_START_INFO_TAG)
        start = metadata.parse_session_start_info_plugin_data(content)
        assert start.hparams["seed"].number_value == seed
        groups.add(start.group_name)
    assert len(groups) == 1


def test_writing_loads_no_tensorflow():
    code = "import lottery.report.publish, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
