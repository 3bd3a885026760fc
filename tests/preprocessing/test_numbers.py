"""Every number on the command line that cannot be used costs one line: the option, the value, and what it takes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from jobs.preprocess import parse
from preprocessing.common.errors import InputError
from preprocessing.job.run import run
from preprocessing.job.settings import RANGES
from tests.preprocessing.raw_images import no_spark, preprocess, write_folders

HUGE = str(10**30)
NEVER = ["nan", "inf", "-inf", "1e400", "-1e400", "-1", "-0.5", "big", "", "0x10", "1,000", "-1e5", "1e300"]
WHOLE = ["0", "1.5", "1e3"]
BAD = {
    "--size": [*NEVER, *WHOLE, HUGE, "4097"],
    "--quality": [*NEVER, *WHOLE, HUGE, "101"],
    "--seed": [*(value for value in NEVER if value != "-1"), "1.5", "1e3", HUGE, f"-{HUGE}"],
    "--images-per-class": [*NEVER, *WHOLE, HUGE],
    "--holdout": [*NEVER, "1.5", HUGE],
    "--rows-per-shard": [*NEVER, *WHOLE, HUGE],
    "--rows-per-row-group": [*NEVER, *WHOLE],
    "--max-rejected": [*NEVER, "1.5", HUGE],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("numbers") / "raw"
    write_folders(root, {"train": 2})
    return root


def run_without_spark(source: Path, *options: str) -> None:
    run(parse(["--source", str(source), "--output", f"{source}-out", *options])[0], no_spark)


def refusal(source: Path, *options: str) -> str:
    """The one line that the job ends with, before Spark starts."""
    with pytest.raises(InputError) as caught:
        run_without_spark(source, *options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("option", BAD)
def test_numbers_that_an_option_does_not_take(source: Path, option: str) -> None:
    for value in BAD[option]:
        shown, _, remedy = refusal(source, option, value).removeprefix(f"{option} ").partition(": ")
        assert remedy == f"give {RANGES[option]}"
        assert shown == value or str(float(shown)) == str(float(value))  # 1e400 is inf


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--classes", HUGE], f"--classes {HUGE}: the source has 3; ask for as many or fewer"),
        (["--classes", "-1"], "--classes -1: give 1 or more, or names"),
        (["--rows-per-row-group", HUGE], "MiB a row group, more than 256: ask for 1364 or fewer"),
        (["--holdout", "1e18"], "--holdout 1e+18 takes 1,000,000,000,000,000,000 of 6 images"),
    ],
)
def test_numbers_that_do_not_fit_the_source(source: Path, arguments: list[str], says: str) -> None:
    assert says in refusal(source, *arguments)


def test_numbers_at_the_ends_of_their_ranges(source: Path) -> None:
    largest = str(2**63 - 1)
    for options in (
        ["--seed", f"-{2**63}"],
        ["--seed", str(2**64 - 1), "--images-per-class", largest],
        ["--holdout", "5"],
    ):
        with pytest.raises(AssertionError, match="Spark was started"):
            run_without_spark(source, "--rows-per-shard", largest, *options)


def test_a_dataset_with_the_largest_numbers(source: Path, tmp_path: Path) -> None:
    largest = 2**63 - 1
    options = {"seed": 2**64 - 1, "rows_per_shard": largest, "images_per_class": largest}
    first = preprocess(source, tmp_path / "out", **options)
    assert preprocess(source, tmp_path / "out", start=no_spark, **options) == first


def test_help_names_a_default_if_there_is_one() -> None:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        parse(["--help"])
    words = " ".join(shown.getvalue().split())
    assert "None" not in words
    assert all(f"(default: {value})" in words for value in (256, 0.0, 0))
