"""The report: level rows, table, picture and results.parquet."""

import io

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from lottery.experiment import config
from lottery.experiment.sections import Verdict
from lottery.report import publish
from lottery.report.charts.accuracy import accuracy_chart, accuracy_rows
from lottery.report.levels import levels
from lottery.report.results_parquet import parquet, parquet_of_replicates
from lottery.report.table import table
from lottery.run.run_directory import DenseResult, RunDirectory, TicketResult
from lottery.statistics.seeds import estimate
from lottery.tickets.controls import CONTROLS
from preprocessing.common.storage import open_store
from tests.lottery.paths import DIGITS

DENSE = DenseResult("done", "", 0.96, 1.0, 0.1, 400, 440, 1.0, 1000, 900)


POINTS = {0: "0ep", 44: "1ep"}


def result(level, epoch=0.0, top1=0.9, control="none", seed=0, status="done", note="", select=None):
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
        select_top1=select,
    )


def dense(*top1):
    """The dense runs of seeds 0, 1, ..."""
    return {seed: msgspec.structs.replace(DENSE, top1=each) for seed, each in enumerate(top1)}


def rows_of(results, dense_runs=None, **options):
    return levels(
        dense_runs or {0: DENSE}, results if isinstance(results, dict) else {0: results}, Verdict(), **options
    )


def text(results, *overrides, dense_runs=None, **options):
    """The lines of the table, and those of what is said below it."""
    by_seed = results if isinstance(results, dict) else {0: results}
    runs = dense_runs or {0: DENSE}
    experiment = config.load(DIGITS, overrides)
    rows = levels(runs, by_seed, experiment.verdict, experiment.data.select is not None, **options)
    pooled = [each for members in by_seed.values() for each in members]
    above, _, below = table(experiment, runs, pooled, rows, POINTS).rpartition("\n\n")
    return above.splitlines(), below.splitlines()


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


def test_best_ticket_controls_and_verdict_of_each_level():
    first, second, third = rows_of(RESULTS)
    assert (first.step, first.best.mean, first.controls["reinit"].mean) == (0, 0.952, 0.91)
    assert (second.step, second.first.mean, second.resets) == (44, 0.80, 2)
    assert second.best.mean == pytest.approx(0.92)  # the mean over seeds, not the best seed
    assert second.gain.mean == pytest.approx(0.12)
    assert second.controls["reinit"].mean == pytest.approx(0.55)
    assert second.over_controls["reinit"].mean == pytest.approx(0.37)
    assert second.verdict.difference.mean == pytest.approx(-0.04)
    assert (third.step, third.first, third.best, third.gain) == (None, None, None, None)
    assert [row.verdict.why for row in (first, second, third)] == [
        *["one seed: not a verdict"] * 2,
        "a training did not end",
    ]


def test_a_reset_point_with_a_diverged_seed_is_not_judged_by_the_other_seeds():
    results = [result(0, 0.0, 0.8), result(0, 1.0, 0.99, seed=0), result(0, 1.0, None, seed=1, status="diverged")]
    (level,) = rows_of(results)
    assert (level.step, level.best.mean) == (0, 0.8)


def test_a_replicate_that_diverged_is_no_better_ticket_either():
    results = {seed: [result(0, 0.0, 0.8), result(0, 1.0, None if seed else 0.99)] for seed in range(3)}
    (level,) = rows_of(results, dense(0.8, 0.81, 0.79))
    assert (level.step, level.best.count) == (0, 3)


def test_the_reset_point_is_chosen_on_the_selection_split_if_there_is_one():
    results = [result(0, 0.0, 0.9, select=0.8), result(0, 1.0, 0.7, select=0.85)]
    (on_val,), (on_other,) = rows_of(results), rows_of(results, select=True)
    assert (on_val.step, on_other.step) == (0, 44)
    assert on_other.best.mean == 0.7


def test_of_equal_reset_points_the_earliest_is_chosen():
    (level,) = rows_of([result(0, 1.0, 0.9), result(0, 0.0, 0.9)])
    assert level.step == 0


SEEDS = (-0.001, 0.0, 0.002, 0.0, -0.001)


def replicates(*differences):
    """Results of five seeds: at each level a ticket that is so much better than the dense network, and a control."""
    return {
        seed: [
            each
            for level, difference in enumerate(differences)
            for each in (
                result(level, 0.0, 0.90 + noise + difference + (-1) ** seed * 1e-3),
                result(level, 0.0, 0.80 + noise, "reinit"),
            )
        ]
        for seed, noise in enumerate(SEEDS)
    }


