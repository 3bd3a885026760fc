"""The page: everything that a report has, in one file of HTML that fetches nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lottery.experiment.config import to_tree
from lottery.report.charts.pictures import Picture
from lottery.report.page.columns import columns
from lottery.report.page.figures import Figure
from lottery.report.page.headline import Headline
from lottery.report.record import facts
from lottery.report.record.sweep_record import SweepRecord
from lottery.report.record.ticket_rows import TicketRow, layer_table, ticket_rows
from lottery.run import origin
from lottery.run.submission import code_version

_BAD = ("failed", "diverged")


def page(
    record: SweepRecord,
    drawn: Sequence[tuple[Figure, Picture]],
    points: Mapping[int, str],
    headline: Headline,
    *,
    bundle: str,
    findings: str = "",
    price: float | None = None,
    made: str = "",
) -> bytes:
    """The page, as UTF-8.

    Every text is escaped, in the HTML and in the data of its scripts.

    Args:
        drawn: the figures, and their pictures for browsers that run no scripts.
        points: the reset points' names by step.
        bundle: JavaScript that defines `vegaEmbed`.
        findings: the table by level, as text.
        price: of one executor per hour.
        made: when; empty to leave it out.
    """
    rows = ticket_rows(record, points)
    shown = columns(rows)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    environment.globals["zip"] = zip
    template = environment.from_string(_file("page.html"))
    text = template.render(
        name=record.name,
        finished=record.finished,
        state=facts.state(record),
        headline=headline.sentence,
        rule=headline.rule,
        cards=_cards(record),
        findings=findings,
        figures=[{"inline": _inline(picture), **vars(figure)} for figure, picture in drawn],
        replicates=len(record.replicates),
        rows=rows,
        bad=[row for row in rows if row.result.status in _BAD],
        columns=shown,
        cells=[[column.cell(row) for column in shown] for row in rows],
        filters=_filters(rows),
        gang=facts.gang_facts(record, price),
        origin=facts.origin_facts(record),
        command=record.submission.command if record.submission else "",
        experiment=origin.text(to_tree(record.origin.experiment)),
        code=code_version(),
        made=made,
        data={
            "charts": {figure.name: figure.spec for figure, _ in drawn},
            "columns": [column.name for column in shown],
            "layers": layer_table(record),
        },
        css=Markup(_file("page.css")),
        js=_script(_file("page.js")),
        bundle=_script(bundle),
    )
    return text.encode()


def _cards(record: SweepRecord) -> list[tuple[str, str, str]]:
    """The most important numbers: (what, number, remark)."""
    done, of = record.trainings
    found = facts.work(record)
    cards = [("trainings ended", f"{done:,} of {of:,}", "dense runs, tickets and controls")]
    tops = [result.top1 for result in record.dense.values() if result.top1 is not None]
    if tops:
        images = next(iter(record.dense.values())).evaluated
        several = f", mean of {len(tops)} seeds" if len(tops) > 1 else ""
        cards.insert(
            0, ("dense network, top-1", f"{100 * sum(tops) / len(tops):.2f}%", f"on {images:,} images{several}")
        )
    if found.executor_seconds:
        cards.append(
            ("executors' time", facts.length(found.executor_seconds), f"in {facts.length(found.wall_seconds)}")
        )
    if found.tickets is not None:
        numbers = f"S {found.tickets.speedup:.2f}, E {found.tickets.efficiency:.2f}"
        cards.append(("speedup, efficiency", numbers, f"of {found.tickets.tasks} tasks, for the tickets"))
    return cards


def _filters(rows: Sequence[TicketRow]) -> list[tuple[str, str, list[str]]]:
    """What the table can be filtered by: (title, column, values), if there is more than one value."""
    found = [
        ("Kind", "kind", list(dict.fromkeys(row.kind for row in rows))),
        ("Reset to", "reset", [name for _, name in sorted({(row.result.step, row.point) for row in rows})]),
        ("Level", "level", [str(level) for level in sorted({row.level for row in rows if row.level is not None})]),
        ("Status", "status", sorted({row.result.status for row in rows})),
    ]
    return [(title, column, values) for title, column, values in found if len(values) > 1]


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script(code: str) -> Markup:
    """Code of ours or of a library, for between `<script>` and `</script>`."""
    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _inline(picture: Picture) -> str:
    """The picture as a data URI, in the format that is smaller."""
    svg = picture.svg.encode()
    kind, blob = ("svg+xml", svg) if len(svg) < len(picture.png) else ("png", picture.png)
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode()}"
