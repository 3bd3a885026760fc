"""What is kept of a sweep's stages and faults."""

from __future__ import annotations

import pytest

from lottery.run.history import Happening, History, shortened
from lottery.run.patient_store import PatientStore
from preprocessing.common.errors import StorageError
from preprocessing.common.storage import open_store


@pytest.fixture
def history(tmp_path):
    times = iter(range(100, 10_000))
    return History(PatientStore(open_store(str(tmp_path))), lambda: float(next(times)))


def kinds(history):
    return [row.kind for row in history.read()]


def test_rows_are_kept_in_order_with_their_fields(history, tmp_path):
    history.add("stage began", stage="tickets", tasks=2, slots=4, trainings=9)
    history.add(
        "process died", task=1, executor="host:1", message="killed by SIGKILL", lost_images=320, lost_seconds=4.0
    )
    assert history.read() == [
        Happening(time=100, kind="stage began", stage="tickets", tasks=2, slots=4, trainings=9),
        Happening(
            time=101,
            kind="process died",
            task=1,
            executor="host:1",
            message="killed by SIGKILL",
            lost_images=320,
            lost_seconds=4.0,
        ),
    ]
    again = History(PatientStore(open_store(str(tmp_path))))
    again.add("sweep ended")
    assert kinds(again) == ["stage began", "process died", "sweep ended"]


def test_signs_of_life_replace_one_another(history):
    history.add("stage began")
    for _ in range(3):
        history.add("alive")
    assert kinds(history) == ["stage began", "alive"]
    assert history.read()[-1].time == 103
    history.add("stage ended")
    assert kinds(history) == ["stage began", "stage ended"]


def test_damaged_rows_are_left_out(history, tmp_path):
    for stage in ("masks", "tickets", "tickets"):
        history.add("stage began", stage=stage)
    path = tmp_path / "history.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace("masks", "maskx"), lines[1], '{"kind": "a later one"}', lines[2][:30]]))
    assert [row.stage for row in history.read()] == ["tickets"]


def test_a_store_that_is_away_does_not_stop_the_driver_and_what_it_missed_comes_later(history, monkeypatch):
    history.add("sweep began")
    with monkeypatch.context() as patch:

        def away(*_):
            raise StorageError("away")

        patch.setattr(PatientStore, "write_once", away)
        history.add("stage began")
    history.add("stage ended")
    assert kinds(history) == ["sweep began", "stage began", "stage ended"]


def test_a_long_history_loses_its_oldest_faults_first():
    rows = [Happening(time=float(number), kind="process died" if number % 2 else "stage began") for number in range(10)]
    assert [row.time for row in shortened(rows, 8)] == [0, 2, 4, 5, 6, 7, 8, 9]
    assert [row.time for row in shortened(rows, 3)] == [4, 6, 8]
    assert shortened(rows, 10) == rows