def test_a_verdict_is_paired_by_seed_and_corrected():
    found = rows_of(replicates(0.0, -0.05, -0.005), dense(*(0.90 + noise for noise in SEEDS)))
    assert [row.verdict.answer for row in found] == ["matches", "worse", "undecided"]
    assert found[0].verdict.difference.deviation == pytest.approx(np.std([1e-3, -1e-3, 1e-3, -1e-3, 1e-3], ddof=1))
    (alone,) = rows_of(replicates(0.0), dense(*(0.90 + noise for noise in SEEDS)))
    assert found[0].verdict.p_matches == pytest.approx(3 * alone.verdict.p_matches)
    assert all(row.images is None for row in found)


def test_the_choice_among_reset_points_is_paid_for():
    one = replicates(0.0)
    two = {seed: [*each, result(0, 1.0, 0.5 + seed / 100)] for seed, each in one.items()}
    runs = dense(*(0.90 + noise for noise in SEEDS))
    (alone,), (chosen,) = rows_of(one, runs), rows_of(two, runs)
    assert chosen.verdict.p_matches == pytest.approx(2 * alone.verdict.p_matches)


def answers(result):
    """Of 400 images, the dense network gets the first 384 right, and the tickets others."""
    right = np.arange(400) < 384
    return right if result is None else np.roll(right, result.step // 44)


def test_one_seed_is_compared_on_images():
    (level,) = rows_of([result(0, 0.0, 0.96), result(0, 1.0, 0.961)], answers=answers)
    assert (level.images.first_only, level.images.second_only, level.images.p) == (1, 1, 1.0)
    assert (level.gain_images.first_only, level.gain_images.images) == (1, 400)
    (same,) = rows_of([result(0, 0.0, 0.96)], answers=answers)
    assert (same.images.p, same.images.difference.interval, same.gain_images) == (1.0, None, None)


def test_table_of_one_seed_has_a_line_a_level_and_columns_that_line_up():
    above, below = text(RESULTS, answers=answers)
    assert len(above) == 4
    assert len({len(line) for line in above}) == 1
    assert above[0].split()[-3:] == ["less", "dense", "p"]
    assert above[1].split()[:6] == ["0", "50.00%", "95.20", "0ep", "95.20", "+0.00"]
    assert above[2].split()[:5] == ["1", "25.00%", "80.00", "1ep", "92.00"]
    assert above[1].split()[-1] == "1.000"
    assert above[2].split()[-1] == "-"  # it has two ticket seeds
    assert above[3].split() == ["2", "16.67%", *"-------"]
    assert below[0].startswith("dense network: 96.00; top-1 in % on 400 images of val; ")
    said = " ".join(below)
    assert (
        "one seed: not a verdict; several seeds give one; p and ± (95% interval) compare two networks on these images"
        in said
    )
    assert "the highest of 2 accuracies is high partly by chance" in said
    assert "chosen on val itself, so best and gain are flattered" in said
    assert "matches" not in said


def test_table_says_if_nothing_was_kept_of_the_images():
    _, below = text(RESULTS)
    said = " ".join(below)
    assert "levels 0, 1: no test on images: it takes one ticket seed, and answers.safetensors, which earlier" in said
    assert "McNemar" not in said


def test_several_ticket_seeds_are_not_compared_on_images():
    (level,) = rows_of([result(0, 0.0, 0.96, seed=0), result(0, 0.0, 0.97, seed=1)], answers=answers)
    assert (level.best.mean, level.images) == (pytest.approx(0.965), None)


def test_a_ticket_without_a_score_on_the_selection_split_is_not_chosen():
    runs = dense(*(0.90 + noise for noise in SEEDS))
    above, _ = text(replicates(0.0, -0.05), "verdict.margin=0.4", "data.select=minival", dense_runs=runs)
    assert " ".join(above[0].split()) == "level density reset 0 best reset best gain reinit less dense matches dense"
    assert above[1].split()[2:] == ["90.02", "-", "-", "-", "80.00", "-", "no", "verdict"]


def test_table_of_several_seeds_says_what_it_was_chosen_on():
    runs = {seed: msgspec.structs.replace(each, select_images=50) for seed, each in dense(0.90, 0.91, 0.92).items()}
    results = {seed: [result(0, top1=0.9 + seed / 100 + seed**2 * 1e-4, select=0.9)] for seed in range(3)}
    above, below = text(results, "verdict.margin=2", "data.select=minival", dense_runs=runs)
    assert len(above[0]) <= 120
    assert above[1].split()[2:] == ["91.02", "0ep", "91.02", "+0.00", "+0.02", "±0.05", "matches,", "p", "<.001"]
    said = " ".join(below)
    assert "best reset: the one with the highest accuracy on 50 images of minival" in said
    assert "less than 2 points worse than dense (verdict.margin)" in said
    assert "flattered" not in said
    assert "dense network: 91.00 (88.52 to 93.48)" in said
    assert max(map(len, below)) <= 120


def test_a_reset_point_is_chosen_among_those_with_the_most_seeds():
    results = {seed: [result(0, 0.0, 0.8)] for seed in range(3)}
    results[0].append(result(0, 1.0, 0.9))
    runs = dense(0.8, 0.81, 0.79)
    (level,) = rows_of(results, runs)
    assert (level.step, level.best.count) == (0, 3)
    for seed in (1, 2):
        results[seed].append(result(0, 1.0, 0.9))
    (level,) = rows_of(results, runs)
    assert (level.step, level.best.count) == (44, 3)


def test_tickets_are_set_against_each_control_with_intervals():
    runs = dense(*(0.90 + noise for noise in SEEDS))
    above, _ = text(replicates(0.0, -0.05), dense_runs=runs)
    start = above.index("best ticket less each control:")
    assert above[start + 1].split() == ["level", "density", "reinit"]
    assert above[start + 2].split()[:3] == ["0", "50.00%", "+10.02"]
    assert above[start + 2].split()[3].startswith("±0.1")


@pytest.mark.parametrize("kind", ["shuffle", "random", "continue"])
def test_a_ticket_is_set_against_the_controls_of_its_own_reset_point(kind):
    tickets = [result(0, 0.0, 0.7), result(0, 1.0, 0.9)]
    (level,) = rows_of([*tickets, result(0, 0.0, 0.5, kind), result(0, 1.0, 0.8, kind)])
    assert (level.controls[kind].mean, level.over_controls[kind].mean) == (0.8, pytest.approx(0.1))
    (level,) = rows_of([*tickets, result(0, 0.0, 0.5, kind)])
    assert (level.controls, level.over_controls) == ({}, {})


def test_a_control_that_depends_on_no_reset_point_is_every_ticket_s_and_one_of_iterative_pruning_is_its_own():
    tickets = [result(0, 0.0, 0.7), result(0, 1.0, 0.9)]
    (level,) = rows_of([*tickets, result(0, 0.0, 0.5, "reinit")])
    assert level.over_controls["reinit"].mean == pytest.approx(0.4)
    (level,) = rows_of([*tickets, result(0, 0.0, 0.5, "reinit"), result(0, 1.0, 0.6, "reinit")])
    assert level.over_controls["reinit"].mean == pytest.approx(0.3)


def test_levels_without_a_verdict_are_named():
    results = {seed: [result(0, top1=0.9), result(1, top1=None, status="diverged")] for seed in range(2)}
    _, below = text(results, dense_runs=dense(0.9, 0.9))
    assert "level 0: no verdict: all seeds differ by the same: no measure of chance" in below
    assert "level 1: no verdict: a training did not end" in below


def test_the_table_is_no_wider_than_a_terminal_of_120():
    controls = ("reinit", "shuffle", "random")
    runs = dense(*(0.90 + noise for noise in SEEDS))
    results = {
        seed: [*each, *(result(0, 0.0, 0.5 + seed / 50, name) for name in controls)]
        for seed, each in replicates(0.0, -0.05).items()
    }
    above, below = text(results, dense_runs=runs)
    assert max(map(len, (*above, *below))) <= 120


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
    assert text(results)[1][-3:] == [
        "level 1: 2 of 9 kept weights have become 0",
        "levels 2, 3: no weights left in conv1/kernel",
        "level 0: 2 diverged; results.parquet gives the step of each",
    ]


def test_parquet_is_tidy():
    table = pq.read_table(io.BytesIO(parquet(RESULTS)))
    names = "level density kept prunable step epoch control seed status top1 top5 loss steps seconds executor task note"
    assert " ".join(table.column_names) == f"{names} select_top1 select_top5 select_loss"
    assert table.num_rows == len(RESULTS)
    assert table.column("top1").to_pylist()[-1] is None
    assert set(table.column("control").to_pylist()) == {"none", "reinit"}
    assert pq.read_table(io.BytesIO(parquet_of_replicates({3: RESULTS}))).column_names == [
        "replicate",
        *table.column_names,
    ]


def chart_rows(spec, mark):
    """The rows of a chart's layers with this mark."""
    return [row for layer in spec["layer"] if layer["mark"]["type"] == mark for row in layer["data"]["values"]]


def test_the_chart_has_intervals_over_seeds_and_a_band_for_the_dense_network():
    results, runs = replicates(0.0, -0.05), dense(*(0.90 + noise for noise in SEEDS))
    spec = accuracy_chart(list(runs.values()), results, POINTS)
    (band,) = chart_rows(spec, "rect")
    found = estimate([0.90 + noise for noise in SEEDS])
    assert (band["low"], band["high"]) == (pytest.approx(100 * found.low), pytest.approx(100 * found.high))
    bars = sorted((row["low"], row["high"]) for row in chart_rows(spec, "rule"))
    ticket = estimate([each[0].top1 for each in results.values()])
    assert bars[-1] == (pytest.approx(100 * ticket.low), pytest.approx(100 * ticket.high))
    assert len(bars) == 4  # two levels of tickets and of controls


def test_one_seed_has_no_bars_and_the_dense_networks_band_is_over_images():
    spec = accuracy_chart([DENSE], {0: RESULTS}, POINTS)
    assert not [row for row in chart_rows(spec, "rule") if row["trainings"] == 1]
    (band,) = chart_rows(spec, "rect")
    assert band["low"] < 100 * DENSE.top1 < band["high"]


def test_trainings_of_one_replicate_are_averaged_before_their_interval_is_taken():
    tops = {0: (0.7, 0.72), 1: (0.8, 0.84), 2: (0.9, 0.9)}
    results = {
        replicate: [result(0, 0.0, top1, seed=seed) for seed, top1 in enumerate(tops[replicate])] for replicate in tops
    }
    (row,) = accuracy_rows(results, POINTS)
    found = estimate([0.71, 0.82, 0.9])
    assert [row[end] for end in ("top1", "low", "high")] == [
        pytest.approx(100 * value) for value in (found.mean, found.low, found.high)
    ]
    assert row["trainings"] == 6
    (row,) = accuracy_rows({0: results[0]}, POINTS)
    assert (row["low"], row["trainings"]) == (pytest.approx(100 * estimate([0.7, 0.72]).low), 2)


def test_a_line_has_no_point_where_a_training_diverged():
    results = [result(0, 0.0, 0.9), result(0, 0.0, None, seed=1, status="diverged"), result(1, 0.0, 0.8)]
    assert [row["percent"] for row in accuracy_rows({0: results}, POINTS)] == [25.0]


def test_reset_points_are_named_as_the_experiment_names_them(tmp_path):
    run = RunDirectory(open_store(str(tmp_path)))
    run.bind_experiment(config.load(DIGITS, ["trellis=[0, 0.5ep, 44, 1.5ep]"]), "0" * 64, 1437)
    assert publish.reset_points(run.origin()) == {0: "0", 22: "0.5ep", 44: "44", 66: "1.5ep"}


DENSE_CONTROLS = [result(0, 0.0, 0.96, "continue"), result(0, 1.0, 0.98, "continue")]


def test_a_control_for_all_levels_is_in_every_row_and_sets_no_level_of_its_own():
    mixed = sorted([*RESULTS, *DENSE_CONTROLS], key=lambda one: one.ticket)
    rows = rows_of(mixed)
    assert [row.step for row in rows] == [0, 44, None]
    assert [row.controls.get("continue") for row in rows] == [*(estimate([each]) for each in (0.96, 0.98)), None]
    assert [(row.density, row.kept, row.best) for row in rows] == [
        (row.density, row.kept, row.best) for row in rows_of(RESULTS)
    ]
    assert rows_of(DENSE_CONTROLS) == []


def test_the_picture_has_a_line_for_every_control():
    controls = [result(level, 0.0, 0.5 + 0.1 * level, name) for level in range(3) for name in CONTROLS]
    narrow = msgspec.structs.replace(result(0, 0.0, 0.7, "narrow"), kept=440, prunable=440)
    assert rows_of(sorted([*RESULTS, narrow], key=lambda one: one.ticket))[0].kept == 450
    drawn = {row["series"] for row in accuracy_rows({0: [*RESULTS, *controls]}, POINTS)}
    assert drawn >= {f"control: {name}" for name in CONTROLS}
