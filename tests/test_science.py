"""`make science` without Spark: what it runs, and what it concludes from accuracies."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lottery.experiment import config, schedules
from lottery.experiment.config import Experiment
from lottery.experiment.steps import timeline
from lottery.run.results import TicketResult
from lottery.tickets.sharing import dense_identity
from lottery.tickets.tickets import Ticket, all_tickets
from preprocessing.common.errors import InputError
from science import __main__ as program
from science.findings import LEVEL, Finding, findings, grid_answer, lowest_density
from science.picture import apart, picture
from science.study import STUDIES, Outcome
from science.table import table
from tests.cluster.processes import wait_until
from tests.lottery.paths import CONF

SEEDS = (0, 1, 2, 3)
TRAIN = {"fashion": 55_000, "digits": 1_437}  # images


loaded = functools.cache(lambda name: STUDIES[name].load())


def result(ticket: Ticket, experiment: Experiment, top1: float | None) -> TicketResult:
    density = experiment.masks.levels[ticket.level]
    return TicketResult(
        *(ticket.level, density, round(50_000 * density), 50_000, ticket.step, 0.0, ticket.control, ticket.seed),
        *("done" if top1 is not None else "diverged", "", top1, top1, 0.5, 2000, np.random.rand(), "host:1", 0),
    )


def outcome(name: str, better: Mapping[str, float], noise: float = 0.001) -> Outcome:
    """Accuracies of a study: falling with the density, plus `better` by control or reset point, plus noise."""
    experiment = loaded(name)
    line = timeline(experiment, TRAIN[STUDIES[name].data])
    generator = np.random.default_rng(len(name))
    results = {}
    for seed in SEEDS:
        results[seed] = [
            result(
                ticket,
                experiment,
                0.8
                - 0.02 * ticket.level
                + better.get(ticket.control if ticket.control != "none" else str(ticket.step), 0.0)
                + generator.normal(0, noise),
            )
            for ticket in all_tickets(experiment, line)
        ]
    return Outcome(
        name=experiment.name,
        densities=experiment.masks.levels,
        points={step: str(point) for step, point in zip(line.trellis, experiment.trellis, strict=True)},
        evaluated=10_000,
        dense={seed: 0.8 + generator.normal(0, noise) for seed in SEEDS},
        results=results,
        margin=experiment.verdict.margin,
    )


def searched(grid: Outcome, trained: float = 0.3, away: int = 0) -> Outcome:
    """A frontier search that ends `away` levels sparser than the grid, with that share of the grid's tickets."""
    answers = {step: grid_answer(grid, step) + away for step in grid.points}
    results = {seed: each[: int(len(each) * trained)] for seed, each in grid.results.items()}
    return dataclasses.replace(grid, frontier=answers, results=results)


def as_expected() -> dict[str, Outcome]:
    """Every study with what is expected of it."""
    better = {
        "resnet": {"400": 0.03, "100": 0.02, "reinit": 0.0},
        "resnet_learning_rate": {"400": 0.035, "0": 0.035},
        "lenet": {"reinit": -0.03, "shuffle": -0.05},
        "lenet_iterative": {"0": 0.02},
        "lenet_snip": {"0": 0.02},
        "lenet_synflow": {"0": 0.03},
    }
    found = {name: outcome(name, better.get(name, {})) for name in STUDIES}
    return {**found, "digits_frontier": searched(found["digits"])}


def by_name(outcomes: Mapping[str, Outcome]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(outcomes)}


def test_what_is_there_is_shown() -> None:
    found = by_name(as_expected())
    assert {finding.verdict for finding in found.values()} == {"shown"}
    for finding in found.values():
        for each in finding.comparisons:
            assert each.shown
            assert each.bound is not None or (each.p is not None and each.p <= LEVEL)
    late = found["late resetting"].comparisons
    assert [each.what for each in late] == ["reset 400 less reset 0"] * 3 + ["reset 400 less dense"]
    assert [each.density for each in late] == [0.05, 0.02, 0.01, 0.05]
    assert late[0].mean == pytest.approx(3, abs=0.3)
    assert len(found["tickets against controls"].comparisons) == 2 * 4  # the four levels of high sparsity
    assert len(found["pruning at initialisation"].comparisons) == 2 * 4


