"""HDFS on loopback: a name node and a data node in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.hadoop.daemons import Daemon, free_ports, get_json, run, write_settings

_NAME_NODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATA_NODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"


class Hdfs:
    """An empty file system at `uri`; `conf` is its HADOOP_CONF_DIR. `stop` ends what was started.

    Everything lies in `folder`, which must be new. The superuser is the user of this process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.conf = folder / "conf"
        self.conf.mkdir()
        port, self._http = free_ports(2)
        self.uri = f"hdfs://127.0.0.1:{port}"
        self._write_conf(folder)
        run(_NAME_NODE, self.conf, "-format", "-nonInteractive")
        self.name_node = Daemon("namenode", _NAME_NODE, self.conf)
        self.data_node = Daemon("datanode", _DATA_NODE, self.conf)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self) -> None:
        """Waits until files can be written: the data node is known, and the name node out of safe mode."""
        self.data_node.wait_until(lambda: self._state("FSNamesystemState").get("NumLiveDataNodes") == 1, "data node")
        self.name_node.wait_until(lambda: self._state("NameNodeInfo").get("Safemode") == "", "end of safe mode")

    def safe_mode(self, on: bool) -> None:
        """In safe mode the name node answers, and refuses every change."""
        run("org.apache.hadoop.hdfs.tools.DFSAdmin", self.conf, "-safemode", "enter" if on else "leave")

    def shell(self, *arguments: str) -> str:
        """What `hdfs dfs ARGUMENTS` prints."""
        return run("org.apache.hadoop.fs.FsShell", self.conf, *arguments)

    def stop(self) -> None:
        """Ends both nodes; the folder stays."""
        self.data_node.stop()
        self.name_node.stop()

    def _state(self, name: str) -> dict[str, Any]:
        answer = get_json(f"http://127.0.0.1:{self._http}/jmx?qry=Hadoop:service=NameNode,name={name}")
        beans: list[dict[str, Any]] = (answer or {}).get("beans") or [{}]
        return beans[0]

    def _write_conf(self, folder: Path) -> None:
        write_settings(self.conf / "core-site.xml", {"fs.defaultFS": self.uri, "hadoop.tmp.dir": folder / "hadoop"})
        loopback = {f"dfs.datanode.{kind}": "127.0.0.1:0" for kind in ("address", "http.address", "ipc.address")}
        write_settings(
            self.conf / "hdfs-site.xml",
            {
                "dfs.replication": 1,
                "dfs.namenode.http-address": f"127.0.0.1:{self._http}",
                "dfs.namenode.datanode.registration.ip-hostname-check": "false",
                "dfs.namenode.safemode.extension": 0,  # ms; by default half a minute more after every start
                "dfs.namenode.edits.noeditlogchannelflush": "true",  # no wait for the disk with each change
                "dfs.namenode.fs-limits.min-block-size": 4096,
                **loopback,
            },
        )
