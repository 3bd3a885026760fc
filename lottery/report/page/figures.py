"""The report's figures: which charts there are, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lottery.report.charts.accuracy import Line, accuracy_chart, control_name, reset_name
from lottery.report.charts.curves import Curve, accuracy_curves, loss_curves, training_loss_curves
from lottery.report.charts.gang import timeline_chart, use_chart
from lottery.report.charts.grid import grid_chart
from lottery.report.charts.layers import layers_chart
from lottery.report.charts.style import DENSE as DENSE_LABEL
from lottery.report.charts.style import Spec
from lottery.report.record.sweep_record import Layers, SweepRecord
from lottery.report.record.usage import use_over_time
from lottery.run.run_directory import DENSE
from lottery.tickets.controls import CONTROLS, is_for_all_levels
from lottery.tickets.tickets import Ticket


@dataclass(frozen=True)
class Figure:
    """A chart of the report: `name` names its files, `title` and `caption` are for people."""

    name: str
    title: str
    caption: str
    spec: Spec


def figures(
    record: SweepRecord, points: Mapping[int, str], winner: Ticket | None, published: Sequence[Line] = ()
) -> list[Figure]:
    """The figures that there is something for, in the page's order.

    Args:
        points: the reset points' names by step.
        winner: the ticket whose training is shown.
        published: results of others, to draw in grey.
    """
    curves = training_curves(record, points, winner)
    rows = record.telemetry
    percent = [{**row, "input_percent": 100 * row["input_wait"]} for row in rows if "input_wait" in row]
    uses = {
        "device in use": use_over_time(rows, record.clock, "gpu_percent"),
        "waiting for input": use_over_time(percent, record.clock, "input_percent"),
    }
    experiment = record.origin.experiment
    candidates: list[tuple[str, str, str, Spec | None]] = [
        (
            "accuracy",
            "Accuracy against density",
            "Lines are tickets by reset point; dashed lines are controls. Bars and the grey band are intervals. "
            "Click a name to see its line alone, shift-click for several, double-click for all.",
            accuracy_chart(list(record.dense.values()), record.results, points, published),
        ),
        (
            "grid",
            "Every ticket against the dense network",
            "Points of top-1 accuracy above (blue) or below (red) the dense network of the same seed, mean over seeds. "
            "A dot is a ticket that is still to be trained.",
            grid_chart(experiment, record.dense, record.results, points),
        ),
        (
            "training-accuracy",
            "Training: accuracy",
            "The dense network, the winner and its controls, evaluated on the way.",
            accuracy_curves(curves),
        ),
        ("training-loss", "Training: loss on the evaluation split", "The same trainings.", loss_curves(curves)),
        (
            "training-step-loss",
            "Training: loss of the steps",
            "The same trainings: the mean over the steps since the evaluation before.",
            training_loss_curves(curves),
        ),
        (
            "timeline",
            "Who trained what when",
            "A bar is a process that trains a bundle. An orange triangle is one that went on with what another had "
            "left; a dashed red line is a loss, or a break in which nobody was at work.",
            timeline_chart(record.spans, record.clock, record.losses),
        ),
        (
            "use",
            "How well the machines were used",
            "Mean, least and most over the tasks at work. Waiting for input should be near 0.",
            use_chart(uses, record.clock),
        ),
        (
            "layers",
            "Which layers keep their weights",
            _layers_caption(record),
            layers_chart(experiment.masks.levels, level_layers(record)),
        ),
    ]
    return [Figure(name, title, caption, spec) for name, title, caption, spec in candidates if spec is not None]


def training_curves(record: SweepRecord, points: Mapping[int, str], winner: Ticket | None) -> list[Curve]:
    """The evaluations of the dense run, and of the winner and its controls if there is one."""
    labels = {DENSE: (DENSE_LABEL, "dense")}
    if winner is not None:
        labels[winner.name] = (f"winner, {reset_name(points[winner.step])}", "ticket")
        ended = {result.ticket for result in record.pooled}
        for control in record.origin.experiment.tickets.controls:
            level = 0 if is_for_all_levels(control) else winner.level
            shared = (0,) if CONTROLS[control].each == "level" else ()  # the same for all reset points
            for step in (winner.step, *shared):
                ticket = Ticket(level, step, control, winner.seed)
                if ticket in ended:
                    labels[ticket.name] = (control_name(control), "control")
                    break
    return [
        Curve(label, each.seed, [dict(row) for row in each.metrics[training]], kind)
        for training, (label, kind) in labels.items()
        for each in record.replicates
        if each.metrics.get(training)
    ]


def level_layers(record: SweepRecord) -> dict[int, Layers]:
    """By level the layers of one mask: that of the first replicate, and of a later round that of its first ticket."""
    found: dict[int, Layers] = {}
    for key, layers in record.replicates[0].layers.items() if record.replicates else ():
        found.setdefault(key[0], layers)
    return found


def _layers_caption(record: SweepRecord) -> str:
    several = len(record.replicates) > 1
    of = f" of seed {record.replicates[0].seed}" if several else ""
    return f"The masks{of}. A kernel that keeps nothing cuts the network in two, unless there is a way around it."
