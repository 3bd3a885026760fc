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
from pathlib import Path

import psutil

START_SECONDS = 60


class Cluster:
    """One master and `workers` workers of one core and one stub GPU each; `stop` ends what was started."""

    def __init__(self, folder: Path, workers: int, executor_memory: str = "512m") -> None:
        self._folder = folder
        self._memory = executor_memory
        self._processes: list[subprocess.Popen[bytes]] = []
        self.master = f"spark://127.0.0.1:{_free_port()}"
        try:
            self._start("master", "deploy.master.Master", "--port", self.master.rsplit(":", 1)[1])
            self._wait_for("master", "I have been elected leader", 1)
            for number in range(workers):
                self._start_worker(number)
            self._wait_for("master", "Registering worker", workers)
        except BaseException:
            self.stop()
            raise

    def submit_options(self) -> list[str]:
        """What spark-submit needs besides the job."""
        settings = {
            "spark.pyspark.python": sys.executable,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "512m",
            "spark.executor.memory": self._memory,
            "spark.executor.cores": "1",
            "spark.executor.resource.gpu.amount": "1",
            "spark.task.resource.gpu.amount": "1",
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": "-Dlog4j2.configurationFile=conf/spark/log4j2.properties",
        }
        return ["--master", self.master, *(word for pair in settings.items() for word in ("--conf", "=".join(pair)))]

    def executors(self) -> list[psutil.Process]:
        """The executors' JVMs."""
        return [
            process
            for started in self._processes
            if started.poll() is None
            for process in psutil.Process(started.pid).children(recursive=True)
            if "CoarseGrainedExecutorBackend" in " ".join(_command_line(process))
        ]

    def machine(self, number: int) -> list[psutil.Process]:
        """A worker with all that runs below it, as a machine that is lost would take it away."""
        worker = psutil.Process(self._processes[1 + number].pid)
        return [worker, *worker.children(recursive=True)]

    def stop(self) -> None:
        """Ends every process that was started, and what they started."""
        for started in self._processes:
            try:
                below = psutil.Process(started.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                below = []
            for process in below:
                _kill(process.pid)
            _kill(started.pid)
            started.wait(30)

    def _start_worker(self, number: int) -> None:
        discovery = self._folder / f"gpu-{number}.sh"
        discovery.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": ["GPU-stub-{number}"]}}\'\n')
        discovery.chmod(0o755)
        options = (
            f"-Dspark.worker.resource.gpu.amount=1 -Dspark.worker.resource.gpu.discoveryScript={discovery} "
            "-Dspark.executor.heartbeatInterval=2s"
        )
        self._start(
            f"worker-{number}",
            "deploy.worker.Worker",
            *("--cores", "1", "--memory", "1g", "--work-dir", str(self._folder / f"work-{number}"), self.master),
            environment={"SPARK_WORKER_OPTS": options},
        )

    def _start(self, name: str, kind: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        log = (self._folder / f"{name}.log").open("wb")
        self._processes.append(
            subprocess.Popen(
                ["spark-class", f"org.apache.spark.{kind}", "--host", "127.0.0.1", "--webui-port", "0", *arguments],
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
        )
        log.close()

    def _wait_for(self, name: str, words: str, times: int) -> None:
        log = self._folder / f"{name}.log"
        deadline = time.monotonic() + START_SECONDS
        while len(re.findall(re.escape(words), log.read_text())) < times:
            assert time.monotonic() < deadline, f"{name}: no {words!r}:\n{log.read_text()}"
            assert all(process.poll() is None for process in self._processes), log.read_text()
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
