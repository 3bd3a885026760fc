"""Published accuracies: what the shipped files say, how a wrong one is refused, and where they are drawn."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lottery.experiment import config
from lottery.report import publish, published_curves
from lottery.run.run_directory import DenseResult, RunDirectory
from preprocessing.common.errors import InputError
from preprocessing.common.storage import open_store
from tests.lottery.paths import CONF

RESNET20, RESNET50 = published_curves.shipped()
TEXT = (CONF / "published" / "renda-2020-resnet20-cifar10.yaml").read_text()


def test_the_shipped_numbers_are_those_of_the_paper() -> None:
    assert {curve.label: [top1 for _, top1 in curve.points] for curve in RESNET50.curves} == {
        "reset to epoch 0": [75.92, 74.31, 72.57, 70.04],
        "reset to epoch 9": [76.39, 76.20, 75.55, 74.07],
        "reset to epoch 18": [76.16, 76.09, 75.53, 74.01],
        "reset to epoch 45": [76.21, 76.11, 75.48, 73.69],
        "reinit": [75.80, 74.55, 72.53, 69.99],
    }
    assert {density for curve in RESNET50.curves for density, _ in curve.points} == {0.80, 0.41, 0.21, 0.107}
    assert (RESNET50.dense.top1, RESNET50.dense.deviation) == (76.17, 0.14)
    assert [(curve.label, curve.pruning, curve.points) for curve in RESNET20.curves] == [
        ("reset to epoch 0", "one_shot", ((0.21, 89.18),)),
        ("reset to epoch 12", "one_shot", ((0.21, 91.21),)),
        ("reinit", "one_shot", ((0.21, 88.49),)),
        ("reset to epoch 12", "iterative", ((0.21, 91.67), (0.168, 91.31), (0.107, 91.00))),
    ]
    assert (RESNET20.dense.top1, RESNET20.dense.deviation) == (91.71, 0.23)


def dense(published: published_curves.Published) -> DenseResult:
    size, images = published.parameters, published.images.evaluation
    return DenseResult("done", "", 0.9, 1.0, 0.1, images, 440, 1.0, size, size)


@pytest.mark.parametrize(
    ("file", "published"),
    [
        ("imagenet-resnet50.yaml", RESNET50),
        ("cifar10-resnet20.yaml", RESNET20),
        ("cifar10-resnet20-iterative.yaml", RESNET20),
    ],
)
def test_they_fit_the_shipped_experiments_that_repeat_the_paper(file: str, published) -> None:
    experiment, train = config.load(str(CONF / file)), published.images.train
    assert published_curves.fits(published, experiment, dense(published), train)
    assert published_curves.fits(published, experiment, dense(published), train - train // 25)  # some are held out


@pytest.mark.parametrize("file", ["imagenet-mobilenet_v2.yaml", "fashion-resnet20.yaml", "digits.yaml"])
def test_they_fit_no_other_model(file: str) -> None:
    for published in (RESNET20, RESNET50):
        other = replace(dense(published), parameters=published.parameters + 1)  # fashion-resnet20 is narrower
        assert not published_curves.fits(published, config.load(str(CONF / file)), other, published.images.train)


@pytest.mark.parametrize(
    ("changes", "train"),
    [
        ({"parameters": 272_474 + 90 * 64}, 50_000),  # CIFAR-100
        ({"evaluated": 2_560}, 50_000),  # evaluated on a part
        ({}, 60_000),  # MNIST
        ({}, 40_000),
    ],
)
def test_they_fit_no_other_dataset(changes: dict[str, int], train: int) -> None:
    experiment = config.load(str(CONF / "cifar10-resnet20.yaml"))
    assert not published_curves.fits(RESNET20, experiment, replace(dense(RESNET20), **changes), train)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "top1: 91.71",
            "top1: 917.1",
            "published curves x.yaml: dense.top1: give a number >= 0.0 and <= 100.0, not 917.1",
        ),
        (
            "top1: 91.71",
            "top1: .nan",
            "published curves x.yaml: dense.top1: give a number >= 0.0 and <= 100.0, not .nan: ",
        ),
        (
            "[.21, 89.18]",
            "[21, 89.18]",
            "published curves x.yaml: curves[0].points[0][0]: give a number > 0.0 and <= 1.0",
        ),
        ("[.21, 89.18]", "[.21]", "published curves x.yaml: curves[0].points[0]: give a list of 2"),
        ("[.168, 91.31], [.107, 91.00]", "[.107, 91.00], [.168, 91.31]", "densities [0.21, 0.107, 0.168] do not fall"),
        ("one_shot", "oneshot", "curves[0].pruning: give iterative or one_shot"),
        ("model: resnet20", "models: resnet20", "unknown key models; did you mean model?"),
        ("curves:", "curves: [", "published curves x.yaml: not valid YAML"),
        (TEXT, "text", "published curves x.yaml: top level: give the keys curves, dataset"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError) as error:
        published_curves.parse(TEXT.replace(old, new, 1), "x.yaml")
    assert type(error.value) is InputError
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(
        InputError, match=f"published curves {tmp_path}/no.yaml: No such file or directory; give a YAML"
    ):
        published_curves.load(str(tmp_path / "no.yaml"))
    (tmp_path / "png.yaml").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        published_curves.load(str(tmp_path / "png.yaml"))


def test_a_shipped_file_that_is_damaged_costs_a_warning_and_not_the_report(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "a.yaml").write_text("text")
    (tmp_path / "b.yaml").write_text(TEXT)
    monkeypatch.setattr(published_curves, "_FOLDERS", (tmp_path / "gone", tmp_path))
    assert published_curves.shipped() == [RESNET20]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(("iterative", "densities"), [(False, [[0.21]] * 3), (True, [[0.21, 0.168, 0.107]])])
def test_what_is_pruned_alike_becomes_a_line(iterative: bool, densities: list[list[float]]) -> None:
    level, *curves = published_curves.lines([RESNET20], iterative)
    assert level.level == pytest.approx(0.9171)
    assert [[density for density, _ in curve.points] for curve in curves] == densities
    assert max(top1 for curve in curves for _, top1 in curve.points) <= 0.9171
    assert curves[0].name.startswith("Renda et al., 2020, CIFAR-10: reset to epoch ")


def test_a_user_can_name_one_or_none() -> None:
    experiment = config.load(str(CONF / "cifar10-resnet20.yaml"))
    facts = (experiment, dense(RESNET20), 50_000)
    assert published_curves.choose(None, *facts) == [RESNET20]
    assert published_curves.choose("none", *facts) == []
    assert published_curves.choose(str(CONF / "published" / "renda-2020-resnet50-imagenet.yaml"), *facts) == [RESNET50]
    with pytest.raises(InputError, match="No such file"):
        published_curves.choose("gone.yaml", *facts)


def test_the_report_of_a_run_that_fits_has_them_and_another_has_not(tmp_path, monkeypatch) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        publish, "write_page", lambda *_, published, **__: drawn.append([line.name for line in published])
    )
    for images in (50_000, 60_000):
        run = RunDirectory(open_store(str(tmp_path / str(images))))
        experiment = config.load(str(CONF / "cifar10-resnet20-iterative.yaml"), ["seeds=[0]"])
        run.bind_experiment(experiment, "0" * 64, images)
        run.write_dense_result(dense(RESNET20))
        publish.publish(run)
        publish.publish(run, str(CONF / "published" / "renda-2020-resnet50-imagenet.yaml"))
    fitting, named, other, named_again = drawn
    assert all("CIFAR-10" in name for name in fitting)
    assert len(fitting) == 2  # the dense network, and what is pruned iteratively
    assert named == named_again
    assert all("ImageNet" in name for name in named)
    assert other == []
