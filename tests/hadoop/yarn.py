"""YARN on loopback, beside an HDFS: a resource manager, and node managers with two stub GPUs each."""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil

from tests.cluster.processes import command_line, descendants
from tests.hadoop.daemons import Daemon, free_ports, get_json, run, write_settings
from tests.hadoop.hdfs import Hdfs

_RESOURCE_MANAGER = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
_NODE_MANAGER = "org.apache.hadoop.yarn.server.nodemanager.NodeManager"
_EXECUTOR = "org.apache.spark.executor.YarnCoarseGrainedExecutorBackend"
_GPU = "yarn.io/gpu"
# Shows each container one GPU, as if YARN isolated them, which it does only with cgroups and its setuid program.
# `tail` keeps the line that does not end in memory, and waits for more of it.
_NVIDIA_SMI = """#!/bin/sh
if rm '{hungry}' 2>/dev/null; then
    {{ head -c 2G /dev/zero; sleep 20; }} | tail -n 1 >/dev/null
fi
echo "GPU 0: Stub (UUID: GPU-stub-{node}-${{CONTAINER_ID##*_}})"
"""


class Application(NamedTuple):
    """What the resource manager says of an application."""

    id: str
    state: str  # such as ACCEPTED or FINISHED
    final: str  # such as UNDEFINED or SUCCEEDED


