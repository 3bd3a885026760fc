from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from lottery.experiment.steps import Timeline
from lottery.run import checkpoint
from lottery.run.adoption import adopt_ticket
from lottery.run.answers import Answers
from lottery.run.checkpoint import Checkpoint
from lottery.run.heartbeats import Heartbeat
from lottery.run.provenance import Provenance
from lottery.run.run_directory import RunDirectory, ticket_result
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.storage import Store, open_store
from preprocessing.common.stores.local import LocalStore

HEARTBEAT = Heartbeat(task=0, executor="host", trainings=1, done=0, images=0, saved=0)
LINE = Timeline(10, 30, (0, 5), frozenset({30}))


def result(sweep, ticket, **fields):
    mask = {"kernel": np.ones((2, 3), bool)}
    return ticket_result(
        ticket, sweep.experiment, LINE, mask, **{"status": "done", "note": "", "executor": "e", "task": 0, **fields}
    )


def test_a_ticket_is_done_exactly_when_its_result_is_there(small):
    sweep = small()
    ticket = Ticket(1, 5, "shuffle")
    state = Checkpoint(30, {"w": np.ones(3, np.float32)})
    sweep.run.write_checkpoint(ticket.name, state)
    sweep.run.write_metrics(ticket.name, [{"step": 30}])
    assert ticket in sweep.left()
    sweep.run.write_result(result(sweep, ticket, top1=0.5))
    assert ticket not in sweep.left()
    assert len(sweep.left()) == len(sweep.tickets) - 1
    (found,) = sweep.run.results()
    assert (found.ticket, found.top1, found.epoch, found.kept, found.density) == (ticket, 0.5, 0.5, 6, 0.1)


def test_a_ticket_that_is_adopted_without_answers_does_not_keep_those_of_its_own_earlier_training(small):
    sweep, other = small(), small(runs="other")
    ticket = Ticket(1, 5)
    other.run.write_answers(ticket.name, Answers(np.array([True, False])))
    sweep.run.write_result(result(sweep, ticket, top1=0.25))
    for _ in range(2):  # there may be none
        adopt_ticket(sweep.run, ticket, other.run, ticket)
        assert other.run.answers(ticket.name, 0.25) is None


def test_half_a_result_is_not_taken_for_one(small):
    """Blobs are written under another name first: what a killed writer leaves is not listed."""
    sweep = small()
    folder = Path(sweep.run.uri, "tickets", Ticket(0, 0).name)
    folder.mkdir(parents=True)
    (folder / f".result.json.{'0' * 32}.tmp").write_text('{"level": 0')
    assert not sweep.run.done()


def test_a_run_directory_of_another_experiment_is_refused(small, tmp_path):
    sweep, other = small(), small("seed=1")
    moved = Path(sweep.run.uri)
    other_path = Path(other.run.uri)
    (other_path / "experiment.yaml").write_bytes((moved / "experiment.yaml").read_bytes())
    with pytest.raises(InputError, match="belongs to another experiment") as error:
        other.bind_run_directory()
    assert str(other_path) in str(error.value)


def test_settings_outside_of_the_identity_are_those_of_the_last_run(small):
    sweep, again = small(), small("verdict.margin=2")
    assert again.run.uri == sweep.run.uri
    assert sweep.run.origin().experiment.verdict.margin == 2
    assert sweep.run.origin().experiment == again.experiment


def test_a_changed_experiment_yaml_is_refused(small):
    sweep = small()
    path = Path(sweep.run.uri, "experiment.yaml")
    path.write_text(path.read_text().replace("batch: 16", "batch: 8"))
    with pytest.raises(InputError, match="changed by hand"):
        sweep.bind_run_directory()


def test_experiment_yaml_that_is_none_is_refused(tmp_path):
    (tmp_path / "experiment.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(InputError, match="experiment.yaml"):
        RunDirectory(open_store(tmp_path)).origin()


def test_the_gang_can_change_between_runs(small):
    small()
    again = small("gang.tasks=2")
    assert again.run.origin().experiment.name == "digits"


def test_a_checkpoint_comes_back_to_the_bit():
    variables = {
        "a/kernel": np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32),
        "scalar": np.array(7, np.int64),
        "half": np.array([1.5], np.float16),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "empty": np.zeros((0, 3), np.float32),
    }
    found = checkpoint.unpack(checkpoint.pack(Checkpoint(12, variables, 3.5, 0.1 + 0.2, 4)))
    assert (found.step, found.seconds, found.loss_sum, found.loss_steps) == (12, 3.5, 0.1 + 0.2, 4)
    assert found.variables.keys() == variables.keys()
    for path, value in variables.items():
        assert found.variables[path].dtype == value.dtype
        assert found.variables[path].shape == value.shape
        assert np.array_equal(found.variables[path], value)


