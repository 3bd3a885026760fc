"""Tickets are of the model that their masks and weights are of, and say so where the software has changed."""

import importlib
import linecache
import os
import sys
import textwrap

import pytest
from msgspec.structs import replace

from lottery.experiment.sections import Model
from lottery.run import provenance
from lottery.run.provenance import Provenance
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.small_training import strategy

BEFORE = Provenance(model="0123", tensorflow="2.21.0", keras="3.15.0", python="3.11")
OWN = """
    import keras
    from keras import layers

    class Bend(layers.Layer):
        def call(self, x):
            {code}

    def build(shape, classes):
        return keras.Sequential(
            [
                keras.Input(shape),
                layers.Flatten(name="flatten"),
                layers.Dense(6, activation="{activation}", name="hidden"),
                Bend(name="bend"),
                layers.Lambda(lambda x: x * {factor}, name="lambda"),
                layers.Dense(classes, name="classifier"),
            ],
            name="own",
        )
"""
PLAIN = {"code": "return x", "activation": "relu", "factor": "1.0"}


def test_nothing_is_reported_if_nothing_changed():
    assert provenance.changes(BEFORE, BEFORE, "own:build") == ""


def test_another_tensorflow_is_worth_a_line():
    assert (
        provenance.changes(BEFORE, replace(BEFORE, tensorflow="2.22.0"), "own:build")
        == "trained by TensorFlow 2.22.0, the dense run by 2.21.0"
    )


def test_another_model_is_refused():
    for now in (replace(BEFORE, model="4567"), replace(BEFORE, model="4567", tensorflow="2.22.0")):
        with pytest.raises(InputError, match="model own:build: .*restore the model, or give it another name"):
            provenance.changes(BEFORE, now, "own:build")


def test_models_described_by_different_versions_cannot_be_compared():
    now = replace(BEFORE, model="4567", keras="3.16.0", python="3.12")
    said = provenance.changes(BEFORE, now, "own:build")
    assert said == "trained by Keras 3.16.0, the dense run by 3.15.0, Python 3.12, the dense run by 3.11"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a user's own module, and forgets what was imported of it.

    Python takes compiled code for current by the size and the second of its source, which two of these may share.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**changed):
        text = textwrap.dedent(OWN).format(**{**PLAIN, **changed})
        (tmp_path / "own_module.py").write_text(text)
        os.utime(tmp_path / "own_module.py", (0, 0))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "own_module", raising=False)
        linecache.clearcache()

    return write


def fingerprint(seed=0):
    from lottery.models import build
    from lottery.models.fingerprint import fingerprint

    return fingerprint(build.build(Model("own_module:build"), (4, 4, 3), 3, seed))


def test_the_fingerprint_is_of_what_is_computed(tensorflow, own):
    own()
    plain = fingerprint()
    assert fingerprint(seed=1) == plain
    own(code="return x  # as it is")
    assert fingerprint() == plain
    found = {plain}
    for changed in ({"activation": "gelu"}, {"code": "return -x"}, {"factor": "2.0"}):
        own(**changed)
        found.add(fingerprint())
    assert len(found) == 4


def test_a_ticket_of_a_changed_model_is_refused(tensorflow, own, small, worker):
    """Its shapes and names are the same: nothing else would tell."""
    own()
    sweep = small("model={name: own_module:build}")
    worker(sweep).train_dense()
    own(activation="gelu")
    other = worker(sweep, Ticket(0, 0))
    changed = type(other.session.trainer)(sweep.experiment, (8, 8, 3), 10, (0.0,) * 3, (1.0,) * 3, strategy(1))
    other.session.trainer = changed
    with pytest.raises(InputError, match="own_module:build: its structure or code has changed since the dense run"):
        other.train_tickets()
    assert not sweep.run.results()


def test_another_tensorflow_is_in_the_result_and_an_old_run_directory_is_as_good(after_dense, worker, caplog):
    sweep = after_dense()
    recorded = sweep.run.provenance()
    sweep.run.write_provenance(replace(recorded, tensorflow="2.0.0"))
    worker(sweep, Ticket(0, 5)).train_tickets()
    said = f"trained by TensorFlow {recorded.tensorflow}, the dense run by 2.0.0"
    assert caplog.messages == [said]
    open_store(sweep.run.uri).delete("dense/provenance.json")
    worker(sweep, Ticket(1, 5)).train_tickets()
    assert [(result.status, result.note) for result in sweep.run.results()] == [("done", said), ("done", "")]
