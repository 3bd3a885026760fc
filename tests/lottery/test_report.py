import io

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from lottery.experiment import config
from lottery.report import publish
from lottery.run.run_directory import DenseResult, RunDirectory, TicketResult
from lottery.tickets.controls import CONTROLS
from preprocessing.common.storage import open_store
from tests.lottery.paths import DIGITS

DENSE = DenseResult("done", "", 0.96, 1.0, 0.1, 400, 440, 1.0, 1000, 900)


POINTS = {0: "0ep", 44: "1ep"}


def result(level, epoch=0.0, top1=0.9, control="none", seed=0, status="done", note=""):
    density = 0.5 / (level + 1)
    return TicketResult(
        level=level,
        density=density,
        kept=round(900 * density),
        prunable=900,
        step=int(epoch * 44),
        epoch=epoch,
        control=control,
        seed=seed,
        status=status,
        note=note,
        top1=top1,
        top5=top1,
        loss=None if top1 is None else 1 - top1,
        steps=440,
        seconds=0.3,
        executor="host:1",
        task=level,
    )


RESULTS = [
    result(0, 0.0, 0.952),
    result(0, 1.0, 0.940),
    result(0, 0.0, 0.91, "reinit"),
    result(1, 0.0, 0.80),
    result(1, 1.0, 0.90, seed=0),
    result(1, 1.0, 0.94, seed=1),
    result(1, 0.0, 0.50, "reinit", seed=0),
    result(1, 0.0, 0.60, "reinit", seed=1),
    result(2, 0.0, None, status="diverged"),
]


def test_best_ticket_controls_and_match_of_each_level():
    first, second, third = publish.levels(DENSE, RESULTS)
    assert (first.step, first.top1, first.controls, first.matches) == (0, 0.952, {"reinit": 0.91}, True)
    assert (second.step, second.first) == (44, 0.80)
    assert second.top1 == pytest.approx(0.92)  # the mean over seeds, not the best seed
    assert second.controls["reinit"] == pytest.approx(0.55)
    assert not second.matches
    assert (third.step, third.first, third.top1, third.matches) == (None, None, None, False)


def test_a_reset_point_with_a_diverged_seed_is_not_judged_by_the_other_seeds():
    results = [result(0, 0.0, 0.8), result(0, 1.0, 0.99, seed=0), result(0, 1.0, None, seed=1, status="diverged")]
    (level,) = publish.levels(DENSE, results)
    assert (level.step, level.top1) == (0, 0.8)


def test_matching_is_within_one_standard_error_of_the_dense_accuracy():
    error = publish.standard_error(DENSE)
    assert error == pytest.approx((0.96 * 0.04 / 400) ** 0.5)
    (just,) = publish.levels(DENSE, [result(0, top1=0.96 - error + 1e-6)])
    (short,) = publish.levels(DENSE, [result(0, top1=0.96 - error - 1e-6)])
    assert just.matches
    assert not short.matches


def test_table_has_a_line_a_level_and_columns_that_line_up():
    lines = publish.table(DENSE, RESULTS, POINTS).splitlines()
    assert len(lines) == 1 + 3 + 2 + 1
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[0].split()[-4:] == ["gain", "reinit", "dense", "matches"]
    assert lines[1].split() == ["0", "50.00%", "450", "0.9520", "0ep", "0.9520", "+0.0000", "0.9100", "0.9600", "yes"]
    assert lines[2].split() == ["1", "25.00%", "225", "0.8000", "1ep", "0.9200", "+0.1200", "0.5500", "0.9600", "no"]
    assert lines[3].split()[-7:] == ["-", "-", "-", "-", "-", "0.9600", "no"]


def test_what_else_there_is_to_know_is_said_by_level():
    empty = "no weights left in conv1/kernel"
    results = [
        result(3, note=empty),
        result(2, note=empty),
        result(2, 1.0, note=empty),
        result(1, note="2 of 9 kept weights have become 0"),
        result(0, 0.0, None, status="diverged", note="the loss is nan at step 5"),
        result(0, 1.0, None, status="diverged", note="the loss is nan at step 6"),
        result(3, 1.0, None, status="failed", note="its process died"),  # which the sweep tells by name
    ]
    assert publish.table(DENSE, results, POINTS).splitlines()[-3:] == [
        "level 1: 2 of 9 kept weights have become 0",
        "levels 2, 3: no weights left in conv1/kernel",
        "level 0: 2 diverged; results.parquet gives the step of each",
    ]


def test_parquet_is_tidy():
    table = pq.read_table(io.BytesIO(publish.parquet(RESULTS)))
    names = "level density kept prunable step epoch control seed status top1 top5 loss steps seconds executor task"
    assert " ".join(table.column_names[:16]) == names
    assert table.num_rows == len(RESULTS)
    assert table.column("top1").to_pylist()[-1] is None
    assert set(table.column("control").to_pylist()) == {"none", "reinit"}


def test_picture_is_a_png_with_something_in_it():
    import cv2

    png = publish.accuracy_plot("a test", DENSE, RESULTS, POINTS)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_reset_points_are_named_as_the_experiment_names_them(tmp_path):
    run = RunDirectory(open_store(str(tmp_path)))
    run.bind_experiment(config.load(DIGITS, ["trellis=[0, 0.5ep, 44, 1.5ep]"]), "0" * 64, 1437)
    assert publish.reset_points(run.origin()) == {0: "0", 22: "0.5ep", 44: "44", 66: "1.5ep"}


DENSE_CONTROLS = [result(0, 0.0, 0.96, "continue"), result(0, 1.0, 0.98, "continue")]


def test_a_control_for_all_levels_is_in_every_row_and_sets_no_level_of_its_own():
    mixed = sorted([*RESULTS, *DENSE_CONTROLS], key=lambda one: one.ticket)
    rows = publish.levels(DENSE, mixed)
    assert [row.controls["continue"] for row in rows] == [pytest.approx(0.97)] * 3
    assert [(row.density, row.kept, row.top1) for row in rows] == [
        (row.density, row.kept, row.top1) for row in publish.levels(DENSE, RESULTS)
    ]
    assert publish.levels(DENSE, DENSE_CONTROLS) == []


def test_the_picture_has_a_line_for_every_control():
    controls = [result(level, 0.0, 0.5 + 0.1 * level, name) for level in range(3) for name in CONTROLS]
    narrow = msgspec.structs.replace(result(0, 0.0, 0.7, "narrow"), kept=440, prunable=440)
    assert publish.levels(DENSE, sorted([*RESULTS, narrow], key=lambda one: one.ticket))[0].kept == 450
    others = [one for one in controls if one.control != "continue"]
    assert publish.accuracy_plot("a test", DENSE, [*RESULTS, *controls], POINTS) != publish.accuracy_plot(
        "a test", DENSE, [*RESULTS, *others], POINTS
    )
