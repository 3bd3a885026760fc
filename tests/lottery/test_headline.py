"""The sentence above the report: what it names."""

from __future__ import annotations

from lottery.experiment.sections import Verdict
from lottery.report.page.headline import headline
from tests.lottery.searching import dense_result


def test_of_several_dense_runs_the_one_without_an_accuracy_is_named():
    diverged = dense_result(status="diverged", note="the loss is nan at step 5", top1=None)
    found = headline([dense_result(), diverged, dense_result()], [], {}, Verdict())
    assert found.sentence == "A dense run diverged: the loss is nan at step 5"
