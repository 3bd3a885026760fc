"""Whatever is damaged in a run directory is named with what makes it again, or does no harm; no result changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from msgspec import structs

from lottery.run import blobs
from lottery.run.checkpoint import Checkpoint
from lottery.run.heartbeats import Heartbeat
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from tests.lottery.worker_runs import equal, final

TICKET = Ticket(1, 5)
FOLDER = f"tickets/{TICKET.name}"
# Each file that the suite reads again, and how.
READ = {
    "masks/01.safetensors": lambda sweep: sweep.run.mask(1),
    "trellis/000005.safetensors": lambda sweep: sweep.run.trellis_state(5),
    f"{FOLDER}/state.safetensors": lambda sweep: sweep.run.checkpoint(TICKET.name),
    f"{FOLDER}/metrics.jsonl": lambda sweep: sweep.run.metrics(TICKET.name),
    f"{FOLDER}/answers.safetensors": lambda sweep: answers(sweep),
    f"{FOLDER}/result.json": lambda sweep: sweep.run.results(),
    "dense/result.json": lambda sweep: sweep.run.dense_result(),
    "dense/provenance.json": lambda sweep: sweep.run.provenance(),
    "experiment.yaml": lambda sweep: sweep.bind_run_directory() or sweep.run.origin().identity,
}
HARMLESS = {
    "heartbeats/000.json": lambda sweep: sweep.run.heartbeats.read(),
    f"telemetry/{TICKET.name}.jsonl": lambda sweep: sweep.run.telemetry(TICKET.name),
}
HEARTBEAT = Heartbeat(task=0, executor="e", trainings=1, done=0, images=16, saved=1, time=1.0)
# Files to delete, as the message says; then the same command makes them again.
REMEDIES = {
    "masks/01.safetensors": ["masks/01.safetensors"],
    "trellis/000005.safetensors": ["dense"],
    f"{FOLDER}/state.safetensors": [f"{FOLDER}/state.safetensors"],
    f"{FOLDER}/metrics.jsonl": [f"{FOLDER}/metrics.jsonl", f"{FOLDER}/state.safetensors"],
    f"{FOLDER}/answers.safetensors": [f"{FOLDER}/answers.safetensors", f"{FOLDER}/result.json"],
    f"{FOLDER}/result.json": [f"{FOLDER}/result.json"],
    "dense/result.json": ["dense/result.json"],
    "dense/provenance.json": ["dense/provenance.json"],
    "experiment.yaml": ["experiment.yaml"],
}
DAMAGES = {
    "empty": lambda blob: b"",
    "cut off": lambda blob: blob[: len(blob) * 3 // 5],
    "of something else": lambda blob: b"\x89PNG\r\n" + blob,
    "zeros": lambda blob: b"\0" * len(blob),
}


@pytest.fixture
def done(after_dense, worker):
    """A run directory in which the dense run and one ticket are done."""
    sweep = after_dense()
    worker(sweep, TICKET).train_tickets()
    sweep.run.heartbeats.write(HEARTBEAT)
    return sweep


def run_again(sweep, worker):
    """What the driver does when the same command is run again, for this ticket."""
    sweep.bind_run_directory()
    if sweep.run.dense_result() is None or not sweep.has_masks():
        worker(sweep).train_dense()
    if TICKET in sweep.left():
        worker(sweep, TICKET).train_tickets()


def answers(sweep):
    (result,) = sweep.run.results()
    return {"evaluate": sweep.run.answers(TICKET.name, result.top1).evaluate}


def plain(found):
    """Something to compare: arrays as bytes."""
    if isinstance(found, Checkpoint):
        return found.step, found.loss_sum, found.loss_steps, plain(found.variables)
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    return (found.dtype.str, found.shape, found.tobytes()) if isinstance(found, np.ndarray) else found


def same(found, before):
    """Whether what was found is what was there; a damaged checksum is no more than a key that nobody asks for."""
    if isinstance(before, list) and before and isinstance(before[0], dict):
        return len(found) == len(before) and all(
            one.items() >= other.items() for one, other in zip(found, before, strict=True)
        )
    return found == before


@pytest.mark.parametrize(
    ("path", "damage"),
    # Of metrics that are empty whoever needs them tells (see below).
    [(path, damage) for path in READ for damage in DAMAGES if (path, damage) != (f"{FOLDER}/metrics.jsonl", "empty")],
)
def test_a_damaged_file_is_named_with_what_makes_it_again(done, path, damage):
    file = Path(done.run.uri, path)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with pytest.raises(InputError) as error:
        READ[path](done)
    message = str(error.value)
    assert message.startswith(f"{file} is damaged")
    assert "delete" in message
    assert "\n" not in message


@pytest.mark.parametrize("path", READ)
def test_no_flipped_bit_changes_what_is_read(done, path):
    file = Path(done.run.uri, path)
    blob, before = file.read_bytes(), plain(READ[path](done))
    bits = len(blob) * 8
    noticed = 0
    tries = 101 if path == "experiment.yaml" else 301  # YAML takes its time
    for bit in range(0, bits, max(1, bits // tries)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            found = plain(READ[path](done))
        except InputError as error:
            noticed += str(file) in str(error)
        else:
            assert same(found, before), bit
    assert noticed > tries / 2 or path == "experiment.yaml"  # most of which cannot change a result


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", HARMLESS)
def test_what_no_result_depends_on_is_passed_over(done, path, damage):
    file = Path(done.run.uri, path)
    assert HARMLESS[path](done)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert HARMLESS[path](done) == []


@pytest.mark.parametrize("path", REMEDIES)
def test_the_remedy_makes_the_file_again(done, worker, path):
    before, top1 = plain(READ[path](done)), done.run.results()[0].top1
    state = final(done, TICKET)
    if "state" in path or "metrics" in path:
        Path(done.run.uri, FOLDER, "result.json").unlink()  # else nobody reads them
    file = Path(done.run.uri, path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=str(file)):
        READ[path](done)
    for name in REMEDIES[path]:
        place = Path(done.run.uri, name)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    run_again(done, worker)
    assert done.run.results()[0].top1 == top1
    assert equal(final(done, TICKET), state)
    if path == "dense/provenance.json":
        assert done.run.provenance() is None  # as of a run directory that is older
    elif isinstance(before, list | tuple | dict | str):
        assert same(without_time(plain(READ[path](done))), without_time(before))
    else:
        assert structs.replace(READ[path](done), seconds=0) == structs.replace(before, seconds=0)


def without_time(found):
    return (
        [structs.replace(one, seconds=0) if hasattr(one, "seconds") else one for one in found]
        if isinstance(found, list)
        else found
    )


@pytest.mark.parametrize("path", ["masks/01.safetensors", "trellis/000005.safetensors"])
def test_a_file_that_is_missing_is_named(done, path):
    Path(done.run.uri, path).unlink()
    with pytest.raises(InputError, match=rf"{path} is missing; .*delete"):
        READ[path](done)


def test_a_whole_file_of_something_else_is_named(done, worker):
    """Its checksum is right, its shapes are not."""
    Path(done.run.uri, FOLDER, "result.json").unlink()
    Path(done.run.uri, FOLDER, "state.safetensors").unlink()
    mask, state = done.run.mask(1), done.run.trellis_state(5)
    path = next(iter(mask))
    done.run.write_mask(1, {**mask, path: mask[path][..., :1]})
    with pytest.raises(InputError, match=rf"masks/01.safetensors is damaged \(of {path} it has shape .*, the model \("):
        run_again(done, worker)
    done.run.write_mask(1, mask)
    done.run.write_trellis_state(Checkpoint(5, {**state.variables, path: state.variables[path][..., :1]}))
    with pytest.raises(InputError, match=rf"has {path} of shape .*trellis/000005.safetensors has not; .*delete"):
        run_again(done, worker)
    done.run.write_trellis_state(Checkpoint(5, {**state.variables, path: state.variables[path].astype(np.float16)}))
    with pytest.raises(InputError, match=r"trellis/000005.safetensors has not"):
        run_again(done, worker)
    shutil.copy(Path(done.run.uri, "trellis/000000.safetensors"), Path(done.run.uri, "trellis/000005.safetensors"))
    with pytest.raises(InputError, match=r"trellis/000005.safetensors is damaged \(it is of step 0\)"):
        run_again(done, worker)


def test_a_result_of_another_ticket_is_named(done):
    folder = Path(done.run.uri, "tickets", Ticket(0, 5).name)
    shutil.copytree(Path(done.run.uri, FOLDER), folder)
    with pytest.raises(InputError, match=rf"{folder}/result.json is damaged \(it is of ticket {TICKET.name}\)"):
        done.run.results()


def test_evaluations_that_are_gone_do_not_leave_a_result_without_accuracy(done, worker):
    Path(done.run.uri, FOLDER, "result.json").unlink()
    Path(done.run.uri, FOLDER, "metrics.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"metrics.jsonl is damaged \(the evaluation at step 30 is not in it\)"):
        run_again(done, worker)
    assert TICKET in done.left()


def test_run_directories_without_checksums_go_on(done, worker):
    """As earlier versions wrote them."""
    before = {path: plain(read(done)) for path, read in READ.items()}
    for path in READ:
        file = Path(done.run.uri, path)
        if file.suffix == ".safetensors":
            file.write_bytes(safetensors.numpy.save(*blobs.unpack(file.read_bytes())))
        elif file.suffix == ".json":
            tree = json.loads(file.read_text())
            assert tree.pop("crc32")
            file.write_text(json.dumps(tree))
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            assert all(row.pop("crc32") for row in rows)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {path: plain(read(done)) for path, read in READ.items()} == before
    Path(done.run.uri, FOLDER, "result.json").unlink()
    run_again(done, worker)
    assert plain(done.run.results()[0].top1) == before[f"{FOLDER}/result.json"][0].top1


def test_a_damaged_report_is_made_again(done):
    from lottery.report import publish

    publish.publish(done.run)
    file = Path(done.run.uri, "results.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    publish.publish(done.run)
    assert file.read_bytes() == whole