def test_what_is_not_there_is_not_shown() -> None:
    nothing = {name: outcome(name, {}, noise=0.003) for name in STUDIES if not name.startswith("digits")}
    for finding in findings(nothing):
        assert not any(each.shown for each in finding.comparisons if not each.margin), finding.name


def test_the_opposite_is_not_shown() -> None:
    worse = outcome("resnet", {"400": -0.03})
    late = by_name({"resnet": worse})["late resetting"]
    assert (late.verdict, late.comparisons[0].p) == ("not shown", pytest.approx(1.0))
    assert late.comparisons[0].high is not None
    assert late.comparisons[0].high < 0


def test_a_comparison_is_a_paired_t_test_with_holm_s_correction() -> None:
    lenet = outcome("lenet", {"reinit": -0.002, "shuffle": -0.008}, noise=0.002)
    finding = by_name({"lenet": lenet})["tickets against controls"]
    tests = []
    for each, (control, level) in zip(
        finding.comparisons,
        [(control, level) for control in ("reinit", "shuffle") for level in range(3, 7)],
        strict=True,
    ):
        ours, theirs = (list(lenet.top1(level, 0, kind).values()) for kind in ("none", control))
        tests.append(stats.ttest_rel(ours, theirs, alternative="greater").pvalue)
        interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert (each.low, each.high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-5)
        assert each.mean == pytest.approx(100 * (np.mean(ours) - np.mean(theirs)), abs=1e-5)
    corrected = multipletests(tests, method="holm")[1]
    assert [each.p for each in finding.comparisons] == pytest.approx(list(corrected), rel=1e-3)
    assert [each.shown for each in finding.comparisons] == [p <= LEVEL for p in corrected]
    assert finding.verdict.startswith("shown in ")


def test_a_training_that_did_not_end_shows_nothing() -> None:
    whole = outcome("resnet", {"400": 0.03})
    last = [
        msgspec.structs.replace(each, top1=None) if (each.level, each.step) == (1, 400) else each
        for each in whole.results[3]
    ]
    broken = dataclasses.replace(whole, results={**whole.results, 3: last})
    first, second, third, _ = by_name({"resnet": broken})["late resetting"].comparisons
    assert (second.shown, second.p, second.mean, second.differences[3]) == (False, None, None, None)
    assert first.shown
    assert third.shown
    assert "no difference: a training diverged, failed or is missing" in table(findings({"resnet": broken}))


def test_one_replicate_shows_nothing() -> None:
    whole = outcome("resnet", {"400": 0.03})
    one = dataclasses.replace(whole, dense={0: whole.dense[0]}, results={0: whole.results[0]})
    for finding in findings({"resnet": one}):
        assert (finding.verdict, [each.p for each in finding.comparisons]) == (
            "not shown",
            [None] * len(finding.comparisons),
        )


@pytest.mark.parametrize(
    ("top1", "least", "lowest"),
    [
        ([0.9, 0.8, 0.7], 0.85, 0.5**1.5),  # half-way between two halvings
        ([0.9, 0.8, 0.7], 0.8, 0.25),
        ([0.9, 0.8, 0.7], 0.7, 0.125),
        ([0.9, 0.8, 0.7], 0.5, 0.125),  # never below
        ([0.9, 0.8, 0.85], 0.85, 0.5**1.5),  # what comes after the first fall does not count
        ([0.9, 0.8, 0.7], 0.95, None),
        ([0.9, None, 0.7], 0.5, None),
        ([], 0.5, None),
    ],
)
def test_the_lowest_density_lies_on_straight_lines(top1, least: float, lowest: float | None) -> None:
    assert lowest_density([0.5, 0.25, 0.125], top1, least) == pytest.approx(lowest)


