"""Masks of a finished dense run by every method, as a worker makes them."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.run.run_directory import DENSE
from lottery.tickets import mask_methods, masks
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.worker_runs import equal, final

OWN = "tests.lottery.mask_models"


@pytest.fixture
def made(after_dense, small, worker):
    """Makes the masks of a small sweep with overrides of its masks; gives the sweep and the worker's session."""

    def make(*overrides, runs="other"):
        from lottery.worker.mask_making import make_masks

        done, sweep = after_dense(), small(*overrides, runs=runs)
        for step in done.timeline.trellis:
            sweep.run.write_trellis_state(done.run.trellis_state(step))
        sweep.run.write_checkpoint(DENSE, done.run.checkpoint(DENSE))
        session = worker(sweep).session
        make_masks(session)
        return sweep, session

    return make


def kernels(state, session):
    return {path: np.asarray(state[path]) for path in session.trainer.kernels}


@pytest.mark.parametrize("method", [*mask_methods.METHODS, f"{OWN}:weight_times_gradient"])
def test_every_method_makes_the_same_masks_again_at_the_density(made, method):
    overrides = [f"masks.method={method}"]
    if mask_methods.find(method).reads_images:
        overrides.append("masks.images=70")  # two batches
    sweep, session = made(*overrides)
    again, _ = made(*overrides, runs="again")
    for level, density in enumerate(sweep.experiment.masks.densities):
        mask = sweep.run.mask(level, session.trainer.kernel_shapes)
        assert masks.kept(mask) == masks.kept_weights(density, session.trainer.prunable)
        assert equal(mask, again.run.mask(level))


def test_which_weights_are_ranked(made):
    sweep, session = made("masks.method=magnitude_at_init")
    first, later, last = (
        kernels(state, session)
        for state in (
            sweep.run.trellis_state(0).variables,
            sweep.run.trellis_state(5).variables,
            final(sweep, DENSE),
        )
    )
    densities = sweep.experiment.masks.densities
    assert equal(sweep.run.mask(0), masks.global_magnitude_masks(first, densities)[0])
    for number, (overrides, expected) in enumerate(
        [
            (("masks.at=0.5ep", "masks.method=magnitude_at_init"), later),
            (("masks.at=0.5ep",), later),
            (("masks.at=3ep", "masks.method=magnitude_at_init"), last),
        ]
    ):
        sweep, _ = made(*overrides, runs=f"run {number}")
        assert equal(sweep.run.mask(0), masks.global_magnitude_masks(expected, densities)[0])


def test_a_users_function_that_scores_as_snip_does_gives_snips_masks(made):
    snip, _ = made("masks.method=snip", "masks.images=20")
    own, _ = made(f"masks.method={OWN}:weight_times_gradient", "masks.images=20", runs="own")
    more, _ = made("masks.method=snip", "masks.images=40", runs="more")
    assert equal(snip.run.mask(1), own.run.mask(1))
    assert not equal(snip.run.mask(1), more.run.mask(1))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("one_number", f"masks.method: {OWN}:one_number: gives conv_small/conv1/kernel scores of shape []; give one "),
        ("broken", f"masks.method: {OWN}:broken: KeyError: 'no such layer' (mask_models.py line "),
        ("absent", f"masks.method: {OWN}:absent: AttributeError: module"),
        ("not_numbers", f"masks.method: {OWN}:not_numbers: kernels with weights or scores that are not finite cannot "),
    ],
)
def test_a_users_function_that_gives_no_scores_is_named(made, function, said):
    with pytest.raises(InputError) as error:
        made(f"masks.method={OWN}:{function}")
    assert type(error.value) is InputError
    assert str(error.value).startswith(said)
    assert "; correct the function" in str(error.value) or function in ("one_number", "not_numbers")


def test_a_users_function_that_is_not_there_is_refused_before_the_dense_run(small, worker):
    sweep = small(f"masks.method={OWN}:absent")
    with pytest.raises(InputError, match=f"masks.method: {OWN}:absent: AttributeError"):
        worker(sweep).train_dense()
    assert not open_store(sweep.run.uri).list("dense")


def test_images_are_the_first_of_the_order_of_training_without_augmentation(made):
    from lottery.input.scored_images import scored_images
    from lottery.input.training_batches import TrainingInput

    sweep, session = made()
    data, reading = sweep.experiment.data, sweep.experiment.input
    found = list(scored_images(session.dataset, data, 0, reading, 100))
    assert [len(labels) for _, labels in found] == [50, 50]
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    plain = TrainingInput(session.dataset, data, 0, reading)
    trained = [plain.batch(step) for step in range(6)]
    assert np.array_equal(images[:96], np.concatenate([batch[0] for batch in trained]))
    assert np.array_equal(labels[:96], np.concatenate([batch[1] for batch in trained]))


def test_excluded_layers_stay_dense_and_densities_are_of_the_others(after_dense, worker):
    sweep = after_dense("excluded", "masks.exclude=['*/conv1/*', '*/classifier/*']", "tickets.controls=[]")
    mask = sweep.run.mask(1)
    assert list(mask) == ["conv_small/conv2/kernel", "conv_small/hidden/kernel"]
    prunable = masks.prunable_weights(mask)
    assert sweep.run.dense_result().prunable == prunable == 3 * 3 * 4 * 4 + 64 * 16
    assert masks.kept(mask) == round(0.1 * prunable)
    worker(sweep, *(ticket for ticket in sweep.tickets if ticket.level == 1)).train_tickets()
    for result in sweep.run.results():
        assert (result.status, result.kept, result.prunable) == ("done", masks.kept(mask), prunable)
        state = final(sweep, result.ticket)
        assert np.count_nonzero(state["conv_small/conv1/kernel"]) > 0.9 * state["conv_small/conv1/kernel"].size
        assert not state["conv_small/hidden/kernel"][~mask["conv_small/hidden/kernel"]].any()


def test_an_exclude_that_matches_nothing_lists_the_kernels(small, worker):
    sweep = small("masks.exclude=['*/fc/*']")
    with pytest.raises(InputError) as error:
        worker(sweep)
    assert str(error.value) == (
        "masks.exclude: */fc/* matches no prunable kernel; there are conv_small/conv1/kernel, conv_small/conv2/kernel, "
        "conv_small/hidden/kernel, conv_small/classifier/kernel"
    )
    assert not open_store(sweep.run.uri).list("dense")


def test_a_dense_run_whose_final_state_is_gone_is_named(small, worker):
    from lottery.worker.mask_making import make_masks

    sweep = small()
    with pytest.raises(InputError, match=r"dense/state.safetensors is missing; restore it, or delete the folder dense"):
        make_masks(worker(sweep).session)


def test_scores_of_0_everywhere_are_refused_and_of_a_kernel_are_told(made, monkeypatch, caplog):
    from lottery.training.mask_scores import MaskScorer

    def snip(self, batches, count):
        return {path: np.zeros_like(kernel) for path, kernel in self._kernels.items()}

    with monkeypatch.context() as patch:
        patch.setattr(MaskScorer, "snip", snip)
        with pytest.raises(InputError, match="masks.method: snip: all scores are 0; choose another method, or another"):
            made("masks.method=snip")

    def some(self, batches, count):
        return {path: np.full_like(kernel, "/conv" in path) for path, kernel in self._kernels.items()}

    monkeypatch.setattr(MaskScorer, "snip", some)
    made("masks.method=snip", runs="some")
    assert "all scores of conv_small/hidden/kernel, conv_small/classifier/kernel are 0" in caplog.text
