"""Finds known answers about lottery tickets again, on Fashion-MNIST, by the two jobs and as a user would run them.

Run again, or after a Ctrl-C, it picks up where it left off. It ends with a table of findings.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lottery.run.run_directory import run_directory
from preprocessing.common.command_line import CommandLine
from preprocessing.common.errors import InputError
from preprocessing.common.program import run_or_explain
from preprocessing.dataset.opening import Dataset
from science.findings import Finding, findings
from science.picture import picture
from science.study import STUDIES, Outcome, Study, read
from science.table import table

ROOT = Path(__file__).parents[1]
FASHION = "/usr/share/datasets/fashion-mnist"
_FILES = [f"{split}-{what}-ubyte" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
_CLUSTER = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")  # it runs on this machine only, even if that belongs to a cluster


def check_source(folder: Path) -> None:
    """Raises InputError if the publisher's four files, gzipped or not, are not in the folder."""
    missing = [name for name in _FILES if not any((folder / f"{name}{end}").is_file() for end in ("", ".gz"))]
    if missing:
        raise InputError(
            f"{folder}: Fashion-MNIST is not there ({missing[0]} is missing); on Debian and Ubuntu run "
            "`apt install dataset-fashion-mnist`, or name the folder that has the publisher's four files: "
            "make science FASHION=FOLDER"
        )


def commands(source: Path, output: Path, studies: Sequence[Study], smoke: bool) -> Iterator[list[str]]:
    """What is run: the datasets that are needed, then a sweep for each study."""
    spark = ["spark-submit", "--properties-file", "conf/spark/local.conf"]
    if Path(sys.executable).parent != ROOT / ".venv" / "bin":  # which the properties name
        spark += ["--conf", f"spark.pyspark.python={sys.executable}"]
    preprocess = [*spark, "jobs/preprocess.py", "--size", "8"]
    data = {study.data for study in studies}
    if "fashion" in data:
        holdout = "20" if smoke else "5000"
        yield [*preprocess, "--source", str(source), "--output", str(output / "fashion"), "--holdout", holdout]
    if "digits" in data:
        images = str(output / "digits-images")
        yield [sys.executable, "demo/digits.py", images]
        yield [*preprocess, "--source", images, "--output", str(output / "digits")]
    for study in studies:
        places = ["--data", str(output / study.data), "--runs", str(output / study.runs)]
        changes = [part for override in study.overrides for part in ("--set", override)]
        sweep = [*spark, "jobs/lottery_sweep.py", "--experiment", study.experiment, *places, *changes]
        yield [*sweep, *(["--smoke"] if smoke else [])]


def run(command: Sequence[str]) -> None:
    """Runs a job from the repository's root. Raises SystemExit with its status if it fails; it has said why."""
    print(f"+ {shlex.join(command)}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in _CLUSTER}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as job:
        before = signal.signal(signal.SIGTERM, lambda number, frame: job.terminate())
        try:
            while job.poll() is None:
                with contextlib.suppress(KeyboardInterrupt):  # a Ctrl-C reaches the job, too, which saves what it has
                    job.wait()
        finally:  # between jobs and while the findings are written there is no job to tell
            signal.signal(signal.SIGTERM, before)
    if job.returncode:
        sys.exit(job.returncode if job.returncode > 0 else 128 - job.returncode)


def outcome(output: Path, study: Study, smoke: bool) -> Outcome:
    """What a study has found."""
    dataset, experiment = Dataset.open(str(output / study.data)), study.load(smoke)
    return read(run_directory(str(output / study.runs), experiment, dataset.content_hash), experiment)


def write(output: Path, found: Sequence[Finding]) -> None:
    """Writes findings.txt, findings.json and a picture of each finding; prints the table."""
    text = table(found)
    (output / "findings.txt").write_text(text + "\n", encoding="utf-8")
    (output / "findings.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    for finding in found:
        (output / f"{finding.name.replace(' ', '-')}.png").write_bytes(picture(finding))
    print(f"\n{text}\n\n{output}: findings.txt, findings.json, {len(found)} pictures", flush=True)


def main() -> int:
    """Parses the command line, and runs what is left."""
    parser = CommandLine("python -m science", __doc__)
    parser.add_argument("--fashion", type=Path, default=Path(FASHION), metavar="FOLDER", help="Fashion-MNIST's files")
    parser.add_argument("--output", type=Path, default=Path("science-out"), help="folder for the dataset and all runs")
    parser.add_argument("--only", nargs="+", choices=STUDIES, metavar="STUDY", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--smoke", action="store_true", help="shrink every study to a minute; nothing is learnt")
    arguments = parser.parse_args()
    source, output = arguments.fashion.absolute(), arguments.output.absolute()
    studies = {name: study for name, study in STUDIES.items() if name in (arguments.only or STUDIES)}
    if any(study.data == "fashion" for study in studies.values()):
        check_source(source)
    os.chdir(ROOT)
    output.mkdir(parents=True, exist_ok=True)
    for command in commands(source, output, list(studies.values()), arguments.smoke):
        run(command)
    write(output, findings({name: outcome(output, study, arguments.smoke) for name, study in studies.items()}))
    return 0


if __name__ == "__main__":
    run_or_explain(main)
