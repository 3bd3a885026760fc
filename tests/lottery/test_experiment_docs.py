"""docs/experiments.md has every key of an experiment, with its default and whether it is in the identity."""

import re
from pathlib import Path

import msgspec

from lottery.experiment.config import Experiment, identity, parse
from lottery.experiment.sections import Data

DOCS = Path(__file__).parents[2] / "docs" / "experiments.md"
ROW = re.compile(r"^\| `([a-z_.0-9]+)` \| (?:`([^`]*)`)? ?\| (✗)?", re.MULTILINE)
SMALLEST = """
name: smallest
data: {batch: 2}
model: {name: conv_small}
training: {length: 1ep, optimizer: {name: sgd}, learning_rate: {peak: 0.1}}
trellis: [0]
masks: {densities: [0.5]}
"""


def documented():
    return {key: (default or "", cross == "✗") for key, default, cross in ROW.findall(DOCS.read_text())}


def keys(kind, prefix=""):
    """Every key below a section with its default, as JSON, or "" where it has none or null."""
    found = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name
        kinds = [field.type, *getattr(field.type, "__args__", ())]
        sections = [one for one in kinds if isinstance(one, type) and issubclass(one, msgspec.Struct)]
        for section in sections:
            found |= keys(section, name + ".")
            if section.__struct_config__.tag_field:
                found[f"{name}.{section.__struct_config__.tag_field}"] = ""
        if not sections:
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            none = default is msgspec.NODEFAULT or default is None
            found[name] = "" if none else msgspec.json.encode(default).decode().strip('"').replace(",", ", ")
    return found


def test_every_key_is_documented_with_its_default():
    assert {key: default for key, (default, _) in documented().items()} == keys(Experiment)


def test_what_is_said_to_be_outside_of_the_identity_is():
    experiment = parse(SMALLEST, "test")
    values = {"input.cache_dir": "/cache", "input.shuffle_window": 3, "gang.check_gpus": False}
    for key, (_, outside) in documented().items():
        section, _, name = key.partition(".")
        if key == "search":
            changed = msgspec.structs.replace(experiment, search="frontier")
        elif section in ("input", "gang", "verdict"):
            settings = msgspec.structs.replace(getattr(experiment, section), **{name: values.get(key, 7)})
            changed = msgspec.structs.replace(experiment, **{section: settings})
        else:
            assert not outside
            continue
        assert (identity(changed, "") == identity(experiment, "")) is outside, key


def test_the_smallest_experiment_needs_no_key_with_a_default():
    assert parse(SMALLEST, "test").data == Data(batch=2)
