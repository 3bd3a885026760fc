"""Raw images to a dataset: `spark-submit --properties-file conf/spark/local.conf jobs/preprocess.py --help`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from typing import Any

try:
    from preprocessing.common import start_up

    start_up.check(__file__)

    from preprocessing.common.command_line import CommandLine
    from preprocessing.common.program import run_or_explain
    from preprocessing.common.signals import run_until_signal, spark_leaves_signals
    from preprocessing.common.spark_session import spark_context
    from preprocessing.dataset.schema import CODECS, ROW_GROUP_ROWS
    from preprocessing.job.plan import plan
    from preprocessing.job.prepare import DEFAULT_MAX_REJECTED, Request
    from preprocessing.job.run import run
    from preprocessing.job.settings import Settings, out_of_range, parse_number
    from preprocessing.sources.base import SourceOptions
    from preprocessing.sources.layouts import NAMES
except ImportError as error:  # lottery-trellis is not installed in this Python
    sys.stderr.write(
        f"error: {sys.executable}, Python {sys.version.split()[0]}: {error}; run `. scripts/activate` first, or name a "
        "Python that has lottery-trellis with --conf spark.pyspark.python; "
        "unset PYSPARK_PYTHON, PYSPARK_DRIVER_PYTHON and PYTHONPATH\n"
    )
    sys.exit(2)
except KeyboardInterrupt:  # Ctrl-C in the first second
    sys.stderr.write("interrupted\n")
    sys.exit(130)


def parse(arguments: list[str] | None = None) -> tuple[Request, bool]:
    """The command line as a request, and whether only a plan is wanted; `InputError` if it is not valid."""
    parser = CommandLine(
        "preprocess.py",
        "Turns raw images into a dataset: Parquet tensors and a manifest. "
        "A killed job, run again, picks up where it left off.",
    )
    parser.add_argument(
        "--source",
        required=True,
        help="folder or URI (s3://, gs://, hdfs://) with the raw images; "
        "or files of it, as in FOLDER/train-{000..146}.tar",
    )
    parser.add_argument(
        "--output",
        required=True,
        help="folder or URI for the dataset: new, empty, or holding this dataset, whole or begun",
    )
    parser.add_argument("--layout", choices=NAMES, help="layout of the source; recognised by default")
    parser.add_argument("--image-column", help="column of a Parquet source with the images; image or img by default")
    parser.add_argument(
        "--label-column",
        help="column of Parquet, key of WebDataset's JSON, or labels of CIFAR-100; label, fine_label, ... by default",
    )

    parser.add_argument(
        "--first-label",
        type=int,
        choices=(0, 1),
        help="whether label numbers in the source count from 0 or from 1; needed only if no label is 0",
    )

    def number(option: str, kind: type[int] | type[float], text: str, default: float | None = None) -> None:
        parser.add_argument(option, type=parse_number(option, kind), default=default, help=text)

    number("--size", int, "side of the images in pixels", 256)
    parser.add_argument("--codec", choices=CODECS, default="tensor", help="how images are stored")
    number("--quality", int, "JPEG quality, for --codec jpeg", 95)
    parser.add_argument("--classes", help="a number of classes to draw, or names separated by commas; all by default")
    number("--images-per-class", int, "images to draw from every class of every split; all by default")
    number("--holdout", float, "fraction or number of train images to move to minival", 0.0)
    number("--seed", int, "seed of the row order and of every draw", 0)
    number("--rows-per-shard", int, "images per file; by default chosen from the number of images")
    number("--rows-per-row-group", int, "images per row group", ROW_GROUP_ROWS)
    number("--max-rejected", float, "stop when more than this fraction is rejected", DEFAULT_MAX_REJECTED)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="report what would be read and written, and roughly how long it would take; write nothing",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    options = parser.parse_args(arguments)
    request = Request(
        source=options.source,
        output=options.output,
        layout=options.layout,
        max_rejected=options.max_rejected,
        overwrite=options.overwrite,
        source_options=SourceOptions(
            image_column=options.image_column, label_column=options.label_column, first_label=options.first_label
        ),
        settings=Settings(
            size=options.size,
            codec=options.codec,
            quality=options.quality,
            seed=options.seed,
            classes=parse_classes(options.classes),
            images_per_class=options.images_per_class,
            holdout=options.holdout,
            rows_per_shard=options.rows_per_shard,
            row_group_rows=options.rows_per_row_group,
        ),
    )
    return request, options.plan


def parse_classes(text: str | None) -> int | tuple[str, ...] | None:
    """`--classes`: a number, or names separated by commas."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        names = tuple(sorted({name.strip() for name in text.split(",")} - {""}))
        if not names:
            raise out_of_range("--classes", repr(text)) from None
        return names


def main() -> int:
    """Runs the job, or plans it."""
    request, only_plan = parse()
    with ExitStack() as spark:  # outermost: Spark is stopped after the last line is printed

        def start_spark(name: str) -> AbstractContextManager[Any]:
            return spark_leaves_signals(spark.enter_context(spark_context(name)))

        def work() -> int:
            if only_plan:
                plan(request)
            else:
                run(request, start_spark)
            return 0

        return run_until_signal(work)


if __name__ == "__main__":
    run_or_explain(main)
