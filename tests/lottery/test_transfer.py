"""A ticket trained on another dataset: its mask and first weights, a new classifier, and what it is compared to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lottery.__main__ import main
from lottery.analysis.distance_rows import distance_rows
from lottery.analysis.study import open_study
from lottery.driver.prepare import prepare
from lottery.executor import model_check
from lottery.experiment import config
from lottery.experiment.smoke import shrink
from lottery.export.choice import Chosen
from lottery.export.transfer import Transferred, transferred, write
from lottery.protocol import ModelFacts
from lottery.run.run_directory import RunDirectory
from lottery.run.ticket_files import folder_of_runs
from lottery.tickets import masks
from lottery.tickets.sharing import dense_identity, ticket_identity
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from preprocessing.dataset.opening import Dataset
from tests.cluster.submit import PYTHON, ROOT
from tests.lottery.datasets import local_dataset
from tests.lottery.small_training import strategy
from tests.lottery.worker_runs import equal, final

TICKET = Ticket(1, 5)
CLASSIFIER = "conv_small/classifier/"


@pytest.fixture
def source(after_dense):
    """A sweep of digits with its dense run and its masks."""
    return after_dense()


@pytest.fixture
def asked(monkeypatch):
    """Stands for the child that builds the model: what it would find of a mask without the classifier, or with it."""

    def ask(question, environment):
        transfer = question.experiment.transfer
        mask = RunDirectory(open_store(transfer.run)).mask(TICKET.level)
        left = {path: kept for path, kept in mask.items() if transfer.classifier == "kept" or CLASSIFIER not in path}
        return ModelFacts(0, masks.prunable_weights(left), masks.kept(left))

    monkeypatch.setattr(model_check, "ask", ask)


@pytest.fixture
def other(tmp_path):
    """A dataset of three other classes, of images of the same size."""
    return local_dataset(tmp_path, size=8)[0]


def chosen(source, ticket=TICKET):
    return Chosen(source.run, source.run.origin(), ticket, None, "as asked")


@pytest.fixture
def moved(source, asked, other, tmp_path):
    """Makes the sweep that trains the ticket on another dataset, by default with other classes."""

    def make(*overrides, data=None, classifier=None, later=(), source=source):
        found = transferred(chosen(source), Dataset.open(data or other), source.experiment, classifier, overrides)
        (tmp_path / "transfer.yaml").write_text(found.text)
        sweep = prepare(str(tmp_path / "transfer.yaml"), data or other, str(tmp_path / "transferred"), later)
        assert later or sweep.experiment == found.experiment
        sweep.bind_run_directory()
        return sweep

    return make


def first_state(worker, sweep, ticket, monkeypatch):
    """The state that a ticket starts from."""
    from lottery.training.trainer import Trainer

    states, load = [], Trainer.load

    def noted(self, state, mask):
        states.append({path: np.array(value) for path, value in state.items()})
        load(self, state, mask)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "load", noted)
        worker(sweep, ticket).train_tickets()
    return states[0]


def test_a_ticket_starts_from_its_own_weights_and_a_new_classifier(source, moved, worker, monkeypatch):
    sweep = moved()
    there, before = source.run.mask(TICKET.level), source.run.trellis_state(TICKET.step).variables
    session = worker(sweep).session
    worker(sweep).train_dense()
    mask = sweep.run.mask(0)
    assert equal(mask, {path: kept for path, kept in there.items() if CLASSIFIER not in path})
    assert sweep.experiment.transfer.classifier == "new"
    state, dense = first_state(worker, sweep, Ticket(0, 0), monkeypatch), session.trainer.first_state(0)
    for path, value in state.items():
        if path.startswith("optimizer/"):
            assert not value.any()
        elif CLASSIFIER in path:
            assert np.array_equal(value, dense[path]), path
        else:
            assert np.array_equal(value, before[path] * mask[path] if path in mask else before[path]), path
    result = sweep.run.result(Ticket(0, 0))
    assert (result.status, result.kept, result.steps) == ("done", masks.kept(mask), sweep.timeline.total)


def test_distances_are_from_the_weights_that_were_brought(moved, worker):
    sweep = moved()
    worker(sweep).train_dense()
    worker(sweep, Ticket(0, 0)).train_tickets()
    kernel, run = "conv_small/conv1/kernel", sweep.run
    starts = {row.network: row.start for row in distance_rows(open_study(run)) if row.kernel == kernel}
    brought = run.transferred_state().variables[kernel] * run.mask(0)[kernel]
    assert starts["ticket"] == pytest.approx(np.linalg.norm(brought))
    assert starts["dense"] == pytest.approx(np.linalg.norm(run.trellis_state(0).variables[kernel]))


def test_a_re_initialised_control_has_the_mask_and_new_weights(moved, worker, monkeypatch):
    sweep = moved()
    worker(sweep).train_dense()
    control, mask = Ticket(0, 0, "reinit"), sweep.run.mask(0)
    assert control in sweep.tickets
    state, brought = first_state(worker, sweep, control, monkeypatch), sweep.run.transferred_state().variables
    kernel = "conv_small/conv1/kernel"
    assert not state[kernel][~mask[kernel]].any()
    assert not np.array_equal(state[kernel], brought[kernel] * mask[kernel])
    assert sweep.run.result(control).status == "done"


def test_the_classifier_is_kept_if_the_classes_are_the_same(source, moved, digits, worker, monkeypatch):
    sweep = moved(data=str(digits))
    worker(sweep).train_dense()
    assert sweep.experiment.transfer.classifier == "kept"
    assert equal(sweep.run.mask(0), source.run.mask(TICKET.level))
    state, before = (
        first_state(worker, sweep, Ticket(0, 0), monkeypatch),
        source.run.trellis_state(TICKET.step).variables,
    )
    path = f"{CLASSIFIER}kernel"
    assert np.array_equal(state[path], before[path] * sweep.run.mask(0)[path])


def test_patterns_of_the_old_classifier_alone_are_left_out(after_dense, moved, worker, monkeypatch):
    source = after_dense("runs", f"masks.exclude=[{CLASSIFIER}*, '*/conv1/*']")

    from lottery.training.trainer import Trainer
    from lottery.worker.transfer import check_transfer

    def ask(question, environment):  # as the child does
        moments = (0.0,) * 3, (1.0,) * 3
        built = Trainer(question.experiment, question.shape, question.classes, *moments, strategy(1))
        return ModelFacts(0, built.prunable, check_transfer(built, question.experiment), tuple(built.kernels))

    monkeypatch.setattr(model_check, "ask", ask)
    sweep = moved(source=source)
    assert sweep.experiment.masks.exclude == ("*/conv1/*",)
    worker(sweep).train_dense()
    assert equal(sweep.run.mask(0), source.run.mask(TICKET.level))


def test_tickets_go_on_when_the_source_is_gone(source, moved, worker):
    sweep = moved()
    worker(sweep).train_dense()
    shutil.rmtree(source.run.uri)
    worker(sweep, Ticket(0, 0)).train_tickets()
    assert sweep.run.result(Ticket(0, 0)).status == "done"


def test_a_dense_run_and_a_plan_need_no_source_once_it_was_copied(source, moved, worker):
    from lottery.worker.transfer import check_transfer

    sweep = moved()
    worker(sweep).train_dense()
    mask, state = sweep.run.mask(0), sweep.run.transferred_state().variables
    shutil.rmtree(source.run.uri)
    shutil.rmtree(Path(sweep.run.uri) / "dense")
    session = worker(sweep).session
    assert sweep.question().run == sweep.run.uri
    assert check_transfer(session.trainer, sweep.experiment, sweep.run) == masks.kept(mask)
    worker(sweep).train_dense()
    assert sweep.run.dense_result().status == "done"
    assert equal(sweep.run.mask(0), mask)
    assert equal(sweep.run.transferred_state().variables, state)


def test_a_damaged_state_is_brought_again(moved, worker):
    sweep = moved()
    worker(sweep).train_dense()
    file = Path(sweep.run.uri) / "transfer" / "state.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-4])
    with pytest.raises(InputError, match="delete it and the folder masks, and the same command brings both") as caught:
        worker(sweep, Ticket(0, 0)).train_tickets()
    assert type(caught.value) is InputError
    file.unlink()
    shutil.rmtree(Path(sweep.run.uri) / "masks")
    worker(sweep).train_dense()  # which is done, and makes the masks
    assert file.read_bytes() == good


def test_a_source_that_has_changed_is_refused_before_anything_is_trained(source, moved, worker):
    sweep = moved()
    mask = source.run.mask(TICKET.level)
    source.run.write_mask(TICKET.level, {path: ~kept for path, kept in mask.items()})
    with pytest.raises(InputError, match="its content has the hash .*; it has changed") as caught:
        worker(sweep).train_dense()
    assert type(caught.value) is InputError
    assert sweep.run.kept_steps() == frozenset()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("transfer.run=/nowhere", "there is no run directory; correct transfer.run"),
        ("transfer.ticket=09-000005-s0", "there is none of that name; correct transfer.ticket"),
        ("masks.densities=[0.5]", "masks.densities: the mask of the transferred ticket keeps .* weights; give "),
        ("model.options={filters: 4, units: 8}", "transfer: conv_small/hidden/kernel has shape"),
    ],
)
def test_what_does_not_fit_is_one_line(moved, worker, override, words):
    sweep = moved(later=(override,))
    with pytest.raises(InputError, match=words) as caught:
        worker(sweep).train_dense()
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trellis=[0, 5]", "trellis: "),
        ("masks.method=snip", "masks.method: a transferred ticket brings its mask"),
        ("masks.densities=[0.5, 0.2]", "masks.densities: a transferred ticket brings its mask"),
        ("masks.iterative={keep: 0.8, rounds: 2}", "masks.iterative: a transferred ticket brings its mask"),
        ("tickets.start=fine_tuning", "tickets.start: fine_tuning does not begin"),
        ("tickets.optimizer_state=rewind", "tickets.optimizer_state: "),
        ("masks.classifier=true", "masks.classifier: transfer.classifier is new"),
    ],
)
def test_keys_that_contradict_a_transfer_are_refused(moved, override, words):
    with pytest.raises(InputError, match=f"^{words}") as caught:
        moved(override)
    assert type(caught.value) is InputError


def test_the_identity_is_of_the_tickets_content_and_not_of_its_place(moved):
    tree = config.to_tree(moved().experiment)

    def identity(**changes):
        return config.identity(config.from_tree({**tree, "transfer": {**tree["transfer"], **changes}}, "x"), "data")

    assert identity(run="s3://elsewhere/run", ticket="00-000000-s0") == identity()
    assert identity(source="0" * 16) != identity()
    assert identity(classifier="kept") != identity()


def test_its_dense_run_is_any_experiments_and_its_tickets_are_not(moved):
    experiment = moved().experiment
    plain = config.from_tree({**config.to_tree(experiment), "transfer": None}, "x")
    assert dense_identity(plain, "data") == dense_identity(experiment, "data")
    assert ticket_identity(plain, Ticket(0, 0)) != ticket_identity(experiment, Ticket(0, 0))


def test_a_smoke_run_keeps_the_size_that_the_ticket_fits(moved):
    experiment = config.from_tree({**config.to_tree(moved().experiment), "data": {"batch": 64, "crop": 224}}, "x")
    assert shrink(experiment).data.crop == 224


def test_several_seeds_train_the_same_ticket(moved, worker):
    sweep = moved("seeds=[0, 1]")
    for replicate in sweep.replicates:
        worker(replicate).train_dense()
        worker(replicate, Ticket(0, 0)).train_tickets()
    one, two = (replicate.run.transferred_state().variables for replicate in sweep.replicates)
    assert np.array_equal(one["conv_small/conv1/kernel"], two["conv_small/conv1/kernel"])
    assert not np.array_equal(one[f"{CLASSIFIER}kernel"], two[f"{CLASSIFIER}kernel"])
    states = [final(replicate, Ticket(0, 0)) for replicate in sweep.replicates]
    assert not equal(*states)


def test_the_run_directory_of_one_of_several_seeds_is_in_the_folder_above(small):
    sweep = small("seeds=[0, 1]")
    folder = str(Path(sweep.run.uri).parent)
    assert [folder_of_runs(uri) for uri in (sweep.run.uri, sweep.replicates[1].run.uri)] == [folder, folder]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lottery", "transfer", *map(str, arguments)])
    return main()


@pytest.fixture
def done(source, worker):
    """The sweep of digits with its ticket done."""
    worker(source, TICKET).train_tickets()
    return source


def test_the_command_that_runs_it_is_printed(monkeypatch, capsys, tmp_path, done, asked, other):
    output = tmp_path / "moved.yaml"
    words = [f"{done.run.uri}/tickets/{TICKET.name}", "--data", other, "--output", output, "--print"]
    assert call(monkeypatch, *words, "--submit", "spark-submit --master local[2]") == 0
    printed = capsys.readouterr().out.split()
    assert printed[:3] == ["spark-submit", "--master", "'local[2]'"]
    assert printed[4:] == ["--experiment", str(output), "--data", other, "--runs", str(Path(done.run.uri).parent)]
    assert config.load(str(output)).transfer.ticket == TICKET.name
    assert call(monkeypatch, *words) == 0  # the same once more
    with pytest.raises(InputError, match="something else is there already") as caught:
        call(monkeypatch, *words, "--set", "seed=3")
    assert type(caught.value) is InputError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--data: is missing"),
        (("--data", "DATA", "--submit", ""), "--submit: is empty"),
        (("--data", "DATA", "--submit", "spark-submit --conf 'x"), r"--submit: .* is no command \(No closing quot"),
        (("--data", "DATA", "--submit", "spark-submit \\"), r"--submit: .* is no command \(No escaped character"),
        (("--data", "DATA", "--submit", "no-such-program"), "there is no no-such-program on the PATH"),
        (("--data", "DATA", "--ticket", "dense"), "ticket dense: is what tickets are compared with"),
        (("--data", "DATA", "--experiment", "conf/fashion-resnet20.yaml"), "--experiment: its model is resnet20"),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_one_line(monkeypatch, tmp_path, done, asked, other, arguments, words):
    chosen = [str(other) if word == "DATA" else word for word in arguments]
    with pytest.raises(InputError, match=words) as caught:
        call(monkeypatch, done.run.uri, "--output", tmp_path / "moved.yaml", *chosen)
    assert type(caught.value) is InputError


def test_an_output_that_is_no_yaml_of_ours_is_one_line(moved, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xe9")
    found = Transferred(moved().experiment, "name: x\n")
    for name, words in (
        ("folder", "Is a directory; choose"),
        ("latin", "something else"),
        ("latin/x", "; choose another place"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            write(found, str(tmp_path / name))
        assert type(caught.value) is InputError
    write(found, str(tmp_path / "new" / "x.yaml"))
    assert (tmp_path / "new" / "x.yaml").read_text() == found.text


@pytest.mark.cluster
def test_a_ticket_is_trained_on_another_dataset_through_spark_submit(done, other, tmp_path):
    submit = " ".join(["spark-submit", "--properties-file", "conf/spark/local.conf", "--master", "local[2]", *PYTHON])
    command = [sys.executable, "-m", "lottery", "transfer", done.run.uri, "--ticket", TICKET.name, "--data", other]
    command += ["--output", tmp_path / "moved.yaml", "--runs", tmp_path / "moved", "--submit", submit]

    def run():
        words = list(map(str, command))
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)

    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    (folder,) = (tmp_path / "moved").iterdir()
    results = {result.ticket: result.status for result in RunDirectory(open_store(folder)).results()}
    assert results == {Ticket(0, 0): "done", Ticket(0, 0, "reinit"): "done", Ticket(0, 0, "shuffle"): "done"}
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing to train" in again.stdout
