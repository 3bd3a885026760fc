"""What can be known of a model before training is asked of a child beforehand: a plan, too, refuses what cannot run."""

import sys

import pytest

from lottery.driver.prepare import prepare
from lottery.executor import model_check
from lottery.executor.child_environment import child_environment
from lottery.executor.model_check import ModelFacts, Question
from preprocessing.common.errors import InputError
from tests.lottery.paths import DIGITS
from tests.lottery.probes import place, probe
from tests.lottery.small_sweep import SMALL

OWN = "model.name=tests.lottery.own_models"


def asked(digits, tmp_path, *overrides):
    return prepare(DIGITS, str(digits), str(tmp_path), (*SMALL, *overrides)).question()


@pytest.mark.cluster
def test_what_a_model_has_is_told_by_a_child(digits, tmp_path):
    question = asked(digits, tmp_path)
    assert model_check.ask(question, child_environment((), 1)) == ModelFacts(parameters=1470, prunable=1436)
    assert "tensorflow" not in model_check.__dict__


@pytest.mark.cluster
def test_a_model_is_built_as_it_is_trained_whatever_the_users_keras_says(digits, tmp_path, monkeypatch):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"image_data_format": "channels_first", "backend": "torch"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    question = asked(digits, tmp_path)
    assert model_check.ask(question, child_environment((), 1)) == ModelFacts(parameters=1470, prunable=1436)


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


def test_a_child_that_dies_is_a_line(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="model conv_small: building it ended with status 1: no message; check that"):
        model_check.ask(asked(digits, tmp_path), {})


def test_a_child_that_ends_in_a_librarys_print_is_a_line(digits, tmp_path, monkeypatch):
    (tmp_path / "python").write_text("""#!/bin/sh\nprintf '{"type":"\\377"}\\n'\n""")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(InputError, match="model conv_small: building it ended with status 0: no message; check that"):
        model_check.ask(asked(digits, tmp_path), {})


def test_masks_that_are_equal_are_pointed_out(digits, tmp_path):
    question: Question = asked(digits, tmp_path, "masks.densities=[0.5, 0.01, 0.0101]")
    assert model_check.lines(ModelFacts(150, 100), question.experiment) == [
        "model: conv_small, 150 parameters, 100 of them prunable; the masks keep 50, 1, 1",
        "warning: levels 1, 2 all keep 1 weight: their masks are equal",
    ]
