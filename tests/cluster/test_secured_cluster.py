"""A cluster with conf/spark/standalone.conf and a secret, made as docs/clusters.md says: who may join, and who not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.processes import wait_until
from tests.cluster.small_sweep import arguments, results
from tests.cluster.standalone import Cluster
from tests.cluster.submit import ROOT, command

pytestmark = pytest.mark.cluster

# The document's own commands, but for the place; the rest is what one core and stub GPUs need.
DOCUMENT = (ROOT / "docs" / "clusters.md").read_text()
SMALL = {
    "spark.executor.cores": "1",
    "spark.task.cpus": "1",
    "spark.executor.memory": "512m",
    "spark.driver.memory": "512m",
}


@pytest.fixture(scope="module")
def properties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secret") / "standalone.conf"
    (made,) = re.findall(r"^    (\(umask 077.*?\))$", DOCUMENT, re.MULTILINE | re.DOTALL)
    script = made.replace("/etc/lottery-trellis/standalone.conf", str(file)).replace("/opt/lottery-trellis", str(ROOT))
    subprocess.run(["sh", "-c", script], check=True)
    assert file.stat().st_mode & 0o077 == 0
    text = file.read_text()
    for name, value in SMALL.items():
        text = re.sub(rf"^{re.escape(name)} .*", f"{name} {value}", text, flags=re.MULTILINE)
    # Workers of a test have stub GPUs, named by SPARK_WORKER_OPTS.
    file.write_text("".join(line for line in text.splitlines(keepends=True) if "spark.worker." not in line))
    return file


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the cluster's processes write."""
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def secured(properties: Path, logs: Path) -> Iterator[Cluster]:
    started = Cluster(logs, workers=2, properties=properties)
    yield started
    started.stop()


def options(cluster: Cluster, properties: Path) -> list[str]:
    return ["--properties-file", str(properties), *cluster.submit_options()]


def secret_of(properties: Path) -> str:
    (secret,) = re.findall(r"^spark\.authenticate\.secret (\S+)$", properties.read_text(), re.MULTILINE)
    return str(secret)


def test_a_sweep_runs_and_the_secret_is_nowhere(
    secured: Cluster, logs: Path, properties: Path, data: Path, tmp_path: Path, start
) -> None:
    runs = tmp_path / "runs"
    chosen = [*arguments(data, runs, "gang.check_gpus=false"), "--smoke"]
    sweep = start("lottery_sweep.py", *chosen, options=options(secured, properties))
    secret = secret_of(properties)
    assert len(secret) == 64
    seen: set[str] = set()

    def look() -> bool:
        seen.update(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        return sweep.poll() is not None

    wait_until(look, 200)
    assert sweep.returncode == 0, (tmp_path / "0.log").read_text()
    assert results(runs)
    assert any("CoarseGrainedExecutorBackend" in line for line in seen)
    assert not [line for line in seen if secret in line]
    files = [path for folder in (tmp_path, logs) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "stderr" for path in files)  # of executors
    assert not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("who", ["has another secret", "does not authenticate"])
def test_who_does_not_know_the_secret_gets_no_executor(
    secured: Cluster, logs: Path, properties: Path, data: Path, tmp_path: Path, start, who: str
) -> None:
    other = tmp_path / "other.conf"
    text = properties.read_text()
    if who == "has another secret":
        other.write_text(text.replace(secret_of(properties), "0" * 64))
    else:
        settings = [line for line in text.splitlines() if not re.match(r"spark\.(authenticate|network|io)\.?", line)]
        other.write_text("\n".join(settings))
    registered = (logs / "master.log").read_text().count("Registered app")
    told = [*options(secured, other), "--conf", "spark.log.level=WARN"]
    sweep = start("lottery_sweep.py", *arguments(data, tmp_path / "runs"), options=told)
    log = tmp_path / "0.log"
    wait_until(lambda: "Failed to connect to master" in log.read_text(), 60)  # it would try for another minute
    assert sweep.poll() is None
    assert secured.executors() == []
    assert (logs / "master.log").read_text().count("Registered app") == registered


def test_a_forgotten_secret_is_named_in_one_line(secured: Cluster, data: Path, tmp_path: Path) -> None:
    told = options(secured, ROOT / "conf" / "spark" / "standalone.conf")
    done = subprocess.run(
        command("lottery_sweep.py", *arguments(data, tmp_path / "runs"), options=told),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("error: spark.authenticate=true without spark.authenticate.secret: ")
