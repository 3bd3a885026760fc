"""The house: which package may import which, and that the picture in docs/design.md shows every file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top down: a file imports from its own floor and from those below it.
FLOORS = {
    "lottery": (
        *("__main__", "commands", "driver", "export", "report", "analysis", "status"),
        *("executor", "worker", "training", "models", "architectures"),
        *("protocol", "run", "tickets", "statistics", "input", "experiment", "seeds", "gpus"),
    ),
    "preprocessing": ("job", "images", "sources", "dataset", "common"),
}
SHARED = ("common", "dataset")  # of preprocessing, with lottery


def modules(top: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / top).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names of our own that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in FLOORS and "." in name)


def climbs(importer: str, name: str) -> bool:
    """Whether an import goes up, or from one of the two packages into a part of the other that is not shared.

    Both are dotted names below `lottery` or `preprocessing`.
    """
    (top, floor), (other, below) = (dotted.split(".")[:2] for dotted in (importer, name))
    if top == other:
        return FLOORS[top].index(below) < FLOORS[top].index(floor)
    return top == "preprocessing" or below not in SHARED


def drawn(house: str) -> set[str]:
    """The files that the picture names. A line is a folder, or file names without `.py`, and then words.

    >>> sorted(drawn("lottery/    what\\n  run/\\n    claim blobs    more words\\n  seeds\\n"))
    ['lottery/run/blobs.py', 'lottery/run/claim.py', 'lottery/seeds.py']
    """
    folders: list[str] = []
    files = set()
    for line in house.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if names[0].endswith("/"):
            folders[depth:] = [names[0]]
        else:
            files |= {f"{''.join(folders[:depth])}{name}.py" for name in names}
    return files


@pytest.mark.parametrize("path", [path for top in FLOORS for path in modules(top)], ids=str)
def test_imports_go_down(path: Path) -> None:
    if path.name != "__init__.py":
        dotted = ".".join(path.with_suffix("").parts)
        assert [name for name in imported(path) if climbs(dotted, name)] == []


def test_the_rule_can_fail() -> None:
    assert climbs("lottery.run.results", "lottery.driver.sweep")
    assert climbs("preprocessing.job.run", "lottery.run.results")
    assert climbs("lottery.driver.sweep", "preprocessing.job.run")
    assert not climbs("lottery.driver.sweep", "preprocessing.common.errors")


@pytest.mark.parametrize("top", FLOORS)
def test_packages_load_nothing_by_themselves(top: str) -> None:
    """The driver imports from lottery.models and lottery.input, and may not load TensorFlow by that."""
    for path in modules(top):
        if path.name == "__init__.py" and path.parent.name != "preprocessing":
            assert len(ast.parse((ROOT / path).read_text()).body) <= 1, path


@pytest.mark.parametrize("top", [*FLOORS, "jobs"])
def test_the_picture_of_the_house_shows_every_file(top: str) -> None:
    house = re.search(r"## The house\n.*?```\n(.*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL)
    assert house
    files = {str(path) for path in modules(top) if path.name != "__init__.py"}
    assert {name for name in drawn(house[1]) if name.startswith(f"{top}/")} == files
