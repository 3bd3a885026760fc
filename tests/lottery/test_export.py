"""`python -m lottery export`: a ticket taken out of its run directory, as files that are whole and right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import load_file

from lottery.__main__ import main
from lottery.executor.supervisor import Ended
from lottery.experiment import config
from lottery.experiment.sections import Verdict
from lottery.export import destination
from lottery.export import export as exporting
from lottery.export.choice import choose, winner
from lottery.export.sizes import csr_bytes, sizes
from lottery.protocol import Exported, Failed, encode_event
from lottery.run import blobs
from lottery.run.run_directory import RunDirectory
from lottery.run.ticket_files import locate
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from tests.lottery.plain_keras import accuracies

KEPT = Path(__file__).parents[1] / "kept"
RUN = "kept-ad7a771fb404"
FACTS = Exported(276, 5928, 745, {"conv1/kernel": "height, width, in, out"}, (), "a CPU")


@pytest.fixture
def run(tmp_path):
    """The URI of a finished run directory."""
    shutil.copytree(KEPT / "runs", tmp_path / "runs")
    return str(tmp_path / "runs" / RUN)


def opened(uri):
    return RunDirectory(open_store(uri))


@pytest.fixture
def child(monkeypatch):
    """Stands for the child process: it writes one file and answers; or it fails, if told so."""

    def answer(facts=FACTS, failure=None):
        def supervise(module, told, environment, hang_after, on_line, other_ended):
            request = json.loads(told)
            if failure is not None:
                on_line(encode_event(Failed(failure)))
                return Ended(1, "exit status 1", "the log")
            (Path(request["folder"]) / "ticket.keras").write_bytes(b"a network")
            on_line(encode_event(facts))
            return Ended(0, "", "")

        monkeypatch.setattr("lottery.executor.child.supervise", supervise)

    answer()
    return answer


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lottery", "export", *map(str, arguments)])
    return main()


def refused(monkeypatch, words, *arguments, kind=InputError):
    with pytest.raises(InputError, match=words) as caught:
        call(monkeypatch, *arguments)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


DATA = ("--data", KEPT / "dataset")


def test_a_ticket_comes_with_its_mask_classes_and_card(monkeypatch, capsys, tmp_path, run, child):
    assert call(monkeypatch, run, "--ticket", "01-000005-s0", "--output", tmp_path / "out", *DATA) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "ticket.keras", "mask.safetensors", "classes.json")
    }
    mask = load_file(tmp_path / "out" / "mask.safetensors")
    assert {path: kept.dtype for path, kept in mask.items()} == dict.fromkeys(mask, np.dtype(bool))
    assert sum(int(kept.sum()) for kept in mask.values()) == 52
    assert (
        json.loads((tmp_path / "out" / "classes.json").read_text()) == Dataset.open(str(KEPT / "dataset")).class_names
    )
    card = (tmp_path / "out" / "README.md").read_text()
    result = opened(run).result(Ticket(1, 5))
    for words in (
        "52 of its 258 prunable weights (20.16%)",
        f"| top-1 on `val` | {result.top1:.4f} |",
        "`ad7a771fb404`",
        'keras.saving.load_model("ticket.keras")',
        "| `conv_small/conv1/kernel` |",
        "## Licence",
        f"content hash `{opened(run).origin().dataset_hash}`",
    ):
        assert words in card
    experiment = card.partition("```yaml\n")[2].partition("```")[0]
    assert config.parse(experiment, "of the card") == opened(run).origin().experiment
    assert "52 of 258 prunable weights" in capsys.readouterr().out


def test_the_winner_is_taken_if_no_ticket_is_named(monkeypatch, tmp_path, run, child):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, run, *DATA) == 0
    chosen = choose(opened(run), None)
    assert (tmp_path / f"{RUN}-{chosen.name}" / "README.md").exists()


def row(level, density, top1, difference, answer=None):
    """A level's row in the report, of which `winner` looks at a few fields only."""
    verdict = SimpleNamespace(
        answer=answer, difference=None if difference is None else SimpleNamespace(mean=difference)
    )
    best = None if top1 is None else SimpleNamespace(mean=top1)
    return SimpleNamespace(level=level, density=density, best=best, verdict=verdict)