@pytest.mark.parametrize(
    ("trained", "away", "shown"), [(0.3, 0, [True] * 6), (0.3, 1, [True] * 6), (0.3, -2, [False] * 5 + [True])]
)
def test_a_search_is_held_to_the_grid_s_answers(trained: float, away: int, shown: list[bool]) -> None:
    grid = outcome("digits", {"44": -0.5}, noise=1e-5)  # reset to 1ep: no level matches
    found = by_name({"digits": grid, "digits_frontier": searched(grid, trained, away)})["frontier search"]
    assert [each.shown for each in found.comparisons] == shown
    assert [each.mean for each in found.comparisons[:-1]] == [away] * 5
    assert found.comparisons[-1].what == "trainings: 120 of 400"


def test_a_search_that_trains_more_than_a_third_is_not_shown_to_be_cheap() -> None:
    grid = outcome("digits", {})
    cost = by_name({"digits": grid, "digits_frontier": searched(grid, 0.34)})["frontier search"].comparisons[-1]
    assert (cost.mean, cost.shown) == (0.34, False)


def test_the_grid_s_answer_is_the_sparsest_level_within_the_margin() -> None:
    grid = outcome("digits", {"22": 0.02, "44": -0.5}, noise=1e-5)  # a level costs 2 points, and 1 may be lost
    assert [grid_answer(grid, step) for step in (0, 22, 44)] == [0, 1, -1]


def test_iterative_pruning_is_compared_in_halvings_of_the_density() -> None:
    both = {"lenet": outcome("lenet", {}, noise=1e-5), "lenet_iterative": outcome("lenet_iterative", {"0": 0.02}, 1e-5)}
    reached, *_ = by_name(both)["iterative pruning"].comparisons
    assert reached.unit == "halvings"
    assert reached.mean == pytest.approx(1.0, abs=0.01)  # a level costs 2 points


def test_findings_have_no_times_in_them_and_come_out_the_same() -> None:
    first, second = (msgspec.json.encode(findings(as_expected())) for _ in range(2))  # `result` draws other times
    assert first == second
    assert msgspec.json.decode(first, type=list[Finding]) == findings(as_expected())


def test_a_finding_needs_all_its_studies() -> None:
    outcomes = as_expected()
    del outcomes["lenet_iterative"], outcomes["lenet_random"]
    assert set(by_name(outcomes)) == {
        "late resetting",
        "first weights",
        "learning-rate rewinding",
        "tickets against controls",
        "frontier search",
    }


def test_the_table_has_a_line_for_each_comparison_and_fits_a_terminal() -> None:
    found = findings(as_expected())
    lines = table(found).splitlines()
    assert sum(line.endswith("  shown") for line in lines) == sum(len(finding.comparisons) for finding in found)
    assert max(map(len, lines)) <= 120
    assert lines[3] == "late resetting: shown (fashion-resnet20)"


def test_densities_are_named_that_have_room() -> None:
    assert apart([0.5, 0.25, 0.125]) == [0.5, 0.25, 0.125]
    assert apart([0.4, 0.14, 0.13, 0.12, 0.11, 0.1, 0.01]) == [0.4, 0.14, 0.1, 0.01]
    assert apart([0.2]) == [0.2]


