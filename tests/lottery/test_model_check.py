"""A plan has a child build the model, and refuses what training would refuse at its start."""

import sys

import pytest

from lottery.driver.prepare import prepare
from lottery.executor import model_check
from lottery.executor.child_environment import child_environment
from lottery.executor.supervisor import Ended
from lottery.protocol import Failed, ModelFacts, Question, encode_event
from preprocessing.common.errors import Failure, InputError, Kind, StorageError
from tests.lottery.paths import DIGITS
from tests.lottery.probes import place, probe
from tests.lottery.small_sweep import SMALL

OWN = "model.name=tests.lottery.own_models"


FACTS = ModelFacts(
    parameters=1470,
    prunable=1436,
    kernels=tuple(f"conv_small/{layer}/kernel" for layer in ("conv1", "conv2", "hidden", "classifier")),
)


def asked(digits, tmp_path, *overrides):
    return prepare(DIGITS, str(digits), str(tmp_path), (*SMALL, *overrides)).question()


@pytest.mark.cluster
def test_what_a_model_has_is_told_by_a_child(digits, tmp_path):
    question = asked(digits, tmp_path)
    assert model_check.ask(question, child_environment((), 1)) == FACTS


@pytest.mark.cluster
def test_a_users_keras_json_does_not_change_how_a_model_is_built(digits, tmp_path, monkeypatch):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"image_data_format": "channels_first", "backend": "torch"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    question = asked(digits, tmp_path)
    assert model_check.ask(question, child_environment((), 1)) == FACTS


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model={name: vgg16}"], ["model vgg16 with options {} on images (8, 8, 3)"]),
        ([f"{OWN}:nothing", "model.options={}"], ["tests.lottery.own_models has no nothing; correct the name"]),
        (["masks.densities=[0.5, 1e-6]"], ["masks.densities: 1e-06 keeps none of the 1,436 weights"]),
    ],
)
def test_what_cannot_be_trained_is_a_problem_of_the_preflight(small, digits, tmp_path, overrides, words):
    (line,) = probe(small(), question=asked(digits, tmp_path, *overrides))
    assert line.startswith("executor h:0: ")
    assert all(word in line for word in words), line
    assert "\n" not in line


def test_one_task_is_asked(small, digits, tmp_path, monkeypatch):
    def ask(question, environment):
        raise InputError("model x: no")

    monkeypatch.setattr(model_check, "ask", ask)
    question = asked(digits, tmp_path)
    assert probe(small(), question=question) == ("executor h:0: model x: no",)
    assert probe(small(), where=place(1), question=question) == ()
    assert probe(small()) == ()


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Has children run a shell script in place of Python."""

    def write(script):
        (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    return write


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 1", "exit status 1: its log is empty"),
        ("echo 'No module named tensorflow' >&2; exit 1", "exit status 1: No module named tensorflow"),
        ("""printf '{"type":"\\377"}\\n'""", "exit status 0: its log is empty"),  # a library's print
        ("sleep 60", "no progress for 1 s: its log is empty"),
    ],
)
def test_a_child_that_gives_no_answer_is_a_line(digits, tmp_path, python, script, words):
    python(script)
    with pytest.raises(InputError) as caught:
        model_check.ask(asked(digits, tmp_path, "gang.hang_after=1"), {})
    assert type(caught.value) is InputError
    assert str(caught.value) == (
        f"model conv_small: the process that built it ended: {words}; "
        "check that the executors' environment imports TensorFlow, and that their memory is enough"
    )


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Kind.BAD_INPUT, InputError, "the child's words"),
        (Kind.STORAGE, StorageError, "the child's words"),
        (Kind.OUT_OF_MEMORY, InputError, "model conv_small: the process that built it ended: x: the child's words; "),
    ],
)
def test_a_childs_failure_keeps_its_kind(digits, tmp_path, monkeypatch, kind, error, message):
    def supervise(module, told, environment, hang_after, on_line, other_ended):
        on_line(encode_event(Failed(Failure(kind, "the child's words"))))
        return Ended(1, "x", "the log")

    monkeypatch.setattr("lottery.executor.child.supervise", supervise)
    with pytest.raises(InputError) as caught:
        model_check.ask(asked(digits, tmp_path), {})
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)


def test_masks_that_are_equal_are_pointed_out(digits, tmp_path):
    question: Question = asked(digits, tmp_path, "masks.densities=[0.5, 0.01, 0.0101]")
    assert model_check.lines(ModelFacts(150, 100), question.experiment) == [
        "model: conv_small, 150 parameters, 100 of them prunable; the masks keep 50, 1, 1",
        "warning: levels 1, 2 all keep 1 weight: their masks are equal",
    ]