@pytest.mark.parametrize(
    ("rows", "level", "why"),
    [
        (
            [row(0, 0.5, 0.91, 0.01, "matches"), row(1, 0.2, 0.9, 0.0, "matches"), row(2, 0.1, 0.9, 0.0, "undecided")],
            1,
            "the sparsest that matches the dense network",
        ),
        (
            [row(0, 0.5, 0.9, 0.0), row(1, 0.2, 0.896, -0.004), row(2, 0.1, 0.89, -0.01), row(3, 0.05, None, None)],
            1,
            "the sparsest at most 0.5 points below the dense network; that is no verdict",
        ),
        (
            [row(0, 0.5, 0.8, -0.1, "worse"), row(1, 0.2, 0.7, -0.2, "worse")],
            0,
            "the most accurate; none matches the dense network",
        ),
    ],
)
def test_the_winner_is_the_sparsest_that_matches(rows, level, why):
    found, reason = winner(rows, Verdict())
    assert (found.level, reason) == (level, why)


def test_there_is_no_winner_before_a_ticket_is_done():
    assert winner([row(0, 0.5, None, None)], Verdict()) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ticket", "07-000044-s0"), "ticket 07-000044-s0: is not done in .*; of those that are, the first are 00-"),
        (("--ticket", "the best"), "ticket the best: .* has none of that name; give one such as 07-000044-s0"),
        (("--ticket", "seed-3/01-000005-s0"), "has none of that name"),
        (("--data", KEPT / "half-dataset"), "is not a dataset"),
        ((), "an earlier version made it, which did not record the dataset's mean and deviation; give --data DATASET"),
    ],
)
def test_what_cannot_be_exported_is_one_line(monkeypatch, tmp_path, run, child, arguments, words):
    refused(monkeypatch, words, run, "--output", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_another_dataset_is_refused(monkeypatch, tmp_path, run, child, digits):
    refused(
        monkeypatch, "its content hash is .*; give that dataset", run, "--output", tmp_path / "out", "--data", digits
    )


def test_what_is_there_is_not_overwritten(monkeypatch, tmp_path, run, child):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    refused(monkeypatch, "something is there already; delete it", run, "--output", tmp_path / "out", *DATA)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(("kind", "error"), [(Kind.BAD_INPUT, InputError), (Kind.STORAGE, StorageError)])
def test_a_child_that_fails_leaves_nothing(monkeypatch, tmp_path, run, child, kind, error):
    child(failure=Failure(kind, "the child's words"))
    refused(monkeypatch, "the child's words", run, "--output", tmp_path / "new" / "out", *DATA, kind=error)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_file_that_scores_other_than_the_sweep_did_is_no_export(monkeypatch, tmp_path, run, child):
    child(facts=replace(FACTS, top1=0.9))
    refused(monkeypatch, "the exported file has top-1 0.9000, and the sweep", run, "--output", tmp_path / "out", *DATA)
    assert not (tmp_path / "out").exists()


def test_a_masked_weight_that_is_not_0_is_refused(monkeypatch, tmp_path, run, child):
    directory, name = opened(run), "01-000005-s0"
    state = directory.checkpoint(name)
    kernel = "conv_small/hidden/kernel"
    variables = {**state.variables, kernel: np.ones_like(state.variables[kernel])}
    directory.write_checkpoint(name, type(state)(state.step, variables))
    refused(monkeypatch, "hidden/kernel is not that of the", run, "--ticket", name, "--output", tmp_path / "out", *DATA)


@pytest.mark.parametrize("tail", ["tickets/01-000005-s0", "dense"])
def test_a_training_may_be_named_by_its_folder(run, tail):
    assert locate(f"{run}/{tail}") == (run, tail.rpartition("/")[2])
    assert locate(run) == (run, None)


def test_a_ticket_of_one_of_several_seeds(small, worker):
    sweep = small("seeds=[0, 1]")
    for replicate in sweep.replicates:
        worker(replicate).train_dense()
        worker(replicate, Ticket(1, 5)).train_tickets()
    chosen = choose(sweep.run, "seed-1/01-000005-s0")
    assert (chosen.run.uri, chosen.origin.experiment.seed) == (sweep.replicates[1].run.uri, 1)
    assert choose(sweep.run, None).ticket == Ticket(1, 5)
    with pytest.raises(InputError, match="give one such as seed-0/07-000044-s0") as caught:
        choose(sweep.run, "01-000005-s0")
    assert type(caught.value) is InputError


def test_sizes_are_counted():
    kernel = np.zeros((3, 3, 2, 8), np.float32)
    kernel[0, 0, 0, :5] = 1
    assert csr_bytes(kernel) == 5 * (4 + 4) + 4 * (8 + 1)
    full, bias = np.ones((4, 4), np.float32), np.ones(8, np.float32)
    found = sizes({"a": kernel, "b": full, "bias": bias}, ["a", "b"])
    assert found.dense == 4 * (144 + 16 + 8)
    assert found.sparse == 76 + 4 * 16 + 4 * 8  # the full kernel is smaller as it is
    assert 0 < found.compressed < found.dense


def export_three(uri, meanwhile=lambda: None):
    with destination.new_folder(uri, "README.md") as folder:
        for name in ("README.md", "a", "z"):
            (folder / name).write_text("ours")
        meanwhile()


def test_a_remote_folder_has_its_card_last_and_nothing_if_that_fails(tmp_path, monkeypatch):
    store = open_store(tmp_path / "bucket")
    monkeypatch.setattr(type(store), "local_path", None)
    written, write = [], type(store).write
    monkeypatch.setattr(type(store), "write", lambda self, name, blob: (written.append(name), write(self, name, blob)))
    export_three(store.uri)
    assert written == ["a", "z", "README.md"]
    store.delete_tree()

    def full(self, name, blob):
        if name == "z":
            raise StorageError("no space")
        write(self, name, blob)

    monkeypatch.setattr(type(store), "write", full)
    with pytest.raises(StorageError, match="no space"):
        export_three(store.uri)
    assert store.list() == []
    with pytest.raises(InputError, match="something is there already") as caught:
        export_three(store.uri, lambda: write(store, "theirs", b""))
    assert type(caught.value) is InputError
    assert store.list() == ["theirs"]

    def joined(self, name, blob):
        write(store, "more of theirs", b"")
        full(self, name, blob)

    store.delete_tree()
    monkeypatch.setattr(type(store), "write", joined)
    with pytest.raises(StorageError, match="no space"):
        export_three(store.uri)
    assert store.list() == ["more of theirs"]


def test_a_folder_that_someone_else_makes_meanwhile_is_not_replaced(tmp_path):
    def meanwhile():
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "README.md").write_text("theirs")

    with pytest.raises(InputError, match="something is there already") as caught:
        export_three(str(tmp_path / "out"), meanwhile)
    assert type(caught.value) is InputError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "README.md").read_text() == "theirs"


