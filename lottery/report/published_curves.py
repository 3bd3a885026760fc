"""Published accuracies, conf/published/*.yaml, to draw behind a user's own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, inspect
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lottery.experiment.config import Experiment
from lottery.experiment.errors import all_finite, first_problem
from lottery.experiment.sections import Density, Positive, Section
from lottery.report.charts.accuracy import Line
from lottery.run.results import DenseResult
from preprocessing.common.errors import InputError

logger = logging.getLogger(__name__)

Percent = Annotated[float, Meta(ge=0, le=100)]
Words = Annotated[str, Meta(min_length=1)]

# In a checkout, and in the archive of `make dist`, whose root is the environment.
_FOLDERS = (Path(__file__).parents[2] / "conf" / "published", Path(sys.prefix) / "conf" / "published")
_HELD_OUT = 0.1  # the largest share of the training images that may have been split off, as by --holdout


class Images(Section, frozen=True):
    """Numbers of images, which tell the dataset."""

    train: Positive
    evaluation: Positive


class PublishedDense(Section, frozen=True):
    """The dense network: top-1 accuracy and its deviation over trainings, in percent."""

    top1: Percent
    deviation: Percent


class Curve(Section, frozen=True):
    """One line: (density, top-1 in percent) points, from the highest density down."""

    label: Words
    pruning: Literal["one_shot", "iterative"]
    points: Annotated[tuple[tuple[Density, Percent], ...], Meta(min_length=1)]


class Published(Section, frozen=True):
    """One network of one paper."""

    source: Words
    short: Words  # the source, in a legend
    dataset: Words
    model: Words  # as in `model.name`
    parameters: Positive  # trainable ones; they tell the model's options and the number of classes
    images: Images
    dense: PublishedDense
    curves: Annotated[tuple[Curve, ...], Meta(min_length=1)]
    note: str = ""


def parse(text: str, origin: str) -> Published:
    """The published curves in a YAML text. Raises InputError, one line that names `origin`, the key and the value."""
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"published curves {origin}: not valid YAML: {problem}; correct it") from None
    try:
        published = msgspec.convert(tree, Published)
    except msgspec.ValidationError as error:
        problem = first_problem(tree, inspect.type_info(Published)) or str(error)
        raise InputError(f"published curves {origin}: {problem}") from None
    if not all_finite(tree):
        raise InputError(f"published curves {origin}: a number is not finite; correct it")
    for place, curve in enumerate(published.curves):
        densities = [density for density, _ in curve.points]
        if densities != sorted(set(densities), reverse=True):
            raise InputError(
                f"published curves {origin}: curves[{place}].points: densities {densities} do not fall; "
                "list each once, the highest first"
            )
    return published


def load(path: str) -> Published:
    """The published curves in the YAML at `path`. Raises InputError if it cannot be read or is not valid."""
    try:
        return parse(Path(path).read_text(encoding="utf-8"), path)
    except UnicodeDecodeError:
        raise InputError(
            f"published curves {path}: is not UTF-8 text; give a YAML such as those below conf/published"
        ) from None
    except OSError as error:
        raise InputError(
            f"published curves {path}: {error.strerror}; give a YAML such as those below conf/published"
        ) from None


def shipped() -> list[Published]:
    """What conf/published holds, by file name; a file that cannot be used is left out, with a warning."""
    folder = next(filter(Path.is_dir, _FOLDERS), None)
    found = []
    for path in sorted(folder.glob("*.yaml")) if folder else ():
        try:
            found.append(load(str(path)))
        except InputError as error:
            logger.warning("%s", error)
    return found


def fits(published: Published, experiment: Experiment, dense: DenseResult, train_images: int) -> bool:
    """Whether they are of the same network on the same dataset, as far as a run directory tells.

    A run directory has no dataset's name. So the model's name, its number of parameters (and with it its options and
    the number of classes) and the number of evaluation images have to be the same; and that of training images, of
    which up to a tenth may be held out.
    """
    least = (1 - _HELD_OUT) * published.images.train
    return (
        published.model == experiment.model.name
        and published.parameters == dense.parameters
        and published.images.evaluation == dense.evaluated
        and least <= train_images <= published.images.train
    )


def choose(named: str | None, experiment: Experiment, dense: DenseResult, train_images: int) -> list[Published]:
    """What to draw behind a run's picture: the file that is named, nothing for `none`, else the shipped that fit.

    Raises InputError if the named file cannot be read or is not valid.
    """
    if named == "none":
        return []
    if named is not None:
        return [load(named)]
    return [each for each in shipped() if fits(each, experiment, dense, train_images)]


def lines(every: Sequence[Published], iterative: bool) -> list[Line]:
    """What is pruned in the same way, and the dense networks, as lines to draw in grey.

    Args:
        iterative: whether the user's own tickets are pruned iteratively.
    """
    found = []
    for published in every:
        title = f"{published.short}, {published.dataset}"
        found.append(Line(f"{title}: dense", (), published.dense.top1 / 100))
        for curve in published.curves:
            if (curve.pruning == "iterative") == iterative:
                points = tuple((density, top1 / 100) for density, top1 in curve.points)
                found.append(Line(f"{title}: {curve.label}", points))
    return found
