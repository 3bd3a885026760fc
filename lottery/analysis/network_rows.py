"""The tables that need forward passes: barriers and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lottery.analysis.agreement import Agreement, agreement
from lottery.analysis.connectivity import LinePoint, barrier, positions
from lottery.analysis.pairs import Network, NetworkPair, line_ends, network_pairs
from lottery.analysis.rows import AgreementRow, BarrierRow, LineRow
from lottery.analysis.study import Replicate, Study
from lottery.protocol import RECOMPUTED, Line, LinePoints, Passes, Predictions, TrainedNetwork
from lottery.run.run_directory import DENSE
from lottery.tickets.tickets import NO_CONTROL, Ticket

_NOT_AS_RECORDED = 1e-3  # a difference of accuracies that other hardware does not explain


@dataclass(frozen=True)
class Ends:
    """Two trainings of a replicate from the same state, which saw other orders of samples."""

    replicate: Replicate
    one: Ticket
    other: Ticket


@dataclass(frozen=True)
class Wanted:
    """What forward passes are needed for."""

    lines: list[Ends] = field(default_factory=list)
    pairs: list[NetworkPair] = field(default_factory=list)

    @property
    def networks(self) -> list[Network]:
        """The networks whose predictions are compared, each once."""
        return list(dict.fromkeys(network for pair in self.pairs for network in (pair.one, pair.other)))


def all_ends(study: Study) -> list[Ends]:
    """The lines of all replicates, in the order of levels and reset points."""
    return [
        Ends(replicate, one, other)
        for replicate in study.replicates
        for one, other in line_ends(replicate.trained, replicate.experiment)
    ]


def all_pairs(study: Study) -> list[NetworkPair]:
    """The pairs of networks whose predictions are compared."""
    dense = [Network(each.seed, None) for each in study.replicates if each.has_dense]
    tickets = [Network(each.seed, ticket) for each in study.replicates for ticket in each.trained]
    return network_pairs([*dense, *tickets])


def passes(study: Study, wanted: Wanted, data: str, points: int, statistics_images: int, cores: int) -> Passes:
    """The request to a child for all that is wanted."""
    first = study.replicates[0]
    return Passes(
        experiment=first.experiment,
        data=data,
        dataset_hash=first.origin.dataset_hash,
        cores=cores,
        positions=tuple(positions(points)),
        lines=tuple(Line(ends.replicate.run.uri, ends.one.name, ends.other.name) for ends in wanted.lines),
        statistics_images=statistics_images,
        networks=tuple(
            TrainedNetwork(study.replicate(each.replicate).run.uri, each.ticket.name if each.ticket else DENSE)
            for each in wanted.networks
        ),
    )


def line_rows(lines: Sequence[Ends], answers: Sequence[LinePoints], at: Sequence[float]) -> list[LineRow]:
    """A row for each network on each line; `at` are their positions."""
    return [
        LineRow(
            **_of_line(lines[answer.line]),
            statistics=answer.statistics,
            position=position,
            error=error,
            loss=loss,
            images=answer.images,
        )
        for answer in answers
        for position, error, loss in zip(at, answer.errors, answer.losses, strict=True)
    ]


def barrier_rows(lines: Sequence[Ends], answers: Sequence[LinePoints], at: Sequence[float]) -> list[BarrierRow]:
    """A row for each line and kind of statistics."""
    rows = []
    for answer in answers:
        found = barrier([LinePoint(*point) for point in zip(at, answer.errors, answer.losses, strict=True)])
        rows.append(
            BarrierRow(
                **_of_line(lines[answer.line]),
                statistics=answer.statistics,
                one_error=answer.errors[0],
                other_error=answer.errors[-1],
                highest_error=max(answer.errors),
                barrier=found.error,
                loss_barrier=found.loss,
                points=len(at),
                images=answer.images,
            )
        )
    return rows


def differs_from_record(lines: Sequence[Ends], answers: Sequence[LinePoints]) -> str | None:
    """A line on the first end whose accuracy here is not the recorded one; None if all are as recorded."""
    for answer in answers:
        if answer.statistics == RECOMPUTED:
            continue
        ends = lines[answer.line]
        for ticket, error in ((ends.one, answer.errors[0]), (ends.other, answer.errors[-1])):
            recorded = ends.replicate.trained[ticket].top1
            if recorded is not None and abs(1 - error - recorded) > _NOT_AS_RECORDED:
                return f"{ticket.name} has a top-1 accuracy of {1 - error:.4f} here, and {recorded:.4f} in its result"
    return None


def _of_line(ends: Ends) -> dict[str, Any]:
    replicate, ticket = ends.replicate, ends.one
    is_ticket = ticket.control == NO_CONTROL
    return {
        "replicate": replicate.seed,
        "network": "ticket" if is_ticket else ticket.control,
        "level": ticket.level if is_ticket else None,
        "level_density": replicate.experiment.masks.levels[ticket.level] if is_ticket else 1.0,
        "step": ticket.step,
        "reset": replicate.points[ticket.step],
        "one_order": ticket.seed,
        "other_order": ends.other.seed,
    }


def agreement_rows(study: Study, wanted: Wanted, answers: Sequence[Predictions], classes: int) -> list[AgreementRow]:
    """A row for each pair of networks."""
    if not wanted.pairs:
        return []
    labels, *predicted = (np.frombuffer(answer.classes, "<i4") for answer in answers)
    by_network = dict(zip(wanted.networks, predicted, strict=True))
    return [
        _agreement_row(
            study, pair, agreement(by_network[pair.one], by_network[pair.other], labels, classes), labels.size
        )
        for pair in wanted.pairs
    ]


def _agreement_row(study: Study, pair: NetworkPair, found: Agreement, images: int) -> AgreementRow:
    one, other = pair.one.ticket, pair.other.ticket
    assert other is not None  # only `one` is ever the dense run
    replicate = study.replicate(pair.other.replicate)
    return AgreementRow(
        kind=pair.kind,
        level=other.level,
        level_density=replicate.experiment.masks.levels[other.level],
        one_replicate=pair.one.replicate,
        one_reset=study.replicate(pair.one.replicate).points[one.step] if one else "",
        one_order=one.seed if one else None,
        other_replicate=pair.other.replicate,
        other_reset=replicate.points[other.step],
        other_order=other.seed,
        one_top1=found.one_top1,
        other_top1=found.other_top1,
        churn=found.churn,
        expected_churn=found.expected_churn,
        both_right=found.both_right,
        both_wrong=found.both_wrong,
        images=images,
    )
