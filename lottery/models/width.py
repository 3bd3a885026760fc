"""Narrower networks: the `width` option of a model, and the width that gives a number of parameters."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from lottery.experiment.sections import Model
from lottery.models import build, registry
from preprocessing.common.errors import InputError


def width(model: Model) -> int:
    """The width of a model, in units of its builder.

    Raises InputError if the builder has no such option, or its value is not a positive whole number.
    """
    found = model.options.get("width", build.options(model.name).get("width"))
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        able = [name for name in registry.MODELS if "width" in build.options(name)]
        has = "no such option" if found is None else f"width {found}"
        raise InputError(
            f"tickets.controls: narrow needs a model whose option width is a whole number, and {model.name} has {has}; "
            f"leave the control out, or choose {', '.join(able)}"
        )
    return found


def narrowed(model: Model, width: int) -> Model:
    """The model at another width."""
    return replace(model, options={**model.options, "width": width})


def nearest_width(parameters: Callable[[int], int], widest: int, wanted: int) -> int:
    """The width in [1, widest] whose network is nearest to the wanted number of parameters; at a tie the narrower one.

    Args:
        parameters: of a width; they grow with it. Called about log2(widest) times.
    """
    low, high = 1, widest
    while low < high:  # for the narrowest that has as many
        middle = (low + high) // 2
        if parameters(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    if low > 1 and wanted - parameters(low - 1) <= parameters(low) - wanted:
        return low - 1
    return low
