"""The tables that need masks alone: overlap and layers."""

from __future__ import annotations

from functools import lru_cache

from lottery.analysis.layers import layers
from lottery.analysis.overlap import Overlap, layer_overlaps, whole_overlap, whole_overlap_by_layer
from lottery.analysis.pairs import MaskAt, MaskPair, mask_pairs
from lottery.analysis.rows import LayerRow, OverlapRow
from lottery.analysis.study import Study
from preprocessing.common.errors import InputError

_HELD = 32  # masks in memory: those of neighbouring levels are compared


def overlap_rows(study: Study) -> list[OverlapRow]:
    """For each pair of masks a row for each kernel and two for the whole.

    Raises InputError if a mask is damaged, or another run directory has a network of other kernels.
    """
    read = lru_cache(_HELD)(study.mask)
    pairs = mask_pairs(
        [mask for each in study.replicates for mask in each.masks],
        [mask for each in study.others for mask in each.masks],
    )
    rows = []
    for pair in pairs:
        try:
            found = layer_overlaps(read(pair.one), read(pair.other))
        except ValueError as error:
            raise InputError(
                f"the masks of {pair.one.run} and {pair.other.run} are of different networks: kernel {error}; give "
                "--with a run directory of the same model"
            ) from None
        rows.append(_overlap_row(study, pair, "", "network", whole_overlap(found)))
        rows.append(_overlap_row(study, pair, "", "kernel", whole_overlap_by_layer(found)))
        rows += [_overlap_row(study, pair, kernel, "kernel", overlap) for kernel, overlap in found.items()]
    return rows


def layer_rows(study: Study) -> list[LayerRow]:
    """A row for each mask and kernel. Raises InputError if a mask is damaged."""
    rows = []
    for mask in (mask for each in study.replicates for mask in each.masks):
        reset, order = _chain(study, mask)
        for position, (kernel, layer) in enumerate(layers(study.mask(mask)).items()):
            rows.append(
                LayerRow(
                    replicate=mask.replicate,
                    level=mask.level,
                    level_density=mask.density,
                    reset=reset,
                    order=order,
                    kernel=kernel,
                    position=position,
                    weights=layer.size,
                    kept=layer.kept,
                    density=layer.density,
                    inputs=layer.inputs,
                    empty_inputs=layer.empty_inputs,
                    outputs=layer.outputs,
                    empty_outputs=layer.empty_outputs,
                )
            )
    return rows


def _chain(study: Study, mask: MaskAt) -> tuple[str, int | None]:
    """The reset point's name and the seed of the order of samples of a later round of iterative pruning."""
    if not mask.chain:
        return "", None
    order, step = mask.chain
    return study.where(mask).points[step], order


def _overlap_row(study: Study, pair: MaskPair, kernel: str, chance: str, overlap: Overlap) -> OverlapRow:
    one_reset, one_order = _chain(study, pair.one)
    other_reset, other_order = _chain(study, pair.other)
    return OverlapRow(
        kind=pair.kind,
        one_run=pair.one.run,
        one_replicate=pair.one.replicate,
        one_level=pair.one.level,
        one_density=pair.one.density,
        one_reset=one_reset,
        one_order=one_order,
        other_run=pair.other.run,
        other_replicate=pair.other.replicate,
        other_level=pair.other.level,
        other_density=pair.other.density,
        other_reset=other_reset,
        other_order=other_order,
        kernel=kernel,
        chance=chance,
        weights=overlap.weights,
        one_kept=overlap.one,
        other_kept=overlap.other,
        both_kept=overlap.both,
        expected=overlap.expected,
        over_chance=overlap.over_chance,
        z=overlap.z,
        jaccard=overlap.jaccard,
        expected_jaccard=overlap.expected_jaccard,
    )
