"""Stores on a real HDFS whose nodes stop, freeze, refuse and fill up, and the whole job on it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing.common.errors import StorageError
from preprocessing.common.retries import PATIENT_PAUSES, may_pass, retrying
from preprocessing.common.storage import Store, open_store
from preprocessing.common.stores import hdfs_connection
from preprocessing.dataset.opening import Dataset
from preprocessing.dataset.verify import verify
from tests.hadoop.daemons import run, write_settings
from tests.hadoop.hdfs import Hdfs
from tests.preprocessing.raw_images import preprocess, serial_spark

pytestmark = pytest.mark.yarn
AWAY = 20.0  # seconds
_DFS_ADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"


@pytest.fixture
def store(hdfs: Hdfs, request: pytest.FixtureRequest) -> Store:
    made = open_store(hdfs.uri).child(re.sub(r"\W", "-", request.node.name))
    made.write("x", b"old")
    return made


def failure(action: Callable[[], object]) -> str:
    """The one line of a failure of storage, which may pass."""
    with pytest.raises(StorageError) as caught:
        action()
    assert type(caught.value) is StorageError
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 74
    assert may_pass(caught.value)
    return str(caught.value)


def test_a_name_node_that_is_killed_and_comes_back_is_outlasted(hdfs: Hdfs, store: Store) -> None:
    hdfs.name_node.stop(signal.SIGKILL)
    assert "x: Connection refused; check the address, that NameNode and DataNodes run" in failure(
        lambda: store.write("x", b"")
    )
    failures: list[Exception] = []
    back = threading.Timer(AWAY, hdfs.name_node.start_again)
    back.start()
    try:
        retrying(lambda: store.write("x", b"new"), PATIENT_PAUSES, failures.append)
    finally:
        back.join()
    assert failures
    assert store.read("x") == b"new"
    assert store.list() == ["x"]
    hdfs.wait_until_ready()


def test_a_name_node_that_freezes_for_20_s_is_waited_for(hdfs: Hdfs, store: Store) -> None:
    hdfs.name_node.freeze()
    thaw = threading.Timer(AWAY, hdfs.name_node.thaw)
    thaw.start()
    try:
        store.write("x", b"new")
        assert store.create("y", b"mine")
    finally:
        thaw.join()
    assert (store.read("x"), store.list()) == (b"new", ["x", "y"])


def test_a_name_node_that_freezes_for_good_is_given_up(
    hdfs: Hdfs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdfs_connection, "ANSWER_SECONDS", 2.0)
    hdfs.name_node.freeze()
    try:
        for action in (lambda: store.read("x"), lambda: store.write("x", b"new"), store.list):
            started = time.monotonic()
            assert ": no answer in 2 s; check the address" in failure(action)
            assert time.monotonic() - started < 10
    finally:
        hdfs.name_node.thaw()
    store.write("x", b"new")
    assert store.read("x") == b"new"


def test_safe_mode_is_one_line_and_passes(hdfs: Hdfs, store: Store) -> None:
    hdfs.safe_mode(True)
    says = r"x: the NameNode is in safe mode; wait until `hdfs dfsadmin -safemode get` says OFF"
    for action in (lambda: store.write("x", b""), lambda: store.delete("x"), lambda: store.create("y", b"")):
        assert "the NameNode is in safe mode; wait until `hdfs dfsadmin -safemode get` says OFF" in failure(action)
    assert failure(lambda: store.write("x", b"")).endswith(says)
    assert store.read("x") == b"old"
    leave = threading.Timer(1.0, hdfs.safe_mode, (False,))
    leave.start()
    retrying(lambda: store.write("x", b"new"), PATIENT_PAUSES)
    leave.join()
    assert (store.read("x"), store.list()) == (b"new", ["x"])


def test_a_data_node_that_is_gone_is_one_line_and_outlasted(hdfs: Hdfs, store: Store) -> None:
    file = store.open_input("x")
    hdfs.data_node.stop()
    try:
        assert "cannot write" in failure(lambda: store.write("x", b"new"))
        assert "x: no DataNode answers; check that the DataNodes run" in failure(lambda: store.read("x"))
        with pytest.raises(OSError, match=r"^[^\n]+$"):
            file.read_at(3, 0)
    finally:
        hdfs.data_node.start_again()
    hdfs.wait_until_ready()
    assert retrying(lambda: store.read("x"), PATIENT_PAUSES) == b"old"
    retrying(lambda: store.write("x", b"new"), PATIENT_PAUSES)
    assert (store.read("x"), store.list()) == (b"new", ["x"])


def test_a_quota_that_is_used_up_is_one_line(hdfs: Hdfs, store: Store) -> None:
    folder = f"/{store.uri.rpartition('/')[2]}"
    run(_DFS_ADMIN, hdfs.conf, "-setQuota", "2", folder)
    says = "cannot write .*y: Disk quota exceeded; free some space, or choose another place"
    with pytest.raises(StorageError, match=says) as caught:
        store.write("y", b"more")
    assert type(caught.value) is StorageError
    run(_DFS_ADMIN, hdfs.conf, "-clrQuota", folder)
    assert store.level() == ([], [("x", 3)])


@pytest.mark.parametrize("variable", ["HADOOP_USER_NAME", "SPARK_USER"])
def test_another_user_may_not_write(store: Store, variable: str) -> None:
    script = (
        "from preprocessing.common.errors import StorageError\n"
        "from preprocessing.common.storage import open_store\n"
        f"store = open_store({store.uri!r})\n"
        "assert store.read('x') == b'old'\n"
        "try:\n    store.write('x', b'new')\nexcept StorageError as error:\n    print(error)\n"
    )
    environment = {variable: "stranger", "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parents[2]
    told = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, env=environment, cwd=root, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "cannot write" in told
    assert "Permission denied: user=stranger, access=WRITE" in told
    assert told.endswith("; check the permissions of this user\n")
    assert told.count("\n") == 1


def in_another(script: str, conf: Path) -> str:
    """What a Python program with that HADOOP_CONF_DIR prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"from preprocessing.common.storage import open_store\n{script}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        env={"HADOOP_CONF_DIR": str(conf), "PATH": "/usr/bin:/bin"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return done.stdout.strip()


