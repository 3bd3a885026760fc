"""Dataset -> dense run -> masks -> tickets -> report, with spark-submit."""

from __future__ import annotations

from pyspark import SparkConf, SparkContext

from lottery.gang import check_settings
from lottery.sweep import describe, prepare, run_sweep
from preprocessing.command_line import CommandLine
from preprocessing.errors import run_or_explain


def main() -> int:
    """Parses the command line and runs, or describes, the sweep."""
    parser = CommandLine("lottery_sweep.py", __doc__)
    parser.add_argument("--experiment", required=True, metavar="YAML", help="the experiment, such as conf/digits.yaml")
    parser.add_argument("--data", required=True, metavar="URI", help="a dataset made by jobs/preprocess.py")
    parser.add_argument("--runs", required=True, metavar="URI", help="folder of the run directories")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="replaces a value of the YAML, such as training.length=20ep; may be given several times",
    )
    parser.add_argument("--smoke", action="store_true", help="shrink the experiment to a minute, to try it all out")
    parser.add_argument("--plan", action="store_true", help="say what would run on this cluster, and stop")
    arguments = parser.parse_args()

    conf = SparkConf()  # of the spark-submit command line and properties file
    check_settings(conf)
    sweep = prepare(arguments.experiment, arguments.data, arguments.runs, arguments.overrides, arguments.smoke)

    conf.setIfMissing("spark.app.name", f"lottery-sweep {sweep.experiment.name}")
    try:
        if arguments.plan:
            print(describe(sweep, SparkContext.getOrCreate(conf)))
            return 0
        return run_sweep(sweep, lambda: SparkContext.getOrCreate(conf))
    finally:
        if SparkContext._active_spark_context is not None:
            SparkContext._active_spark_context.stop()  # else the JVM outlives the driver


if __name__ == "__main__":
    run_or_explain(main)
