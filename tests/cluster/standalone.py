"""A standalone Spark cluster on loopback, from the pip-installed pyspark: master, workers and stub GPUs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.cluster.processes import command_line

START_SECONDS = 60
# As in conf/spark/local.conf: the JVM has little to do, and must not take cores from the tasks.
_LITTLE_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class Cluster:
    """One master and `workers` workers of `slots` cores and stub GPUs each; `stop` ends what was started.

    Executors have one core and one GPU. With `properties`, master and workers are started with that properties file.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        slots: int = 1,
        executor_memory: str = "512m",
        properties: Path | None = None,
    ) -> None:
        self._folder, self._slots, self._memory = folder, slots, executor_memory
        self._properties = ["--properties-file", str(properties)] if properties else []
        self._registered = 0
        folder.mkdir(exist_ok=True)
        self._workers: list[subprocess.Popen[bytes]] = []
        self.master = f"spark://127.0.0.1:{_free_port()}"
        self._master = self._start("master", "deploy.master.Master", "--port", self.master.rsplit(":", 1)[1])
        try:
            self._wait_for("I have been elected leader", 1)
            for number in range(workers):
                self._workers.append(self._start_worker(number))
            self._wait_for_workers(workers)
        except BaseException:
            self.stop()
            raise

    def submit_options(self, all_stay: bool = True) -> list[str]:
        """spark-submit's options besides the job. Unless all workers stay, Spark does not wait for their number."""
        settings = {
            "spark.pyspark.python": sys.executable,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "512m",
            "spark.executor.memory": self._memory,
            "spark.executor.cores": "1",
            "spark.executor.resource.gpu.amount": "1",
            "spark.task.resource.gpu.amount": "1",
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=conf/spark/log4j2.properties {_LITTLE_JAVA}",
            "spark.executor.extraJavaOptions": _LITTLE_JAVA,
        }
        if all_stay:
            settings["spark.executor.instances"] = str(len(self._workers) * self._slots)
        return ["--master", self.master, *(word for pair in settings.items() for word in ("--conf", "=".join(pair)))]

    def executors(self) -> list[psutil.Process]:
        """The executors' JVMs."""
        return [
            process
            for worker in self._workers
            if worker.poll() is None
            for process in psutil.Process(worker.pid).children(recursive=True)
            if "CoarseGrainedExecutorBackend" in " ".join(command_line(process))
        ]

    def machine(self, number: int) -> list[psutil.Process]:
        """A worker and all processes below it: what is lost with a machine."""
        worker = psutil.Process(self._workers[number].pid)
        return [worker, *worker.children(recursive=True)]

    def executors_said(self) -> str:
        """The standard error of all sweeps' executors so far, and of the tasks in them."""
        return "\n".join(path.read_text(errors="replace") for path in self._folder.glob("work-*/*/*/stderr"))

    def pin(self, cores: Sequence[int]) -> None:
        """From now on, whatever worker i starts runs only on the i-th of these cores."""
        for worker, core in zip(self._workers, cores, strict=True):
            for thread in psutil.Process(worker.pid).threads():
                os.sched_setaffinity(thread.id, [core])

    def replace_lost_workers(self) -> None:
        """Starts a new worker for each one that has ended."""
        lost = [number for number, worker in enumerate(self._workers) if worker.poll() is not None]
        for number in lost:
            self._workers[number] = self._start_worker(number)
        self._wait_for_workers(len(lost))

    def stop(self) -> None:
        """Ends every process that was started, and all below them."""
        for started in (*self._workers, self._master):
            try:
                below = psutil.Process(started.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                below = []
            for process in below:
                _kill(process.pid)
            _kill(started.pid)
            started.wait(30)

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        gpus = ", ".join(f'"GPU-stub-{number * self._slots + slot}"' for slot in range(self._slots))
        discovery = self._folder / f"gpu-{number}.sh"
        discovery.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": [{gpus}]}}\'\n')
        discovery.chmod(0o755)
        options = (
            f"-Dspark.worker.resource.gpu.amount={self._slots} -Dspark.worker.resource.gpu.discoveryScript={discovery}"
        )
        return self._start(
            f"worker-{number}",
            "deploy.worker.Worker",
            *("--cores", str(self._slots), "--memory", f"{self._slots}g"),
            *("--work-dir", str(self._folder / f"work-{number}"), self.master),
            environment={"SPARK_WORKER_OPTS": options},
        )

    def _start(
        self,
        name: str,
        kind: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [
                    *("spark-class", f"org.apache.spark.{kind}", "--host", "127.0.0.1", "--webui-port", "0"),
                    *self._properties,
                    *arguments,
                ],
                env={
                    **os.environ,
                    "SPARK_DAEMON_MEMORY": "256m",
                    "SPARK_LOCAL_IP": "127.0.0.1",
                    "SPARK_NO_DAEMONIZE": "1",
                    **(environment or {}),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for_workers(self, more: int) -> None:
        self._registered += more
        self._wait_for("Registering worker", self._registered)

    def _wait_for(self, words: str, times: int) -> None:
        """Waits until the master has logged `words` that many times."""
        log = self._folder / "master.log"
        deadline = time.monotonic() + START_SECONDS
        while not log.exists() or len(re.findall(re.escape(words), log.read_text())) < times:
            assert time.monotonic() < deadline, f"the master has not said {words!r}:\n{log.read_text()}"
            assert all(process.poll() is None for process in (self._master, *self._workers)), log.read_text()
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