def test_a_finding_has_a_picture() -> None:
    import cv2

    for finding in findings(as_expected())[:2]:  # with and without lines
        image = cv2.imdecode(np.frombuffer(picture(finding), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (420, 1000, 3)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_studies_load_and_those_of_a_network_share_its_dense_runs() -> None:
    shared: dict[str, set[str]] = {}
    places = set()
    for name, study in STUDIES.items():
        experiment = study.load()
        assert len(experiment.seeds) >= 3
        places.add((study.runs, experiment.name))
        shared.setdefault(study.experiment, set()).add(dense_identity(experiment, "hash"))
        assert set(experiment.trellis) <= set(STUDIES[name.split("_")[0]].load().trellis)
    assert {len(identities) for identities in shared.values()} == {1}
    assert len(places) == len(STUDIES)


@pytest.mark.parametrize(("name", "images"), [("fashion-lenet", 55_000), ("cifar10-resnet20-night", 45_000)])
def test_its_own_experiments_fit_their_datasets(name: str, images: int) -> None:
    experiment = config.load(str(CONF / "science" / f"{name}.yaml"))
    line = timeline(experiment, images)
    schedules.check(experiment.training.learning_rate, line.steps_per_epoch, line.total)
    assert experiment.name == name
    assert all_tickets(experiment, line)
    assert {path.stem for path in (CONF / "science").glob("*.yaml")} == {"fashion-lenet", "cifar10-resnet20-night"}


def test_it_runs_both_jobs_as_a_user_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(program.ROOT / ".venv" / "bin" / "python"))
    chosen = [STUDIES["resnet"], STUDIES["lenet_snip"]]
    local = "spark-submit --properties-file conf/spark/local.conf jobs/"
    assert list(map(shlex.join, program.commands(Path("/fashion"), Path("/out"), chosen, smoke=False))) == [
        f"{local}preprocess.py --size 8 --source /fashion --output /out/fashion --holdout 5000",
        f"{local}lottery_sweep.py --experiment conf/fashion-resnet20.yaml --data /out/fashion --runs /out/runs",
        f"{local}lottery_sweep.py --experiment conf/science/fashion-lenet.yaml --data /out/fashion --runs /out/runs "
        "--set name=fashion-lenet-snip --set masks.method=snip "
        "--set 'masks.densities=[.0625, .03125, .015625, .0078125]' --set 'tickets.controls=[]'",
    ]
    digits = list(program.commands(Path("/fashion"), Path("/out"), [STUDIES["digits_frontier"]], smoke=True))
    assert [command[1] for command in digits] == ["demo/digits.py", "--properties-file", "--properties-file"]
    assert digits[-1][-5:] == ["--set", "verdict.margin=1", "--set", "search=frontier", "--smoke"]


@pytest.mark.parametrize(("script", "status"), [("exit 75", 75), ("kill -TERM $$", 143)])
def test_a_job_that_fails_ends_it_with_the_job_s_status(script: str, status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        program.run(["sh", "-c", script])
    assert ended.value.code == status


def test_between_jobs_it_ends_itself_when_told_to() -> None:
    before = signal.getsignal(signal.SIGTERM)
    program.run(["true"])
    assert signal.getsignal(signal.SIGTERM) == before


def test_told_to_end_it_has_the_job_end_too_and_waits_for_it(tmp_path: Path) -> None:
    """The job saves what it has trained."""
    trap = f"trap 'sleep 0.2; touch {tmp_path}/saved; exit 143' TERM"
    job = f"{trap}; sleep 0.5; touch {tmp_path}/started; while :; do sleep 0.1; done"
    call = f"from science import __main__ as program; program.run(['sh', '-c', {job!r}])"
    science = subprocess.Popen([sys.executable, "-c", call], cwd=program.ROOT, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "started").exists, 60)
    science.terminate()
    assert science.wait(60) == 143
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_without_fashion_mnist_it_says_where_to_get_it(tmp_path: Path, ending: str) -> None:
    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    for name in names:
        with pytest.raises(InputError) as error:
            program.check_source(tmp_path)
        assert type(error.value) is InputError
        assert str(error.value) == (
            f"{tmp_path}: Fashion-MNIST is not there ({name}-ubyte is missing); on Debian and Ubuntu run "
            "`apt install dataset-fashion-mnist`, or name the folder that has the publisher's four files: "
            "make science FASHION=FOLDER"
        )
        (tmp_path / f"{name}-ubyte{ending}").touch()
    program.check_source(tmp_path)
