"""A machine that submits jobs to YARN: it has the environment of `make dist`, as docs/clusters.md says, and no more."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.packed import SPARK, make_archive, run, user_elsewhere
from tests.cluster.processes import MARK, descendants
from tests.cluster.small_sweep import SETTINGS
from tests.cluster.submit import ROOT
from tests.hadoop.daemons import java
from tests.hadoop.hdfs import Hdfs

PATIENCE = 400.0  # seconds for a job
APART = ("gang.bundle=1", "gang.checkpoint=2")  # settings with which a sweep's results come one by one
SMALL = {
    "spark.executor.cores": "1",
    "spark.task.cpus": "1",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "1400m",
    "spark.driver.memory": "512m",
}
MORE = {
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.yarn.jars": f"local:{SPARK}/jars/*",  # a cluster's machines have Spark
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.yarn.am.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


def document() -> list[str]:
    """The commands of the section on YARN in docs/clusters.md."""
    (section,) = re.findall(r"^## YARN\n(.*?)^## ", (ROOT / "docs" / "clusters.md").read_text(), re.M | re.S)
    (block,) = re.findall(r"^    mkdir env .*?(?=\n\n)", section, re.M | re.S)
    return [re.sub(r"\s+", " ", line).strip() for line in block.replace("\\\n", " ").splitlines()]


class Client:
    """Makes the environment in `folder`, and puts it where the cluster's machines get it."""

    def __init__(self, folder: Path, hdfs: Hdfs) -> None:
        self.folder = folder
        self.environment = {**user_elsewhere(folder), "HADOOP_CONF_DIR": str(hdfs.conf), "LC_ALL": "C.UTF-8"}
        self.environment["PATH"] = f"{folder}/bin:{SPARK}/bin:{self.environment['PATH']}"
        program = folder / "bin" / "hdfs"
        program.parent.mkdir()
        shell = shlex.join(java("org.apache.hadoop.fs.FsShell", hdfs.conf))
        program.write_text(f'#!/bin/sh\nshift # dfs\nexec {shell} "$@"\n')
        program.chmod(0o755)
        make_archive(folder, "gzip -1")
        set_up = [line for line in document() if not line.startswith(("export ", "SUBMIT=", "$SUBMIT "))]
        self.shell("\n".join(set_up))
        self.properties = folder / "env" / "conf" / "spark" / "yarn.conf"
        text = self.properties.read_text()
        for name, value in SMALL.items():
            text, count = re.subn(rf"^({re.escape(name)}\s+)\S+$", rf"\g<1>{value}", text, flags=re.M)
            assert count == 1, name
        self.properties.write_text(text + "".join(f"{name} {value}\n" for name, value in MORE.items()))

    def shell(self, script: str) -> str:
        """What a script prints that is run here; it must end with status 0."""
        return run("sh", "-euc", script, cwd=self.folder, environment=self.environment)

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command to its end, with its standard error in its standard output."""
        return self._run(words, self.environment, stderr=subprocess.STDOUT)

    def cron(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """The wrapper for cron, called as cron does, to its end."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "SPARK_HOME": str(SPARK),
            "LOTTERY_PROPERTIES": str(self.properties),
            "HADOOP_CONF_DIR": self.environment["HADOOP_CONF_DIR"],
            **{name: value for name, value in self.environment.items() if name == "JAVA_HOME"},
        }
        return self._run([f"{self.folder}/env/conf/cron/sweep.sh", *arguments], environment, stderr=subprocess.PIPE)

    def _run(self, words: Sequence[str], environment: dict[str, str], stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @contextmanager
    def started(self, log: Path, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A job in the background; at the end its processes here are killed."""
        with log.open("w") as out:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield process
        finally:
            for each in descendants(process.pid):
                each.kill()
            process.send_signal(signal.SIGKILL)
            process.wait()

    def sweep(self, data: object, runs: object, *settings: str, options: Sequence[str] = ()) -> list[str]:
        """The command of the small sweep."""
        chosen = [word for setting in (*SETTINGS, "gang.check_gpus=false", *settings) for word in ("--set", setting)]
        arguments = ["--experiment", "env/conf/digits.yaml", "--data", str(data), "--runs", str(runs), *chosen]
        mark = ("--conf", f"spark.executorEnv.{MARK}={runs}")
        submit = ["spark-submit", "--properties-file", "env/conf/spark/yarn.conf", *mark, *options]
        return [*submit, "env/jobs/lottery_sweep.py", *arguments]
