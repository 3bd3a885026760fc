"""`python -m lottery analyze RUN`: what the masks and trained networks of a sweep have in common."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from lottery.analysis.options import PARTS, Options
from lottery.commands.command import Command, add_run_argument, open_run


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the run directory, the dataset, and what is to be analysed."""
    add_run_argument(parser)
    parser.add_argument(
        "--data", metavar="DATASET", help="the dataset that the sweep ran on; barrier and agreement need it"
    )
    parser.add_argument(
        "--parts",
        metavar="LIST",
        type=_words,
        help=f"of {', '.join(PARTS)}, with commas between; by default all, without --data the first three",
    )
    parser.add_argument("--levels", metavar="LIST", type=_numbers, help="levels such as 0,3,5; by default all")
    parser.add_argument("--resets", metavar="LIST", type=_words, help="reset points such as 0ep,2ep; by default all")
    parser.add_argument(
        "--with",
        dest="others",
        metavar="RUN",
        action="append",
        default=[],
        help="another run directory of the same model, to compare masks with; may be repeated",
    )
    parser.add_argument(
        "--points",
        metavar="N",
        type=int,
        default=Options.points,
        help="networks on a line between two trainings, with its ends",
    )
    parser.add_argument(
        "--statistics-images",
        metavar="N",
        type=int,
        default=Options.statistics_images,
        help="training images from which batch norm's statistics are taken anew on a line; 0: only interpolated ones",
    )


def run(arguments: Namespace) -> int:
    """Prints the tables, and writes them and pictures of them to `analysis/` of the run directory."""
    from lottery.analysis.analyze import analyze  # loads matplotlib
    from lottery.analysis.study import open_study

    options = Options(arguments.parts, arguments.data, arguments.points, arguments.statistics_images)
    sweep, others = open_run(arguments.run), [open_run(uri) for uri in arguments.others]
    study = open_study(sweep, arguments.levels, arguments.resets, others)
    print("\n".join(analyze(study, options)).strip())
    if options.parts is None and options.data is None:
        print("\nbarrier and agreement take forward passes of the networks: to have them, add --data DATASET")
    print(f"\ntables and pictures: {sweep.describe('analysis')}", flush=True)
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    words = _words(text)
    if not all(word.isdecimal() for word in words):
        raise ArgumentTypeError(f"{text} is not a list of numbers, such as 0,3,5")
    return tuple(map(int, words))


COMMAND = Command("what a sweep's masks and networks have in common: overlap, barriers, distances", add_arguments, run)
