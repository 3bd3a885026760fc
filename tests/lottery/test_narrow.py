"""The `narrow` control: a dense network of as many parameters."""

from __future__ import annotations

import numpy as np
import pytest

from lottery.experiment.sections import Model
from lottery.tickets.scheduling import bundles
from lottery.tickets.tickets import Ticket
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.worker_runs import final

RESNET = ("model={name: resnet20, options: {width: 8}}", "tickets.controls=[narrow]", "trellis=[0ep]")


def test_the_nearest_width_is_found(tensorflow):
    from lottery.models.width import nearest_width

    def square(width):
        return width**2

    for wanted in range(1, 300):
        expected = min(range(1, 17), key=lambda width: (abs(width**2 - wanted), width))
        assert nearest_width(square, 16, wanted) == expected


def test_a_model_without_a_width_is_refused_with_those_that_have_one(tensorflow):
    from lottery.models.width import narrowed, width

    assert width(Model("resnet20")) == 16
    assert width(narrowed(Model("resnet20", {"width": 8}), 3)) == 3
    with pytest.raises(InputError) as error:
        width(Model("conv_small"))
    assert type(error.value) is InputError
    assert "narrow needs a model whose option width is a whole number, and conv_small has no " in str(error.value)
    assert "resnet20" in str(error.value)


@pytest.mark.parametrize("value", [1.5, 0, True])
def test_a_width_that_is_not_a_whole_number_is_named(tensorflow, value):
    from lottery.models.width import width

    with pytest.raises(InputError, match=f"a whole number, and resnet20 has width {value}; leave the control") as error:
        width(Model("resnet20", {"width": value}))
    assert type(error.value) is InputError


def test_it_is_refused_before_the_dense_run(small, worker):
    sweep = small("tickets.controls=[narrow]")
    with pytest.raises(InputError, match="narrow needs a model whose option width is a whole number"):
        worker(sweep).train_dense()
    assert not open_store(sweep.run.uri).list("dense")


def test_a_narrow_network_is_in_a_bundle_of_its_own():
    proper = [Ticket(level, step) for level in range(2) for step in (0, 5)]
    narrow = [Ticket(level, 0, "narrow") for level in range(2)]
    found = bundles([proper[0], narrow[0], *proper[1:], narrow[1]], 10)
    assert found == [tuple(proper), (narrow[0],), (narrow[1],)]


def test_it_has_as_many_parameters_is_dense_and_is_trained_by_the_whole_schedule(after_dense, worker):
    sweep = after_dense("narrow", *RESNET, "training.length=2ep", "masks.densities=[0.5, 0.25]")
    dense = sweep.run.dense_result()
    ticket = Ticket(1, 0, "narrow")
    assert ticket in sweep.tickets
    worker(sweep, ticket).train_tickets()
    (result,) = sweep.run.results()
    assert (result.status, result.steps, result.density, result.kept) == ("done", 20, 0.25, result.prunable)
    # Parameters grow with the square of the width: a quarter of the kernels at half of it.
    assert result.note.startswith("narrow: width 4 of 8, ")
    wanted = dense.parameters - 0.75 * dense.prunable
    state = final(sweep, ticket)
    has = sum(np.size(value) for path, value in state.items() if not path.startswith(("optimizer/", "seed")))
    assert abs(has - wanted) < 0.2 * wanted
    assert result.prunable < dense.prunable
