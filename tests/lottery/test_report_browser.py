"""The report in a browser, opened from disk. Skipped without Chromium: `apt-get install chromium`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.report import publish
from tests.lottery.chromium import PROGRAM, chromium
from tests.lottery.report_runs import write_run

pytestmark = [
    pytest.mark.cluster,  # it starts several processes
    pytest.mark.skipif(PROGRAM is None, reason="no chromium on the PATH: apt-get install chromium"),
]
PHONE, DESKTOP = 390, 1280
COLUMN = "[...document.querySelectorAll('#table tbody tr:not([hidden])')].map(row => row.cells[{}].textContent)"

FILL = """window.fill = (name, value) => {
  const field = document.querySelector(`.filters [name=${name}]`);
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}; 0"""


@pytest.fixture
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def report(folder: Path, **options) -> Path:
    run = write_run(folder, **options)
    publish.publish(run)
    return Path(run.uri, "report", "index.html")


def column(page, name: str) -> list[str]:
    """What the rows that are shown have in a column."""
    heads = page.evaluate("[...document.querySelectorAll('#table thead th')].map(head => head.textContent)")
    return page.evaluate(COLUMN.format(heads.index(name)))


def press(page, name: str) -> str:
    """Presses a column's button by the keyboard; returns by what the column is sorted then."""
    find = f"[...document.querySelectorAll('#table thead button')].find(each => each.textContent === '{name}')"
    page.evaluate(f"{find}.focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13)
    page.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", windowsVirtualKeyCode=13)
    return page.evaluate(f"{find}.closest('th').getAttribute('aria-sort')")


@pytest.mark.parametrize(
    "options", [{}, {"tickets": 7}, {"dense": False, "tickets": 0}], ids=["whole", "half", "begun"]
)
def test_it_opens_without_complaint_or_request(tmp_path, browser, options):
    file = report(tmp_path, **options)
    browser.show(DESKTOP)
    browser.open(file)
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {file.as_uri()}
    assert browser.evaluate("document.querySelectorAll('.chart svg.marks').length") == browser.evaluate(
        "document.querySelectorAll('.chart').length"
    )


def test_complaints_and_requests_are_seen(tmp_path, browser):
    file = tmp_path / "index.html"
    file.write_text(
        "<script>console.error('no'); fetch('http://127.0.0.1:9/x').catch(() => 0); undefined_name</script>"
    )
    browser.open(file)
    browser.wait("true")
    assert any("no" in complaint for complaint in browser.complaints)
    assert any("undefined_name" in complaint for complaint in browser.complaints)
    assert "http://127.0.0.1:9/x" in browser.requests


def test_the_table_sorts_by_the_keyboard(tmp_path, browser):
    browser.open(report(tmp_path, status="failed", notes="out of memory"))
    assert press(browser, "top-1 %") == "ascending"
    *rising, last = column(browser, "top-1 %")
    assert last == ""  # the one that failed
    assert [float(cell) for cell in rising] == sorted(float(cell) for cell in rising)
    assert press(browser, "top-1 %") == "descending"
    *falling, last = column(browser, "top-1 %")
    assert last == ""
    assert falling == sorted(falling, key=float, reverse=True)
    assert press(browser, "weights") == "ascending"
    weights = [int(cell.replace(",", "")) for cell in column(browser, "weights")]
    assert weights == sorted(weights)
    assert browser.complaints == []


def test_the_table_filters(tmp_path, browser):
    browser.open(report(tmp_path))
    browser.evaluate(FILL)
    everything = len(column(browser, "kind"))
    browser.evaluate("fill('kind', 'reinit')")
    assert set(column(browser, "kind")) == {"reinit"}
    assert browser.evaluate("document.querySelector('.filters output').textContent") == f"3 of {everything} shown"
    browser.evaluate("fill('level', '1')")
    assert column(browser, "kind") == ["reinit"]
    browser.evaluate("fill('text', 'no such text')")
    assert column(browser, "kind") == []
    browser.evaluate("['kind', 'level', 'text'].forEach(name => fill(name, ''))")
    assert len(column(browser, "kind")) == everything


def test_a_row_shows_its_layers(tmp_path, browser):
    browser.open(report(tmp_path))
    button = "document.querySelector('#table button.layers')"
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate("document.querySelector('tr.detail').textContent").startswith(
        "conv/kernel: 50.0% (108 of 216)"
    )
    assert browser.evaluate(f"{button}.getAttribute('aria-expanded')") == "true"
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate("document.querySelector('tr.detail')") is None


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_nothing_is_wider_than_the_window(tmp_path, browser, width):
    browser.show(width)
    browser.open(report(tmp_path))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_dark_where_the_machine_is(tmp_path, browser):
    file = report(tmp_path)
    colours = []
    for scheme in ("light", "dark"):
        browser.show(DESKTOP, scheme=scheme)
        browser.open(file)
        colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        ink = browser.evaluate("getComputedStyle(document.querySelector('.chart svg .role-axis-label text')).fill")
        assert ink == browser.evaluate("getComputedStyle(document.body).color")
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]