def test_the_address_comes_from_the_configuration(hdfs: Hdfs, store: Store, tmp_path: Path) -> None:
    folder = store.uri.removeprefix(hdfs.uri)
    assert in_another(f"print(open_store('hdfs://{folder}').read('x'))", hdfs.conf) == "b'old'"
    table = "fs.viewfs.mounttable.all"
    write_settings(tmp_path / "core-site.xml", {f"{table}.link./seen": store.uri, f"{table}.linkFallback": hdfs.uri})
    view = (
        "s = open_store('viewfs://all/seen/y'); s.write('z', b'1'); print(s.list(), open_store('viewfs://all').list())"
    )
    assert in_another(view, tmp_path).startswith("['z'] [")
    assert store.list() == ["x", "y/z"]
    write_settings(tmp_path / "core-site.xml", {f"{table}.link./seen": store.uri})
    says = in_another("open_store('viewfs://all/seen').list()", tmp_path)
    assert says.splitlines()[-1].endswith(
        "InputError: cannot reach viewfs://all/seen: No viewfs fallback mount found; check the URI, and "
        "HADOOP_CONF_DIR on this machine"
    )


def test_of_many_processes_one_creates(store: Store) -> None:
    script = (
        "import sys\nfrom preprocessing.common.storage import open_store\n"
        "store = open_store(sys.argv[1])\nstore.exists('x')\nprint(flush=True)\nsys.stdin.readline()\n"
        "print(store.create('lock', sys.argv[2].encode()))\n"
    )
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", script, store.uri, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(4)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        rival.stdout.readline()
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("\n")
        rival.stdin.flush()
    won = [rival.communicate(timeout=60)[0].strip() for rival in rivals]
    assert sorted(won) == ["False", "False", "False", "True"]
    assert store.read("lock") == str(won.index("True")).encode()
    assert store.level()[1] == [("lock", 1), ("x", 3)]


def test_the_whole_job_from_and_to_hdfs(hdfs: Hdfs, raw: Path, made: Path) -> None:
    store = open_store(hdfs.uri).child("job")
    for path in raw.rglob("*.JPEG"):
        store.write(f"raw/{path.relative_to(raw)}", path.read_bytes())
    preprocess(store.child("raw").uri, store.child("out").uri, rows_per_shard=20)  # type: ignore[arg-type]
    dataset = Dataset.open(store.child("out").uri)
    assert dataset.content_hash == Dataset.open(str(made)).content_hash
    for path in (made / "train").iterdir():
        assert store.read(f"out/train/{path.name}") == path.read_bytes()
    rows = np.array([41, 3, 3, 17])
    for got, expected in zip(
        dataset.split("train").gather(rows), Dataset.open(str(made)).split("train").gather(rows), strict=True
    ):
        assert np.array_equal(got, expected)
    assert not [name for name in store.list("out") if "_work" in name]


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "when"),
    [("killed", "at its start"), ("killed", "while it converts"), ("in safe mode", "while it converts")],
)
def test_a_name_node_that_is_away_for_20_s_costs_the_job_nothing_but_time(
    hdfs: Hdfs, raw: Path, made: Path, store: Store, caplog: pytest.LogCaptureFixture, how: str, when: str
) -> None:
    for path in raw.rglob("*.JPEG"):
        store.write(f"raw/{path.relative_to(raw)}", path.read_bytes())
    back: list[threading.Timer] = []

    def lose_name_node() -> None:
        if how == "killed":
            hdfs.name_node.stop()
            back.append(threading.Timer(AWAY, hdfs.name_node.start_again))
        else:
            hdfs.safe_mode(True)
            back.append(threading.Timer(AWAY, hdfs.safe_mode, (False,)))
        back[0].start()

    @contextmanager
    def spark(name: str) -> Iterator[Any]:
        with serial_spark(name) as context:
            if when == "while it converts":
                lose_name_node()
            yield context

    if when == "at its start":
        lose_name_node()
    try:
        preprocess(store.child("raw").uri, store.child("out").uri, spark, rows_per_shard=20)  # type: ignore[arg-type]
    finally:
        back[0].join()
        hdfs.wait_until_ready()
    assert any(message.endswith("; trying again") for message in caplog.messages)
    dataset = Dataset.open(store.child("out").uri)
    verify(dataset)
    assert dataset.content_hash == Dataset.open(str(made)).content_hash
    assert store.list("out/_work") == []
    assert not store.exists("out/claim.json")