class Yarn:
    """A resource manager and `nodes` node managers, each with `memory` MB, and cores and stub GPUs for two executors.

    Its settings go into the conf folder of `hdfs`. Containers that exceed their memory are killed. Applications
    survive a restart of the resource manager. `stop` ends what was started, containers too.
    """

    def __init__(self, hdfs: Hdfs, nodes: int, memory: int = 5120) -> None:
        self.conf = hdfs.conf
        self.folder = hdfs.conf.parent / "yarn"
        self.folder.mkdir()
        self._hungry = self.folder / "hungry"
        self._memory = memory
        *ports, web = free_ports(5)
        self._web = f"127.0.0.1:{web}"
        self._write_conf(ports)
        self.resource_manager = Daemon("resourcemanager", _RESOURCE_MANAGER, self.conf)
        self.nodes: list[Daemon] = []
        try:
            self.nodes = [self._node(number) for number in range(nodes)]
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def get(self, path: str) -> Any:
        """What the resource manager's web service answers; None while it is away."""
        return get_json(f"http://{self._web}/ws/v1/cluster/{path}")

    def live_nodes(self) -> int:
        """How many node managers the resource manager has."""
        return int((self.get("metrics") or {}).get("activeNodes", 0))

    def applications(self) -> list[Application]:
        """All applications so far, the oldest first."""
        lines = self.application("-list", "-appStates", "ALL").splitlines()
        rows = [[word.strip() for word in line.split("\t")] for line in lines if line.startswith("application_")]
        return sorted(Application(row[0], row[5], row[6]) for row in rows)

    def application(self, *arguments: str) -> str:
        """What `yarn application ARGUMENTS` prints."""
        return run("org.apache.hadoop.yarn.client.cli.ApplicationCLI", self.conf, "application", *arguments)

    def wait_until_ready(self) -> None:
        """Waits until all node managers are registered."""
        self.resource_manager.wait_until(lambda: self.get("info"), "web service")
        for node in self.nodes:
            node.wait_until(lambda: self.live_nodes() == len(self.nodes), "registration of all node managers")

    def start_lost_nodes(self) -> None:
        """Starts each node manager again that has ended."""
        for node in self.nodes:
            if node.ended():
                node.start_again()
        self.wait_until_ready()

    def end_applications(self) -> None:
        """Kills the applications that have not ended."""
        for each in self.applications():
            if each.state not in ("FINISHED", "FAILED", "KILLED"):
                self.application("-kill", each.id)

    def executors(self) -> list[psutil.Process]:
        """The JVMs of Spark's executors; shells that start them have the same words."""
        found = [(each, command_line(each)) for each in self.containers()]
        return [each for each, words in found if words and words[0].endswith("/java") and _EXECUTOR in words]

    def masters(self, node: int) -> list[psutil.Process]:
        """The application masters on a node, of applications in client mode."""
        return [each for each in self.containers(node) if "ExecutorLauncher" in " ".join(command_line(each))]

    def machine(self, node: int) -> list[psutil.Process]:
        """A node manager and all processes below it: what is lost with a machine."""
        return [psutil.Process(self.nodes[node].process.pid), *self.containers(node)]

    def containers(self, node: int | None = None) -> list[psutil.Process]:
        """All processes in containers, on one node or on all."""
        nodes = self.nodes if node is None else [self.nodes[node]]
        return [each for daemon in nodes for each in descendants(daemon.process.pid)]

    def fill_a_container(self) -> None:
        """Has the next program that looks at its GPUs, as a training process does every 5 s, take 2 GiB for 20 s."""
        self._hungry.touch()

    def stop(self) -> None:
        """Ends every process that was started, and all below them."""
        below = self.containers()
        for daemon in (*self.nodes, self.resource_manager):
            daemon.stop()
        for process in below:
            if process.is_running():
                process.kill()

    def _node(self, number: int) -> Daemon:
        folder = self.folder / f"node-{number}"
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "nvidia-smi"
        program.write_text(_NVIDIA_SMI.format(node=number, hungry=self._hungry))
        program.chmod(0o755)
        (folder / "cgroups" / "devices" / "hadoop-yarn").mkdir(parents=True)
        settings = {
            "fs.AbstractFileSystem.file.impl": "QuickLocalFs",
            "yarn.nodemanager.local-dirs": folder / "local",
            "yarn.nodemanager.log-dirs": folder / "logs",
            "yarn.nodemanager.admin-env": f"PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin",  # of containers
            "yarn.nodemanager.linux-container-executor.cgroups.mount-path": folder / "cgroups",
        }
        return Daemon(
            f"node-{number}", _NODE_MANAGER, self.conf, {name: str(value) for name, value in settings.items()}
        )

    def _write_conf(self, ports: list[int]) -> None:
        client, scheduler, tracker, admin = (f"127.0.0.1:{port}" for port in ports)
        write_settings(self.conf / "resource-types.xml", {"yarn.resource-types": _GPU})
        write_settings(
            self.conf / "capacity-scheduler.xml",
            {
                "yarn.scheduler.capacity.root.queues": "default",
                "yarn.scheduler.capacity.root.default.capacity": 100,
                "yarn.scheduler.capacity.maximum-am-resource-percent": "1.0",
                "yarn.scheduler.capacity.resource-calculator": (
                    "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
                ),
            },
        )
        write_settings(
            self.conf / "yarn-site.xml",
            {
                "yarn.resourcemanager.hostname": "127.0.0.1",
                "yarn.resourcemanager.address": client,
                "yarn.resourcemanager.scheduler.address": scheduler,
                "yarn.resourcemanager.resource-tracker.address": tracker,
                "yarn.resourcemanager.admin.address": admin,
                "yarn.resourcemanager.webapp.address": self._web,
                "yarn.resourcemanager.recovery.enabled": "true",
                "yarn.resourcemanager.store.class": (
                    "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore"
                ),
                "yarn.resourcemanager.fs.state-store.uri": f"file://{self.folder}/state",
                "yarn.scheduler.minimum-allocation-mb": 128,
                "yarn.nm.liveness-monitor.expiry-interval-ms": 10_000,
                "yarn.nodemanager.address": "127.0.0.1:0",
                "yarn.nodemanager.localizer.address": "127.0.0.1:0",
                "yarn.nodemanager.webapp.address": "127.0.0.1:0",
                "yarn.nodemanager.resource.memory-mb": self._memory,
                "yarn.nodemanager.resource.cpu-vcores": 4,
                "yarn.nodemanager.resource-plugins": _GPU,
                "yarn.nodemanager.resource-plugins.gpu.allowed-gpu-devices": "0:0,1:1",
                "yarn.nodemanager.linux-container-executor.cgroups.mount": "false",
                "yarn.nodemanager.vmem-check-enabled": "false",  # see docs/clusters.md
                "yarn.nodemanager.pmem-check-enabled": "true",
                # Or else the check leaves killing to cgroups, even if none limits the memory: see docs/clusters.md.
                "yarn.nodemanager.resource.memory.enforced": "false",
                "yarn.nodemanager.container-monitor.interval-ms": 500,
                "yarn.nodemanager.delete.debug-delay-sec": 0,
                "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 100,
            },
        )
