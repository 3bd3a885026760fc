"""The report's page as a file: what is in it, and that nothing in it comes from a user unescaped."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import altair
import pytest
from jsonschema import ValidationError

from lottery.report import publish
from lottery.report.charts import pictures
from lottery.report.charts.accuracy import Line, accuracy_chart
from lottery.report.page.figures import figures, training_curves
from lottery.report.record.reading import read_sweep
from lottery.run.run_directory import DENSE
from lottery.tickets.tickets import Ticket
from tests.lottery.report_runs import write_run

HOSTILE = "</script><script>alert('x')</script><!-- & \u2028 <img src=x onerror=alert(1)>"


class Parsed(HTMLParser):
    """The elements of a page with their attributes, its text outside scripts, and the content of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._in = "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The report of a finished sweep, one of whose tickets failed with a hostile note."""
    run = write_run(tmp_path_factory.mktemp("finished"), notes=HOSTILE, status="failed")
    publish.publish(run, price=2.0)
    return run


def page(run) -> str:
    return Path(run.uri, "report", "index.html").read_text(encoding="utf-8")


def test_it_is_one_small_file_that_fetches_nothing(finished):
    text = page(finished)
    assert len(text.encode()) < 5_000_000
    parsed = Parsed(text)
    for tag, attributes in parsed.tags:
        for name in ("src", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        if tag != "a":
            assert (attributes.get("href") or "data:").startswith("data:"), (tag, attributes)
    policy = next(each["content"] for tag, each in parsed.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"url\((?!data:)", text[: text.index("<script")])


def test_what_users_wrote_is_escaped_in_html_and_in_scripts(finished):
    parsed = Parsed(page(finished))
    assert len(parsed.scripts) == 3
    assert not [each for _, each in parsed.tags if "onerror" in each]
    assert HOSTILE.partition(" ")[0] in parsed.text  # it is shown, as text
    assert "<" not in parsed.scripts[0]
    assert json.loads(parsed.scripts[0])["columns"]


def test_a_hostile_layer_name_stays_data(tmp_path):
    run = write_run(tmp_path)
    level = {f"{HOSTILE}{name}": kept for name, kept in run.mask(0).items()}
    run.write_mask(0, level)
    publish.publish(run)
    parsed = Parsed(page(run))
    assert len(parsed.scripts) == 3
    assert not [each for _, each in parsed.tags if "onerror" in each]
    assert [kernel for kernel, _, _ in json.loads(parsed.scripts[0])["layers"]["0-0"]] == list(level)


def test_it_says_what_happened_where_it_comes_from_and_what_it_cost(finished):
    text = " ".join(Parsed(page(finished)).text.split())
    assert "Finished: all 25 trainings have ended; 1 failed." in text
    assert "0123" * 16 in text
    assert "TensorFlow 2.21.0, Keras 3.15.1, Python 3.11 on 1 x H100; 16 cores of Xeon" in text
    assert "spark-submit jobs/lottery_sweep.py --experiment 'my experiment.yaml'" in text
    # 30 s of the dense run, and 4 minutes of each of two tasks, which were away for 220 s.
    assert "0.28 at 2 per executor and hour" in text
    assert "S = 1.04, E = 0.52 with 2 tasks" in text
    assert "the study: S = 20, E = 1 with 20 workers" in text


def test_the_table_has_every_result_and_its_numbers_sort_as_numbers(finished):
    text = page(finished)
    rows = re.findall(r"<tr>(<td.*?)</tr>", text[text.index("<tbody>") : text.index("</tbody>")], re.DOTALL)
    assert len(rows) == len(finished.results()) == 24
    columns = json.loads(Parsed(text).scripts[0])["columns"]
    for row, result in zip(rows, finished.results(), strict=True):
        values = dict(zip(columns, re.findall(r'<td(?: class="number" data-value="([^"]*)")?', row), strict=True))
        assert values["top1"] == ("" if result.top1 is None else repr(100 * result.top1))
        assert float(values["realised"]) == pytest.approx(100 * result.kept / result.prunable)


def test_every_chart_is_there_also_as_png_and_svg(finished):
    names = [
        "accuracy",
        "grid",
        "training-accuracy",
        "training-loss",
        "training-step-loss",
        "timeline",
        "use",
        "layers",
    ]
    assert sorted(json.loads(Parsed(page(finished)).scripts[0])["charts"]) == sorted(names)
    for name in names:
        assert Path(finished.uri, "report", f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert Path(finished.uri, "report", f"{name}.svg").read_text().startswith("<svg")


def test_charts_are_valid_vega_lite(finished):
    record = read_sweep(finished)
    points = publish.reset_points(record.origin)
    published = [Line("theirs", ((0.5, 0.9), (0.1, 0.8))), Line("their dense network", (), 0.91)]
    for figure in figures(record, points, Ticket(1, 44), published):
        altair.LayerChart.from_dict(figure.spec, validate=True)
    broken = accuracy_chart(list(record.dense.values()), record.results, points)
    broken["layer"][0]["mark"] = {"type": "no such mark"}
    with pytest.raises(ValidationError):
        altair.LayerChart.from_dict(broken, validate=True)


def test_the_winner_is_shown_with_the_controls_of_its_own_reset_point(tmp_path):
    run = write_run(tmp_path, "tickets.seeds=[3]", "tickets.controls=[reinit, shuffle, continue]")
    record, points = read_sweep(run), publish.reset_points(run.origin())
    winner = Ticket(1, max(points), seed=3)
    curves = {
        curve.kind if curve.kind != "control" else curve.name: curve
        for curve in training_curves(record, points, winner)
    }
    assert list(curves) == ["dense", "ticket", "control: reinit", "control: shuffle", "control: continue"]
    for curve, ticket in (
        ("ticket", winner),
        ("control: reinit", Ticket(winner.level, 0, "reinit", 3)),
        ("control: shuffle", Ticket(winner.level, winner.step, "shuffle", 3)),
        ("control: continue", Ticket(0, winner.step, "continue", 3)),
    ):
        assert curves[curve].rows == run.metrics(ticket.name)
    publish.publish(run)
    assert "winner, reset to" in page(run)  # its trainings have the seeds of tickets, not 0


def test_what_is_not_finite_is_left_out_of_the_charts(tmp_path):
    """A browser's JSON has no NaN, and would show no chart at all."""
    run = write_run(tmp_path, tickets=2)
    for training in (DENSE, Ticket(0, 0).name):
        first, second, *others = run.metrics(training)
        first["loss"], second["training_loss"] = math.nan, math.inf
        run.write_metrics(training, [first, second, *others])
    rows = run.telemetry(DENSE)
    run.write_telemetry(DENSE, [{**row, "input_wait": math.nan, "gpu_percent": math.inf} for row in rows])
    record = read_sweep(run)
    drawn = figures(record, publish.reset_points(run.origin()), Ticket(0, 0))
    json.dumps([figure.spec for figure in drawn], allow_nan=False)
    specs = {figure.name: figure.spec for figure in drawn}
    assert {"training-accuracy", "training-loss", "training-step-loss", "use"} <= specs.keys()
    counts = {name: len(specs[f"training-{name}"]["layer"][0]["data"]["values"]) for name in ("accuracy", "loss")}
    assert counts["loss"] == counts["accuracy"] - 2
    pictures.draw(specs["training-loss"])


@pytest.mark.parametrize(("dense", "tickets"), [(False, 0), (True, 0), (True, 1), (True, 7)])
def test_a_sweep_that_is_not_finished_has_a_report_too(tmp_path, dense, tickets, capsys):
    run = write_run(tmp_path, dense=dense, tickets=tickets)
    publish.publish(run)
    text = " ".join(Parsed(page(run)).text.split())
    assert f"Not finished: {dense + tickets} of 25 trainings have ended." in text
    assert ("The dense run has not ended" in text) == (not dense)
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path}/report/index.html"
    assert Path(run.uri, "results.parquet").exists() == dense


def test_a_run_directory_of_an_earlier_version_has_a_report(tmp_path):
    run = write_run(tmp_path, tickets=5)
    Path(run.uri, "submission.json").unlink()
    for file in Path(run.uri, "telemetry").iterdir():
        file.unlink()
    publish.publish(run)
    text = " ".join(Parsed(page(run)).text.split())
    assert "Not recorded by the version that started this sweep" in text
    assert "none was kept" in text


def test_a_large_sweep_stays_below_five_megabytes(tmp_path):
    densities = ", ".join(f"{0.9 * 0.8**level:.6f}" for level in range(20))
    run = write_run(
        tmp_path,
        "seeds=[0, 1, 2, 3, 4]",
        f"masks.densities=[{densities}]",
        "trellis=[0ep, 1ep, 2ep, 3ep, 4ep]",
        "training.evaluate_every=0.05ep",
    )
    publish.publish(run)
    assert len(page(run).encode()) < 5_000_000


def test_what_was_lost_to_faults_is_told_and_marked(tmp_path):
    run = write_run(tmp_path, tickets=7)
    run.history.add("stage failed", stage="tickets", message=f"executor lost {HOSTILE}")
    run.history.add("process died", task=1, message="killed by SIGKILL", lost_seconds=12.0)
    publish.publish(run)
    parsed = Parsed(page(run))
    assert len(parsed.scripts) == 3
    assert "tickets stage: executor lost </script>" in parsed.text
    assert "process of task 1: killed by SIGKILL; 12 s of work are done again" in parsed.text
    timeline = json.loads(parsed.scripts[0])["charts"]["timeline"]
    (rules,) = [layer for layer in timeline["layer"] if layer["mark"]["type"] == "rule"]
    assert [row["reason"][:5] for row in rules["data"]["values"]] == ["lost:", "lost:"]
