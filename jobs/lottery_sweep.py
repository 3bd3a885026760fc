"""Dataset -> dense run -> masks -> tickets -> report, with spark-submit."""

from __future__ import annotations

import functools
import logging
import sys

try:
    from preprocessing.common import start_up

    start_up.check(__file__)

    from pyspark import SparkConf, SparkContext

    from lottery.driver import preflight
    from lottery.driver.gang import SparkEndedError
    from lottery.driver.plan_report import plan_sweep
    from lottery.driver.prepare import SweepError, prepare
    from lottery.driver.sweep import run_sweep
    from preprocessing.common.clean_up import afterwards
    from preprocessing.common.command_line import CommandLine, positive
    from preprocessing.common.program import run_or_explain
    from preprocessing.common.signals import install, run_until_signal
    from preprocessing.common.spark_session import start, stop
    from preprocessing.dataset.verify import verify
except ImportError as error:  # of a Python in which lottery-trellis is not installed
    sys.stderr.write(
        f"error: {sys.executable}, Python {sys.version.split()[0]}: {error}; run `. scripts/activate` first, or name a "
        "Python that has lottery-trellis with --conf spark.pyspark.python; "
        "unset PYSPARK_PYTHON, PYSPARK_DRIVER_PYTHON and PYTHONPATH\n"
    )
    sys.exit(2)
except KeyboardInterrupt:  # Ctrl-C in the first second
    sys.stderr.write("interrupted\n")
    sys.exit(130)


logger = logging.getLogger("lottery.jobs")  # not __name__, which is __main__


def main() -> int:
    """Parses the command line and runs, or plans, the sweep."""
    parser = CommandLine("lottery_sweep.py", __doc__)
    parser.add_argument("--experiment", required=True, metavar="YAML", help="the experiment, such as conf/digits.yaml")
    parser.add_argument("--data", required=True, metavar="URI", help="a dataset made by jobs/preprocess.py")
    parser.add_argument("--runs", required=True, metavar="URI", help="folder or URI that holds the run directories")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="replaces a value of the YAML, such as training.length=20ep; may be given several times",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="shrink the experiment to about a minute, to check that everything works"
    )
    parser.add_argument("--verify", action="store_true", help="first compare every image with the manifest's hashes")
    parser.add_argument(
        "--until", choices=("dense", "masks"), help="stop after this stage; without it, train the tickets and report"
    )
    parser.add_argument("--plan", action="store_true", help="check this cluster, report what would run on it, and stop")
    parser.add_argument(
        "--price-per-hour", type=positive, metavar="X", help="with --plan: price of one executor per hour"
    )
    parser.add_argument(
        "--images-per-second",
        type=positive,
        metavar="X",
        help="with --plan: training speed of one executor; by default as measured in the dense run",
    )
    arguments = parser.parse_args()
    if not arguments.plan and (arguments.price_per_hour or arguments.images_per_second):
        parser.error("--price-per-hour and --images-per-second go with --plan")
    if arguments.plan and arguments.until:
        parser.error("--until does not go with --plan, which plans all stages")

    def work() -> int:
        SparkContext._ensure_initialized()  # else SparkConf knows nothing of the command line and the properties file
        conf = SparkConf()
        # Tasks that train together wait for each other to begin; by default for a year.
        conf.setIfMissing("spark.barrier.sync.timeout", "600")
        preflight.raise_if_any(preflight.setting_problems(dict(conf.getAll())))
        sweep = prepare(arguments.experiment, arguments.data, arguments.runs, arguments.overrides, arguments.smoke)
        if arguments.verify:
            logger.info("%s: %s images are as the manifest says", arguments.data, f"{verify(sweep.dataset):,}")
        if conf.get("spark.app.name", "lottery_sweep.py") == "lottery_sweep.py":
            conf.setAppName(f"lottery-sweep {sweep.experiment.name}")

        @functools.cache
        def context() -> SparkContext:
            started: SparkContext = start(lambda: conf)
            install()  # pyspark has put its own handler in the place of ours
            preflight.log_warnings(started)
            return started

        try:
            if not arguments.plan:
                # YARN gives a driver in its cluster 100 s to start Spark (spark.yarn.am.waitTime).
                patient = conf.get("spark.submit.deployMode", "client") != "cluster"
                return run_sweep(sweep, context, arguments.until, patient)
            plan = plan_sweep(sweep, context(), arguments.price_per_hour, arguments.images_per_second)
            print("\n".join(plan.lines), flush=True)
            plan.findings.raise_if_any()
            return 0
        except SparkEndedError as error:  # said at once: spark-submit, which hands it on, is about to end too
            logger.error("%s; run the same command again to continue", error)
            return SweepError.exit_status

    with afterwards(_stop_spark):
        return run_until_signal(work)


def _stop_spark() -> None:
    """Stops Spark, if it runs: otherwise the JVM outlives the driver."""
    if SparkContext._active_spark_context is not None:
        stop(SparkContext._active_spark_context)


if __name__ == "__main__":
    run_or_explain(main)