@pytest.mark.parametrize("damage", [lambda blob: blob[:-1], lambda blob: blob[:4], lambda blob: b"pickle" + blob])
def test_a_damaged_checkpoint_is_an_error_that_names_the_file(small, damage):
    sweep = small()
    sweep.run.write_checkpoint("dense", Checkpoint(1, {"w": np.ones(100, np.float32)}))
    path = Path(sweep.run.uri, "dense", "state.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="dense/state.safetensors"):
        sweep.run.checkpoint("dense")


@pytest.mark.parametrize("key", ["mean_time_between_failures", "hang_after"])
def test_an_experiment_that_was_recorded_with_an_infinite_number_can_be_opened(small, key):
    """Earlier versions took it; `load` refuses it now, and `gang` is not in the identity."""
    sweep = small()
    path = Path(sweep.run.uri, "experiment.yaml")
    tree = YAML(typ="safe").load(path)
    tree["experiment"]["gang"] = {key: float("inf")}
    with path.open("w") as file:
        YAML(typ="safe").dump(tree, file)
    assert ".inf" in path.read_text()
    assert getattr(RunDirectory(open_store(sweep.run.uri)).origin().experiment.gang, key) == float("inf")
    sweep.bind_run_directory()  # as the sweep that continues it does
    assert sweep.run.origin().timeline == sweep.timeline


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"task": 0, "executor": "\xff"}'])
def test_a_damaged_heartbeat_is_passed_over(tmp_path, damage):
    run = RunDirectory(open_store(tmp_path))
    run.heartbeats.write(HEARTBEAT)
    open_store(tmp_path).write("heartbeats/001.json", damage)
    assert run.heartbeats.read() == [HEARTBEAT]


def test_a_heartbeat_of_an_earlier_version_opens(tmp_path):
    open_store(tmp_path).write(
        "heartbeats/002.json",
        b'{"task":2,"executor":"e","trainings":3,"done":1,"images":16,"saved":0,"time":1.5}',
    )
    run = RunDirectory(open_store(tmp_path))
    (heartbeat,) = run.heartbeats.read()
    assert (heartbeat.task, heartbeat.executor, heartbeat.trainings, heartbeat.done) == (2, "e", 3, 1)
    assert not heartbeat.ended
    assert (heartbeat.images, heartbeat.saved, heartbeat.time) == (16, 0, 1.5)
    run.heartbeats.write(heartbeat)
    assert list(run.heartbeats.read()) == [heartbeat]


def test_a_remote_store_is_asked_again_for_everything_that_training_needs(tmp_path, monkeypatch):
    """A child that fails for one refused request has to import TensorFlow anew; only a heartbeat may be lost."""
    monkeypatch.setattr("preprocessing.common.retries.PATIENT_PAUSES", (0.0,))
    monkeypatch.setattr(LocalStore, "is_local", False)
    run, failing = RunDirectory(open_store(tmp_path)), [0]

    def once(action):
        def refused(*arguments):
            failing[0] += 1
            if failing[0] % 2:
                raise OSError("503 SlowDown")
            return action(*arguments)

        return refused

    for name in ("read", "write", "list", "delete", "exists", "delete_tree"):
        monkeypatch.setattr(Store, name, once(getattr(Store, name)))
    state, what = Checkpoint(3, {"w": np.ones(2, np.float32)}), Provenance("0123", "2.21.0", "3.15.0", "3.11")
    run.write_provenance(what)
    assert run.provenance() == what
    run.write_checkpoint("dense", state)
    assert run.checkpoint("dense").step == 3
    run.write_trellis_state(state)
    assert run.trellis_state(3).step == 3
    run.write_mask(0, {"w": np.ones(2, bool)})
    assert run.mask(0)["w"].all()
    run.write_metrics("dense", [{"step": 3}])
    assert run.metrics("dense") == [{"step": 3}]
    assert run.dense_result() is None
    assert not run.has_result("dense")
    run.mailbox.post("group", 1, 0, b"word")
    assert run.mailbox.messages("group", 1) == [b"word"]
    run.mailbox.clear()
    assert run.heartbeats.read() == []
    run.heartbeats.clear()
    assert failing[0] >= 30
    with pytest.raises(OSError, match="503"):
        run.heartbeats.write(HEARTBEAT)
