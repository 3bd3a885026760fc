"""Hadoop's own programs, from the jars of `make hadoop` and pyspark: daemons in the background, commands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyspark

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
COMMAND_SECONDS = 120.0
_PYSPARK_JARS = Path(pyspark.__file__).parent / "jars"
_LOGGING = """rootLogger.level = info
logger.gpu.name = org.apache.hadoop.yarn.server.nodemanager.NodeResourceMonitorImpl
logger.gpu.level = off
logger.discovery.name = org.apache.hadoop.yarn.server.nodemanager.containermanager.resourceplugin.gpu.GpuDiscoverer
logger.discovery.level = off
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %p %c{1}: %m%n%ex
"""


class Daemon:
    """A main class of Hadoop in a process of its own, on loopback. Its log is `name.log` beside `conf`."""

    def __init__(
        self,
        name: str,
        main_class: str,
        conf: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.log = conf.parent / f"{name}.log"
        self._command = java(main_class, conf, settings=settings or {}, logging=True)
        self._environment = {name: value for name, value in os.environ.items() if name != "HADOOP_CONF_DIR"}
        self._environment["JAVA_HOME"] = java_home()
        self.process = self._start()

    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends the process, as with a machine that is switched off; what it started lives on."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait(30)

    def freeze(self) -> None:
        """Stops the process in its tracks; returns once none of its threads can answer any more."""
        self.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.process.pid}/task")

        def stopped() -> bool:
            return {stat.read_text().rpartition(")")[2].split()[0] for stat in threads.glob("*/stat")} == {"T"}

        self.wait_until(stopped, "stop of all threads")

    def thaw(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def start_again(self) -> None:
        """Starts it with what it was started with before; the log goes on."""
        assert self.ended()
        self.process = self._start()

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for START_SECONDS at most; the assertion that fails then has the end of the log."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            end = "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])
            assert time.monotonic() < deadline, f"no {what} after {START_SECONDS:.0f} s; {self.log}:\n{end}"
            assert not self.ended(), f"no {what}: the process has ended; {self.log}:\n{end}"
            time.sleep(0.1)

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )


def run(main_class: str, conf: Path, *arguments: str) -> str:
    """What one of Hadoop's commands prints; it must end with status 0."""
    done = subprocess.run(
        [*java(main_class, conf), *arguments],
        env={**os.environ, "HADOOP_CONF_DIR": str(conf)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{main_class} {arguments} ended with status {done.returncode}:\n{done.stdout}"
    return done.stdout


def java(main_class: str, conf: Path, settings: Mapping[str, str] | None = None, logging: bool = False) -> list[str]:
    """The command line of a small JVM. `settings` are Hadoop's, and go before those in `conf`."""
    options = [
        *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        "--add-opens=java.base/java.lang=ALL-UNNAMED",  # the resource manager's web pages reflect on it
        *("-cp", os.pathsep.join([str(conf), str(jars()), f"{jars()}/*", f"{_PYSPARK_JARS}/*"])),
    ]
    if logging:
        described = conf.parent / "log4j2.properties"  # not in `conf`, where spark-submit would take it
        described.write_text(_LOGGING)
        options.append(f"-Dlog4j2.configurationFile={described}")
    return [
        f"{java_home()}/bin/java",
        *options,
        main_class,
        *(word for pair in (settings or {}).items() for word in ("-D", "=".join(pair))),
    ]


def java_home() -> str:
    """The Java that `scripts/activate` has found; containers need it by this variable."""
    named, found = os.environ.get("JAVA_HOME"), shutil.which("java")
    assert named or found, "no Java: run `. scripts/activate`"
    return named or str(Path(str(found)).resolve().parents[1])


def jars() -> Path:
    """The folder with Hadoop's daemons, of the version of pyspark's client."""
    (client,) = _PYSPARK_JARS.glob("hadoop-client-api-*.jar")
    folder = ROOT / ".hadoop" / client.stem.removeprefix("hadoop-client-api-")
    assert (folder / ".complete").exists(), f"{folder} is not complete: run `make hadoop`"
    return folder


def write_settings(path: Path, settings: Mapping[str, object]) -> None:
    """Writes one of Hadoop's XML files."""
    lines = [
        f"  <property><name>{escape(name)}</name><value>{escape(str(value))}</value></property>\n"
        for name, value in settings.items()
    ]
    path.write_text(f"<configuration>\n{''.join(lines)}</configuration>\n")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on; a daemon that starts again needs its old one, so 0 would not do."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def get_json(url: str) -> Any:
    """What a daemon's web service answers, or None if it cannot be reached yet."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())
    return None
