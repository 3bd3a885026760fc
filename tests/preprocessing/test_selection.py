"""Seeded choices: the same everywhere and for ever, fair to every class, and no image in two splits."""

from __future__ import annotations

import numpy as np
import pytest

import preprocessing.job.selection as selection
from preprocessing.common.errors import InputError
from preprocessing.job.selection import choose_classes, hold_out, name_keys, select
from preprocessing.job.settings import Settings
from preprocessing.job.shards import MAX_ROWS, default_rows, plan_shards
from preprocessing.sources.base import Catalogue, make_table

CLASSES = [f"n{number:03}" for number in range(20)]


def catalogue(train: int = 50, val: int = 10) -> Catalogue:
    def table(count: int, stem: str):
        rows = [
            (f"{name}/{stem}{n}.JPEG", name, "x", 0, 1) for name in CLASSES for n in range(count + CLASSES.index(name))
        ]
        return make_table(rows)

    return Catalogue({"train": table(train, "t"), "val": table(val, "v")})


def test_pinned_keys() -> None:
    """Another key would be another order of every dataset that was ever made."""
    assert name_keys("order of train", 0, ["n01440764/n01440764_10026.JPEG"]).tolist() == [PINNED]


PINNED = 543113591051361248


def test_every_image_is_in_exactly_one_place() -> None:
    source = catalogue()
    chosen = select(source, CLASSES, Settings(holdout=0.1))
    train, minival = (set(chosen[name]["id"].to_pylist()) for name in ("train", "minival"))
    assert not train & minival
    assert train | minival == set(source.splits["train"]["id"].to_pylist())
    assert sorted(chosen["val"]["id"].to_pylist()) == source.splits["val"]["id"].to_pylist()
    assert len(minival) == round(0.1 * len(source.splits["train"]))


def test_labels_are_places_in_the_sorted_classes() -> None:
    chosen = select(catalogue(), CLASSES, Settings())["train"]
    for name, label in zip(chosen["id"].to_pylist(), chosen["label"].to_pylist(), strict=True):
        assert CLASSES[label] == name.split("/")[0]


def test_many_names_are_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rows = catalogue().splits["train"], np.arange(0, 100, 3)
    whole = name_keys("p", 1, table["id"].to_pylist())
    chosen = select(catalogue(), CLASSES, Settings(holdout=0.1, images_per_class=9))
    monkeypatch.setattr(selection, "_BLOCK", 7)
    for names in (table["id"], table["id"].to_pylist()):
        assert name_keys("p", 1, names).tolist() == whole.tolist()
    assert name_keys("p", 1, table["id"], rows).tolist() == whole[rows].tolist()
    assert select(catalogue(), CLASSES, Settings(holdout=0.1, images_per_class=9)) == chosen


def test_the_order_is_a_shuffle_by_seed() -> None:
    first, same, other = (select(catalogue(), CLASSES, Settings(seed=seed))["train"] for seed in (1, 1, 2))
    assert first["id"].to_pylist() == same["id"].to_pylist()
    assert first["id"].to_pylist() != other["id"].to_pylist()
    labels = first["label"].to_numpy()
    runs = [len(np.unique(labels[start : start + 20])) for start in range(0, len(labels) - 20, 20)]
    assert min(runs) >= 8  # any run of rows is a fair sample of the classes


def test_the_order_does_not_depend_on_that_of_the_listing() -> None:
    source = catalogue()
    backwards = Catalogue({name: table.take(list(range(len(table)))[::-1]) for name, table in source.splits.items()})
    assert select(source, CLASSES, Settings())["train"].equals(select(backwards, CLASSES, Settings())["train"])


@pytest.mark.parametrize("holdout", [0.05, 0.5, 20, 100])
def test_the_holdout_is_fair_to_every_class(holdout: float) -> None:
    table = catalogue().splits["train"]
    labels = np.array([CLASSES.index(name) for name in table["class"].to_pylist()], np.int32)
    held = hold_out(name_keys("holdout", 0, table["id"].to_pylist()), labels, holdout)
    wanted = holdout * len(table) if holdout < 1 else holdout
    assert held.sum() == round(wanted)
    share = np.bincount(labels) * wanted / len(table)
    assert np.abs(np.bincount(labels[held], minlength=20) - share).max() <= 1


def test_subsets_of_classes_are_seeded_nested_and_sorted() -> None:
    few, more, other = choose_classes(CLASSES, 5, 0), choose_classes(CLASSES, 12, 0), choose_classes(CLASSES, 5, 1)
    assert few == sorted(few)
    assert len(set(few)) == 5
    assert set(few) < set(more)
    assert few != other
    assert choose_classes(CLASSES, ("n003", "n001"), 0) == ["n001", "n003"]


def test_images_per_class_hold_for_every_split() -> None:
    chosen = select(catalogue(), CLASSES, Settings(images_per_class=12))
    assert np.bincount(chosen["train"]["label"].to_numpy()).tolist() == [12] * 20
    assert np.bincount(chosen["val"]["label"].to_numpy()).tolist() == [10, 11] + [12] * 18
    fewer = select(catalogue(), CLASSES, Settings(images_per_class=3))
    assert set(fewer["train"]["id"].to_pylist()) < set(chosen["train"]["id"].to_pylist())


def test_no_image_of_the_classes() -> None:
    with pytest.raises(InputError, match="no image of train is in the chosen classes"):
        select(catalogue(), ["other"], Settings())


def test_shards_hold_every_row_in_order() -> None:
    chosen = select(catalogue(), CLASSES, Settings())
    shards = plan_shards(chosen, Settings(rows_per_shard=300))
    for name in ("train", "val"):
        mine = [shard for shard in shards if shard.split == name]
        assert [shard.index for shard in mine] == list(range(len(mine)))
        ids = [image for shard in mine for image in shard.table()["id"].to_pylist()]
        assert ids == chosen[name]["id"].to_pylist()
        assert all(shard.images == len(shard.table()) <= 300 for shard in mine)


def test_default_rows_are_whole_row_groups() -> None:
    images = (1, 64, 1438, 4000, 50_000, 1_281_167)
    assert [default_rows(count, 64) for count in images] == [64, 64, 64, 192, MAX_ROWS, MAX_ROWS]
    assert default_rows(10**6, 3000) == 3000


def test_a_class_is_named_by_its_parts() -> None:
    classes = ["abaya", "crane", "crane, machine", "tench, Tinca tinca"]
    assert choose_classes(classes, ("Tinca tinca", "tench"), 0) == ["tench, Tinca tinca"]
    assert choose_classes(classes, ("crane", "machine"), 0) == ["crane", "crane, machine"]
    with pytest.raises(InputError, match="the source has no class 'Tinca'"):
        choose_classes(classes, ("Tinca",), 0)
