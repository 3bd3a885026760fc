"""The HDFS of the tests: files can be written, and survive its restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hadoop.hdfs import Hdfs

pytestmark = pytest.mark.yarn


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    hdfs = Hdfs(tmp_path / "hdfs")
    try:
        (tmp_path / "file").write_text("some text")
        hdfs.shell("-put", str(tmp_path / "file"), "/file")
        hdfs.name_node.stop()
        hdfs.name_node.start_again()
        hdfs.wait_until_ready()
        assert hdfs.shell("-cat", f"{hdfs.uri}/file") == "some text"
    finally:
        hdfs.stop()