def test_the_dataset_is_recorded_with_a_checksum(small):
    sweep = small()
    dataset = sweep.dataset
    recorded = sweep.run.dataset()
    assert (recorded.mean, recorded.std, recorded.size) == (dataset.mean, dataset.std, dataset.size)
    assert recorded.classes == tuple(dataset.class_names)
    file = Path(sweep.run.uri) / "dataset.json"
    file.write_text(file.read_text().replace('"size": 8', '"size": 9'))
    with pytest.raises(InputError, match="dataset.json is damaged") as caught:
        sweep.run.dataset()
    assert type(caught.value) is InputError


@pytest.mark.cluster
def test_plain_keras_gives_what_the_sweep_recorded(small, worker, digits, tmp_path):
    """By the command itself, with its child; then the file in a fresh process, which knows nothing of this suite."""
    sweep, ticket = small("data.crop=7"), Ticket(1, 5)
    worker(sweep).train_dense()
    worker(sweep, ticket).train_tickets()
    command = [sys.executable, "-m", "lottery", "export", sweep.run.uri, "--output", tmp_path / "out", "--compact"]
    command += ["--format", "keras", "--format", "safetensors", "--data", digits]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out, recorded = tmp_path / "out", sweep.run.result(ticket).top1
    split = Dataset.open(str(digits)).split("val")
    images, labels = split.gather(np.arange(split.count))
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    files = [(out / name, tmp_path / "data.npz") for name in ("ticket.keras", "compact.keras")]
    assert accuracies(files, tmp_path) == pytest.approx([recorded, recorded], abs=1e-6)
    assert f"{recorded:.4f}" in done.stdout
    state = {
        path: value for path, value in sweep.run.checkpoint(ticket.name).variables.items() if "optimizer" not in path
    }
    weights, metadata = blobs.unpack((out / "weights.safetensors").read_bytes())
    assert weights.keys() == state.keys()
    assert all(np.array_equal(weights[path], state[path]) for path in state)
    assert json.loads(metadata["input"]) == {
        "size": 8,
        "crop": 7,
        "mean": list(sweep.dataset.mean),
        "std": list(sweep.dataset.std),
    }
    assert json.loads(metadata["layouts"])["conv_small/conv1/kernel"] == "height, width, in, out"
    smaller, _ = blobs.unpack((out / "compact.safetensors").read_bytes())
    assert smaller.keys() == weights.keys()
    structure = json.loads((out / "weights-architecture.json").read_text())
    assert structure["class_name"] == "Sequential"
    assert exporting.CARD in {path.name for path in out.iterdir()}
